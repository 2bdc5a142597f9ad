"""A person's own network: the README's example through every command, and each broken contract."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import Cli, document

from mnistcli.errors import UsageError
from mnistcli.models.registry import build, known_names, resolve

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The README's own text as `net.py` in an empty folder, which becomes the current one."""
    block = re.search(r"```python\n# net\.py\n(.*?)```", README, re.DOTALL)
    assert block is not None
    (tmp_path / "net.py").write_text(block[1])
    monkeypatch.chdir(tmp_path)
    return "net.py:tiny"


@pytest.mark.slow
def test_the_readmes_example_goes_through_every_command(
    example: str, cli: Cli, small_data: Path
) -> None:
    data = ["--data-dir", str(small_data)]
    audited = document(cli("summary", example, "--json").stdout)["models"][0]
    line = ["train", "--model", example, "--epochs", "1", "--no-plots", "--out", "run", *data]
    trained = document(cli(*line, "--json").stdout)
    assert trained["parameters"] == audited["parameters"]
    wider = cli(*line[:-4], "--out", "wide", *data, "--set", "model_args.width=12", "--json")
    assert document(wider.stdout)["parameters"] > audited["parameters"]
    found = document(cli("evaluate", "run", "--model", example, *data, "--json").stdout)
    assert found["correct"] == trained["last"]["correct"]
    table = document(cli("compare", "run", "wide", "--json").stdout)["rows"]
    assert [row["model"] for row in table] == [example, example]


@pytest.mark.parametrize("line", [["evaluate", "run"], ["train", "--no-plots", "--resume", "run"]])
@pytest.mark.slow
def test_weights_alone_never_name_the_code_that_runs(
    line: list[str], example: str, cli: Cli, small_data: Path
) -> None:
    data = ["--data-dir", str(small_data)]
    words = ["--model", example, "--epochs", "1", "--no-plots", "--out", "run"]
    assert cli("train", *words, *data).returncode == 0
    refused = cli(*line, *data)
    assert refused.returncode == 2
    assert "--model" in refused.stderr.splitlines()[-1]
    assert cli(*line, "--model", example, *data).returncode == 0


@pytest.mark.slow
def test_runs_of_an_own_network_are_found_by_its_name(
    example: str, cli: Cli, small_data: Path
) -> None:
    missing = cli("compare", example)
    assert (missing.returncode, "--train" in missing.stderr) == (4, True)
    cli("train", "--model", example, "--epochs", "1", "--no-plots", "--data-dir", str(small_data))
    assert document(cli("compare", example, "--json").stdout)["rows"][0]["n"] == 1


BROKEN = """
import torch
from torch import nn


class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what, self.weight = what, nn.Parameter(torch.zeros(10))

    def forward(self, images):
        return self.what(self.weight.expand(len(images), 10))


def nan(): return Gives(lambda logits: logits / 0)
def classes(): return Gives(lambda logits: logits.argmax(1, keepdim=True).expand(-1, 10))
def pair(): return Gives(lambda logits: (logits, logits))
def needs(width, depth=1): return Gives(lambda logits: logits)
def raises(): raise RuntimeError
def fails(): return Gives(lambda logits: logits @ logits)
def wide(): return Gives(lambda logits: torch.cat([logits, logits], 1))
def frozen(): return Gives(lambda logits: logits).requires_grad_(False)
def masked():
    model = Gives(lambda logits: logits)
    model.register_buffer("mask", torch.full((2,), float("-inf")))
    return model
def transposed(): return Gives(lambda logits: logits.T.contiguous().T)
"""


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("nan", "returns NaN or infinity"),
        ("masked", "keeps 'mask', which is not finite"),
        ("classes", "returns torch.int64, expected floating-point"),
        ("pair", "returns tuple, expected a tensor"),
        ("needs", "needs width"),
        ("raises", "can't be built: RuntimeError"),
        ("fails", "fails on a batch [2, 1, 28, 28]"),
        ("wide", "to [2, 20], expected [2, 10]"),
        ("frozen", "no parameter to train"),
        ("frosen", "no function 'frosen'"),
    ],
)
def test_a_broken_contract_is_named(factory: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(BROKEN)
    with pytest.raises(UsageError) as caught:
        build(resolve(f"{path}:{factory}"), {})
    assert expected in caught.value.what
    if factory in ("raises", "fails"):
        line = next(i for i, text in enumerate(BROKEN.splitlines(), 1) if f"def {factory}" in text)
        assert caught.value.where == f"{path}:{line}"


def test_an_argument_without_a_default_and_any_memory_layout_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(BROKEN)
    build(resolve(f"{path}:needs"), {"width": 3})
    build(resolve(f"{path}:transposed"), {})


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("none.py:net", "no such file"),
        ("folder.py:net", "it is a folder"),
        ("syntax.py:net", "syntax.py:2"),
        ("import.py:net", "import.py:1"),
        ("no.such.module:net", "No module named 'no'"),
    ],
)
def test_code_that_cannot_be_loaded_exits_2_with_its_place(
    reference: str, expected: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.py").mkdir()
    Path("syntax.py").write_text("def net():\n    return (\n")
    Path("import.py").write_text("import nothing_of_this_name\n")
    done = cli("summary", reference)
    assert done.returncode == 2
    assert expected in done.stderr


def test_a_file_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from blocks_beside_it import net\n")
    (tmp_path / "blocks_beside_it.py").write_text(BROKEN + "net = transposed\n")
    build(resolve(f"{tmp_path / 'net.py'}:net"), {})
    assert str(tmp_path) not in sys.path


@pytest.mark.slow
def test_an_installed_entry_point_is_a_model(
    cli: Cli, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_nets.py").write_text(BROKEN)
    installed = tmp_path / "their_nets-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: their-nets\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[mnistcli.models]\ntheirs = their_nets:transposed\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in known_names()
    run, data = str(tmp_path / "run"), ["--data-dir", str(small_data)]
    line = ["train", "--model", "theirs", "--epochs", "1", "--no-plots", "--out", run, *data]
    assert cli("summary", "theirs").returncode == 0
    assert cli(*line).returncode == 0
    assert cli("evaluate", run, *data).returncode == 2
    assert cli("evaluate", run, "--model", "theirs", *data).returncode == 0
    assert "'theirs'" in cli("summary", "their").stderr


EDITED = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))
"""


@pytest.fixture
def begun(tmp_path: Path, tiny_data: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line whose run of an own network is finished, from the folder of its file."""
    (tmp_path / "net.py").write_text(EDITED)
    monkeypatch.chdir(tmp_path)
    line = ["train", "--epochs", "1", "--batch-size", "32", "--no-plots", "--threads", "1"]
    line += ["--data-dir", str(tiny_data), "--out", str(tmp_path / "run"), "--resume", "auto"]
    assert cli(*line, "--model", "net.py:net").returncode == 0
    return line


def test_a_run_goes_on_by_another_spelling_of_its_networks_path(
    begun: list[str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for spelling in ("../net.py:net", f"{tmp_path / 'net.py'}:net"):
        done = cli(*begun, "--model", spelling)
        assert (done.returncode, "already finished" in done.stderr) == (0, True), done.stderr


def test_an_edited_network_is_refused_with_what_differs(
    begun: list[str], cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(EDITED.replace("ReLU", "GELU"))
    done = cli(*begun, "--model", "net.py:net")
    assert done.returncode == 2
    assert "ReLU" in done.stderr.partition(", now ")[0]
    assert "GELU" in done.stderr.partition(", now ")[2]
    (tmp_path / "net.py").write_text(f"# a comment\n{EDITED}")
    assert cli(*begun, "--model", "net.py:net").returncode == 0


def test_an_own_network_learns_from_the_labels_alone_unless_asked(
    begun: list[str], cli: Cli
) -> None:
    printed = [*begun[:3], "--model", "net.py:net", "--print-recipe", "--json"]
    recipes = [
        document(cli(*printed, *words).stdout)["recipe"]
        for words in ([], ["--teacher", "teacher"], ["--recipe", "v3", "--no-teacher"])
    ]
    taught = [one["distillation"] and one["distillation"]["teacher"] for one in recipes]
    assert taught == [None, "teacher", None]
    assert [one["optim"]["name"] for one in recipes] == ["sgd", "sgd", "muon"]
    both = cli(*printed, "--teacher", "teacher", "--no-teacher")
    assert both.returncode == 2
