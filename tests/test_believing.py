"""Rows 25 to 28 of the fault matrix: what a stranger can write into the files of a run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, document
from forkserver import Server

from mnistcli.errors import ArtifactError
from mnistcli.results import runlog, sessions, setlog, stored
from mnistcli.view import text

Document = dict[str, Any]


@pytest.fixture(scope="module")
def trained(forked: Server, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of one epoch in a set's folder."""
    folder = tmp_path_factory.mktemp("trained") / "set"
    line = ["train", "--model", "v1", "--recipe", "plain/v1", "--epochs", "1", "--seeds", "0-1"]
    line += ["--batch-size", "32", "--threads", "1", "--no-plots", "--data-dir", str(tiny_data)]
    child = forked.start(*line, "--out", folder)
    assert child.wait() == 0, child.err
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "set")
    return tmp_path / "set"


def edit(file: Path, **changes: Any) -> None:
    """Change a JSON file; `last={...}` changes what is inside."""
    found = json.loads(file.read_text())
    for key, value in changes.items():
        inside = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = found[key] | value if inside else value
    file.write_text(json.dumps(found))


EDITS: dict[str, Document] = {
    "accuracy is not the share": {"last": {"accuracy": 7.5}},
    "correct: Input": {"last": {"correct": -40}},
    "total: Input": {"last": {"total": 0}},
    "interval": {"last": {"interval": [0.1, 2.0]}},
    "correct_by_epoch": {"correct_by_epoch": [40, 40]},
    "best": {"best": {"epoch": 3}},
    "seed": {"seed": 7},
    "follows_test": {"follows_test": True},
    "parameters": {"parameters": -1},
    "split": {"split": "train"},
    "runtime.threads": {"runtime": {"threads": "many"}},
    "images_per_second": {"images_per_second": -1.0},
    "recipe_values": {"recipe_values": 3},
    "mult_adds": {"mult_adds": 10**40},
    "not JSON": {"environment": float("nan")},
}


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_result_is_refused_by_field_and_no_row(field: str, runs: Path) -> None:
    file = runs / "s0" / "result.json"
    stored.of_folder(runs / "s0")
    edit(file, **EDITS[field])
    with pytest.raises(ArtifactError, match=field) as caught:
        stored.of_folder(runs / "s0")
    assert caught.value.where == str(file)


def test_compare_and_report_skip_one_bad_row_and_tell_of_it(cli: Cli, runs: Path) -> None:
    edit(runs / "s0" / "result.json", last={"accuracy": 7.5})
    for line in (["compare", str(runs)], ["compare", str(runs / "*")]):
        table = document(cli(*line, "--json").stdout)
        assert [row["seeds"] for row in table["rows"]] == [[1]]
        assert "accuracy is not the share" in table["unfinished"][0]["why"]
    assert "accuracy is not the share" in cli("report", str(runs)).stdout
    alone = cli("compare", str(runs / "s0"))
    assert (alone.returncode, "result.json" in alone.stderr) == (4, True)


@pytest.mark.parametrize("change", [{"parameters": 100}, {"weights_sha256": "00"}, None])
def test_a_finished_run_writes_its_result_again_from_the_checkpoint(
    change: Document | None, cli: Cli, runs: Path, tiny_data: Path
) -> None:
    file = runs / "s0" / "result.json"
    whole = stored.of_folder(runs / "s0")
    edit(file, **change) if change else file.write_text("{")
    line = ["train", "--resume", str(runs / "s0"), "--no-plots", "--data-dir", str(tiny_data)]
    done = cli(*line)
    assert (done.returncode, "written again" in done.stderr) == (0, True), done.stderr
    again = stored.of_folder(runs / "s0")
    same = whole.keys() - {"environment", "sessions", "goal"}
    assert {key: again[key] for key in same} == {key: whole[key] for key in same}
    assert "written again" not in cli(*line).stderr


def test_row_25_a_copy_of_best_is_not_resumed_from(cli: Cli, runs: Path, tiny_data: Path) -> None:
    run = runs / "s0"
    before = (run / "result.json").read_bytes()
    shutil.copy(run / "best.pt", run / "last.pt")
    refused = cli("train", "--resume", str(run), "--no-plots")
    assert refused.returncode == 4
    assert "a copy of best.pt (epoch 1, picked on test)" in refused.stderr
    assert (run / "result.json").read_bytes() == before
    said = cli("evaluate", str(run), "--data-dir", str(tiny_data))
    assert (said.returncode, "picked_on=test" in said.stdout) == (0, True)


READERS: dict[str, Callable[[Path], Any]] = {
    "result.json": stored.of_folder,
    "set.json": setlog.read,
    "metrics.jsonl": runlog.read_metrics,
    "recipe.yaml": stored.recipe_of,
    "env.json": sessions.read,
}
KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "hole of 1 GB": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**30),
    "deep": lambda path: path.write_text("[" * 10**5) and None,
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00{}") and None,
    "list": lambda path: path.write_text("[1]") and None,
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_a_run_is_refused_at_once(name: str, kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / name)
    if name == "env.json":  # earlier sessions are lost, and the run goes on
        assert sessions.read(tmp_path) is None
        return
    with pytest.raises(ArtifactError, match=name):
        READERS[name](tmp_path)


ENDS = """
import os, torch
class Net(torch.nn.Sequential):
    def forward(self, x):
        if len(x) == 40:  # the test pictures: no check before has so many
            {end}
        return super().forward(x)
def net():
    return Net(torch.nn.Flatten(), torch.nn.Linear(784, 10))
"""


@pytest.mark.parametrize("end", ["raise SystemExit(0)", "raise KeyError('x')", "x = x * torch.nan"])
def test_row_29_a_network_that_ends_in_evaluation_never_ends_with_0(
    end: str, cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    code = tmp_path / "ends.py"
    code.write_text(ENDS.format(end="pass"))
    line = ["--data-dir", str(tiny_data), "--model", f"{code}:net"]
    train = ["train", *line, "--epochs", "1", "--batch-size", "32", "--threads", "1", "--no-plots"]
    train.append("--out")
    assert cli(*train, str(tmp_path / "run")).returncode == 0
    code.write_text(ENDS.format(end=end))
    found = [cli("evaluate", str(tmp_path / "run"), *line), cli(*train, str(tmp_path / "second"))]
    nan = "nan" in end
    assert [one.returncode for one in found] == ([4, 6] if nan else [2, 2])
    assert all(nan or "ends.py:6" in one.stderr for one in found)


ODD_NAME = "v3\x1b[31m\r\n\u202e|Wörter=ж $a$ $"
RAW = {"\x1b", "\r", "\u202e"}


@pytest.mark.parametrize(
    "words",
    [
        ["compare"], ["compare", "-q"], ["compare", "--json"], ["compare", "--format", "md"],
        ["compare", "--format", "csv"], ["compare", "--progress", "live"], ["report"],
        ["compare", "--plot", "a.png"],
    ],
)  # fmt: skip
def test_row_28_strangers_names_are_shown_escaped(
    words: list[str], cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("NO_COLOR", "1")
    edit(runs / "s0" / "result.json", recipe=ODD_NAME, changes=["=1+1\x1b]0;x\x07"])
    done = cli(words[0], "s0", *words[1:])
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert not RAW & set(said), said
    assert "Wörter" in said or "W\\u00f6rter" in said or "-q" in words or "live" in words


def test_row_28_errors_show_names_escaped(cli: Cli, tmp_path: Path) -> None:
    for words in (["evaluate", "a\x1b[2J\n.pt"], ["train", "--model", "a\u202e.py:f"]):
        done = cli(*words)
        assert not RAW & set(done.stderr), done.stderr
        assert len(done.stderr.splitlines()) <= 2
    assert text.csv_cell("=1+1\t") == "'=1+1\\t"
    assert text.escaped_json('"\x9b\u202e"') == '"\\u009b\\u202e"'
