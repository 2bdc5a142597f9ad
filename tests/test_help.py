"""Help, completion and usage errors as a person and a script meet them; all without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HERE, Cli, Golden, spawn

from mnistcli.cli.app import app
from mnistcli.models.registry import MODELS

COMMANDS = [str(info.name) for info in app.registered_commands]
GOLDEN = HERE / "golden" / "help"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_with_three_whole_examples_the_last_for_a_script(
    command: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, _, text = cli(*command.split(), "--help").stdout.partition(" Examples")
    examples = [line.strip() for line in text.splitlines() if line.strip()]
    assert len(examples) == 3
    assert all(line.startswith(f"mnistcli {command}") for line in examples)  # none is wrapped
    assert any(sign in examples[-1] for sign in (" > ", " | ", " || ", " && "))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_default(command: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = re.split(r"\n│ (?=-)", cli(command, "--help").stdout)[1:]
    takes_a_value = re.compile(r"--[a-z-]+ [A-Z<]")
    valued = [text for text in options if takes_a_value.search(text.split("  ")[0])]
    valued = [text for text in valued if "[required]" not in text]
    assert valued
    assert not [text for text in valued if "default: " not in text]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_kept_fits_80_columns_and_begins_with_a_verb(
    command: str, cli: Cli, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = cli(*command.split(), "--help").stdout
    golden(f"help/{command or 'mnistcli'}.txt", page)
    lines = page.splitlines()
    assert max(map(len, lines)) <= 80
    first = next(line.split() for line in lines if line.strip() and "Usage:" not in line)
    verbs = "Train, Train Count Evaluate Compare Read Write Measure Check Answer"
    assert first[0] in verbs.split()


@pytest.mark.processes
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_row_35_help_is_whole_in_every_encoding(encoding: str) -> None:
    """The words of every page are those of the pages as kept, which are in UTF-8."""
    commands = ["", *COMMANDS]
    program = (
        "from mnistcli import streams; from mnistcli.cli.app import run; streams.open_standard()\n"
        f"for command in {commands!r}: run([*command.split(), '--help']); print('\\f')"
    )
    names = {"PYTHONIOENCODING": encoding, "COLUMNS": "80", "LC_ALL": "C"}
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, env=os.environ | names)
    assert (done.returncode, done.stderr) == (0, b"")
    pages = done.stdout.decode(encoding).split("\f")
    for command, page in zip(commands, pages, strict=False):
        kept = (GOLDEN / f"{command or 'mnistcli'}.txt").read_text(encoding="utf-8")
        assert max(map(len, page.splitlines())) <= 80
        assert "\\u" not in page
        assert words_of(page) == words_of(kept)


def words_of(page: str) -> list[str]:
    return [word for word in page.split() if word.isascii() and word.isalnum()]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_cell_of_help_is_cut(command: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on a page of 80 columns, line by line, is what stands on a wide one."""
    pages = []
    for columns in ("80", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        page = cli(command, "--help").stdout.partition(" Examples")[0]
        pages.append(sorted(re.sub(r"[│─╭╮╰╯]", " ", page).split()))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_shared_options(command: str, cli: Cli) -> None:
    text = cli(command, "--help").stdout
    assert all(name in text for name in ("--json", "--quiet", "--progress", "--traceback"))


@pytest.mark.processes
def test_a_reader_of_help_may_leave(tmp_path: Path) -> None:
    process = spawn("train", "--help")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait()) == ("", 0)


@pytest.mark.processes
def test_help_starts_without_what_only_work_needs() -> None:
    program = (
        "import sys; from mnistcli.cli.app import run; run(['--help']); "
        "print({'torch', 'pydantic', 'rich', 'yaml', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.processes
def test_the_collector_rests_for_help_alone() -> None:
    program = (
        "import atexit, gc, sys; atexit.register(lambda: print(gc.isenabled())); "
        "from mnistcli.__main__ import main; main()"
    )
    for word, expected in (("--help", "False"), ("trian", "True")):
        line = [sys.executable, "-c", program, word]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == expected


OFFERED = {
    "tr": {"train"},
    "train v": {name for name in MODELS if name.startswith("v")},
    "train --model v": {name for name in MODELS if name.startswith("v")},
    "train --model v3 --recipe base": {"baseline/v1", "baseline/v2", "baseline/v3"},
    "train --model v3 --require ep": {"epochs"},
    "evaluate checkpoints/v3/20": {"checkpoints/v3/20261124-101500-s0"},
    "report v3 checkpoints/v3/20": {"checkpoints/v3/20261124-101500-s0"},
    "train --resume a": {"auto"},
    "compare baseline/v3": {"baseline/v3"},
}


@pytest.mark.processes
def test_completion_offers_names_without_torch(tmp_path: Path) -> None:
    """What bash would offer for the last word of each line, all asked of one process."""
    run = tmp_path / "checkpoints" / "v3" / "20261124-101500-s0"
    run.mkdir(parents=True)
    (run / "recipe.yaml").touch()
    program = (
        "import os, sys; from mnistcli.__main__ import main; sys.argv = ['mnistcli']\n"
        f"for words in {[*OFFERED]!r}:\n"
        "    print('>', flush=True); os.environ['COMP_WORDS'] = f'mnistcli {words}'\n"
        "    os.environ['COMP_CWORD'] = str(len(f'{words}.'.split()))\n"
        "    try: main()\n"
        "    except SystemExit: print('torch' in sys.modules)\n"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"_MNISTCLI_COMPLETE": "complete_bash"},
    )  # fmt: skip
    found = [answer.split() for answer in done.stdout.split(">\n")[1:]]
    assert [{*words} for *words, _ in found] == [*OFFERED.values()], done.stderr
    assert {torch_came for *_, torch_came in found} == {"False"}
