"""Help, completion and usage errors as a person and a script meet them; all without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HERE, Cli, Golden, document, spawn

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


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train v3 --model v4", "MODEL is 'v3', and --model is 'v4'"),
        ("train baseline/v3", "--recipe baseline/v3"),
        ("train v3 --target 0.994", "--target 99.4?"),
        ("evaluate v3 --target 1.0", "means 1.0 %"),
        ("train v3 --set seed=5 --seeds 0-2", "--set seed=…"),
        ("train v3 --seed 5 --seeds 0-2", "exclude each other"),
        ("train v3 --seeds 0-" + "9" * 5000, "can't read seeds"),
        ("train v3 --seeds ٣", "can't read seeds"),
        ("train v3 --teacher v4 --set distillation.teacher=v6", "by its own option"),
        ("train v3 --no-teacher --set distillation.weight=1", "by its own option"),
        ("train v3 --resume=~/none", str(Path.home() / "none")),
        ("summary v6 --set epochs=3", "model_args.KEY=VALUE"),
        ("summary v6 --set model_args.stagse=8", "stages"),
        ("train v3 --recipe zzz", "baseline/v3 and"),
    ],
)
def test_what_people_type_is_understood_or_explained(line: str, expected: str, cli: Cli) -> None:
    done = cli(*line.split(" "))
    assert done.returncode in (2, 4)
    assert expected in done.stderr
    assert len(done.stderr) < 6_000


def test_a_network_is_named_by_its_place_or_by_its_option(cli: Cli) -> None:
    documents = [
        document(cli("train", *words.split(), "--print-recipe", "--json").stdout)
        for words in ("v6", "--model v6", "v6 --model v6", "--recipe v3 --set model=v6")
    ]
    assert documents[0] == documents[1] == documents[2]
    assert documents[3]["recipe"]["model_args"] == documents[0]["recipe"]["model_args"]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("v3 --set optim.lr=abc", "--set optim.lr=abc"),
        ("v3 --set optim.lr=abc --set epochs=x", "--set"),
        ("v3 --lr -1", "the options"),
    ],
)
def test_a_mistake_is_where_it_was_typed(line: str, where: str, cli: Cli) -> None:
    done = cli("train", *line.split(), "--json")
    assert document(done.stdout)["error"]["where"] == where


def test_a_mistake_of_the_file_is_there(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(cli("train", "v3", "--print-recipe").stdout.replace("lr: 0.2", "lr: -1"))
    done = cli("train", "--recipe", str(file), "--set", "optim.momentum=2", "--json")
    error = document(done.stdout)["error"]
    assert error["where"] == str(file)
    assert "lr" in error["what"]
    assert "momentum" in error["what"]


def test_summary_takes_the_networks_arguments(cli: Cli) -> None:
    line = ["summary", "v6", "--set", "model_args.stages=8-8 8-8 8", "--json"]
    assert document(cli(*line).stdout)["models"][0]["parameters"] == 2954


def test_a_path_behind_an_equals_sign_goes_home(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    done = cli("train", "v3", "--data-dir=~/pictures", "--dry-run", "--json")
    assert document(done.stdout)["error"]["where"].startswith("/nowhere/pictures")
    assert "'/nowhere/r.yaml'" in cli("train", "--recipe=~/r.yaml").stderr


@pytest.mark.parametrize(
    "line",
    [
        "evaluate v1 --data-dir={} --out=~/x/y --predictions=~/x/y",
        "compare v1 --plot=~/x/y",
        "compare --baseline=~/x/y",
        "compare ~/x/*",
        "report v1 --out=~/x/y",
        "report --update=~/x/y",
        "report v1 --svg=~/x/y",
        "bench --recipe=~/x/y",
        "predict ~/x/y a.png",
        "predict v1 ~/x/y",
        "summary ~/x/y.py:f",
        "bench ~/x/y.py:f",
    ],
)
@pytest.mark.slow
def test_every_path_goes_home(
    line: str, cli: Cli, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    done = cli(*line.format(tiny_data).split())
    assert done.returncode != 0
    assert "/nowhere/x" in done.stderr or "--svg draws one run" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_shared_options(command: str, cli: Cli) -> None:
    text = cli(command, "--help").stdout
    assert all(name in text for name in ("--json", "--quiet", "--progress", "--traceback"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trian", "train"),
        ("sumary v3", "summary"),
        ("train --modle v3", "--model"),
        ("compare --formt csv", "--format"),
        ("train --model v33", "v3"),
        ("evaluate v33", "v3"),
        ("bench v33", "v3"),
        ("compare v33", "v3"),
        ("report v33", "v3"),
        ("train --model v3 --recipe basline/v3", "baseline/v3"),
        ("train --model v3 --set optim.momentun=0.5", "momentum"),
        ("evaluate v3 --require accurcy", "accuracy"),
        ("doctor --require compler", "compiler"),
        ("compare --format tabel", "table"),
        ("train --model v3 --compile onn", "on"),
        ("summary net.py", "net.py:FACTORY"),
    ],
)
def test_a_wrong_word_names_the_nearest(line: str, expected: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert done.returncode in (2, 4)
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert re.search(rf"(?<![\w/-]){re.escape(expected)}(?!\w)", f"{error} {hint}")


@pytest.mark.parametrize(
    "line", ["--json trian", "trian --json", "--json summary v0", "summary --json v0", "--json"]
)
def test_json_anywhere_on_the_line_is_one_document(line: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert (done.returncode, document(done.stdout)["error"]["exit_code"]) == (2, 2)


def test_json_before_the_command_is_json(cli: Cli) -> None:
    assert document(cli("--json", "summary", "v3").stdout)["command"] == "summary"
    assert "mnistcli" in document(cli("--version", "--json").stdout)["text"]


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
