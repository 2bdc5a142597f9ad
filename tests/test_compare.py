"""`mnistcli compare`: cells, marks, what --train adds, and the picture."""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli, document
from forkserver import Server

from mnistcli.results.comparison import MNIST_DIGEST
from mnistcli.results.literature import POINTS
from mnistcli.runs import missing

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_csv_cell_is_one_plain_value(cli: Cli) -> None:
    table = list(csv.DictReader(io.StringIO(cli("compare", "--format", "csv").stdout)))
    assert not [cell for row in table for cell in row.values() if set("[]{}'") & set(cell)]
    v3 = next(row for row in table if row["recipe"] == "v3")
    assert v3["seeds"].split() == ["0", "1", "2"][: int(v3["n"])] or int(v3["n"]) > 3
    assert float(v3["interval_low"]) < float(v3["mean"]) < float(v3["interval_high"])
    assert v3["receptive_field"] == "70"


@pytest.mark.slow
def test_train_runs_only_the_seeds_that_are_missing(
    cli: Cli, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["compare", "v3", "--train", "--epochs", "1", "--data-dir", str(small_data)]
    first = cli(*line, "--seeds", "0", "--format", "csv")
    assert [row["n"] for row in csv.DictReader(io.StringIO(first.stdout))] == ["1"]
    assert "epoch=1/1" in first.stderr
    second = cli(*line, "--seeds", "0-1", "--json")
    assert document(second.stdout)["rows"][0]["seeds"] == [0, 1]
    assert second.stderr.count("epoch=1/1") == 1
    assert "already finished" in second.stderr
    assert len(list(Path("checkpoints", "v3").iterdir())) == 2


@pytest.mark.slow
def test_train_takes_published_seeds_as_they_are(
    train_small: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of this recipe, seed and data, as `checkpoints/records` holds them."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = train_small("--json", "--model", "v1", "--recipe", "plain/v1")
    record = document(done.stdout) | {"data": MNIST_DIGEST}
    monkeypatch.setattr(missing, "published", lambda: [record])
    line = ["compare", "plain/v1", "--train", "--epochs", "2", "--json"]
    assert document(cli(*line).stdout)["rows"][0]["mean"] == record["last"]["accuracy"]
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_train_completes_recipes_and_the_baseline_too(
    cli: Cli, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["compare", "v1", "--baseline", "baseline/v1", "--train", "--epochs", "1"]
    done = cli(*line, "--seeds", "0-2", "--data-dir", str(small_data), "--json")
    table = document(done.stdout)["rows"]
    assert {row["recipe"].split()[0] for row in table} == {"v1", "baseline/v1"}
    assert {row["difference_test"] for row in table} == {"itself", "paired by seed"}


def test_a_stopped_comparison_is_continued_by_its_own_line(
    forked: Server, small_data: Path, tmp_path: Path
) -> None:
    line = ["compare", "v1", "--train", "--epochs", "30", "--data-dir", str(small_data), "--json"]
    child = forked.start(*line, cwd=tmp_path)
    child.until(lambda: "epoch=2/" in child.err)
    child.signal(signal.SIGTERM)
    child.wait()
    error = document(child.out)["error"]
    assert (child.code, error["exit_code"]) == (143, 143)
    assert error["hint"] == shlex.join(["mnistcli", *line])
    assert len(list((tmp_path / "checkpoints" / "v1").iterdir())) == 1


def test_what_to_train_without_train_is_refused(cli: Cli) -> None:
    done = cli("compare", "v3", "--seeds", "0-2")
    assert (done.returncode, "--train" in done.stderr) == (2, True)
    assert cli("compare", "nonsense", "--train").returncode == 4


@pytest.mark.slow
def test_a_last_checkpoint_is_its_run_and_a_picked_one_is_refused(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small()
    assert cli("compare", str(tmp_path / "run" / "last.pt")).returncode == 0
    picked = cli("compare", str(tmp_path / "run" / "best.pt"))
    assert (picked.returncode, "mnistcli evaluate" in picked.stderr) == (4, True)


@pytest.mark.slow
def test_the_picture_is_drawn_of_records_and_of_small_runs(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small()
    for reference in ("v3", str(tmp_path / "run")):
        path = tmp_path / "plot.png"
        assert cli("compare", reference, "--plot", str(path)).returncode == 0
        assert path.read_bytes().startswith(PNG)
        assert len(path.read_bytes()) > 10_000


@pytest.mark.processes
def test_matplotlib_is_imported_only_where_a_picture_is_drawn() -> None:
    program = (
        "import sys; from mnistcli.cli.app import run; run(['compare', '--quiet']); "
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_every_published_point_is_small_and_has_a_source() -> None:
    assert len(POINTS) == 10
    assert all(p.parameters < 10_000 and 98 <= p.accuracy < 100 and p.source for p in POINTS)


@pytest.mark.slow
def test_the_markdown_marks_what_cannot_be_told_from_the_leader(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--seeds", "0-2", "--epochs", "1", out="a")
    train_small("--seeds", "0-2", "--epochs", "1", "--set", "ema_decay=0.99799", out="b")
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    text = cli("compare", *folders, "--format", "md").stdout
    assert re.search(r"\| leader \|", text)
    assert re.search(r"\| not separated \|", text)
    assert "neither a difference nor a tie" in text


@pytest.mark.slow
def test_runs_without_a_result_are_named_with_the_command_that_goes_on(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--seeds", "0-2", "--epochs", "1")
    for name in ("result.json", "last.pt"):
        (tmp_path / "run" / "s1" / name).unlink()
    shutil.rmtree(tmp_path / "run" / "s2")
    done = cli("compare", str(tmp_path / "run"), "--json")
    (row,), unfinished = (document(done.stdout)[key] for key in ("rows", "unfinished"))
    assert (row["n"], [one["seed"] for one in row["unfinished"]]) == (1, [1, 2])
    assert [(one["seed"], one["why"]) for one in unfinished][1] == (2, "not started")
    resume = f"mnistcli train --resume {tmp_path / 'run' / 's1'}"
    assert resume in done.stderr
    assert resume in cli("report", str(tmp_path / "run")).stdout
    (tmp_path / "run" / "s0" / "result.json").unlink()
    nothing = cli("compare", str(tmp_path / "run"))
    assert (nothing.returncode, "no run is finished" in nothing.stderr) == (4, True)


@pytest.mark.slow
def test_a_folder_here_comes_before_a_packaged_network_and_is_said(
    train_small: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_small("--model", "v1", "--recipe", "plain/v1", out="v6")
    monkeypatch.chdir(tmp_path)
    done = cli("compare", "v6", "--json")
    assert [row["model"] for row in document(done.stdout)["rows"]] == ["v1"]
    read = cli("evaluate", "v6", "--json")
    assert document(read.stdout)["model"] == "v1"
    for told in (done.stderr, read.stderr, cli("report", "v6").stderr):
        assert "notice: v6 is the" in told
    Path("v5").mkdir()
    shutil.move("v6", "v5/s0")
    both = cli("evaluate", "v5")
    assert (both.returncode, "packaged network, and a folder of runs" in both.stderr) == (2, True)
