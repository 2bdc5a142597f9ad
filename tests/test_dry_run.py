"""`train --dry-run`: everything checked, nothing made."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli, document, values

from mnistcli.files import write_atomically


def test_a_dry_run_says_what_would_be_done_and_makes_nothing(
    train_small: Cli, tmp_path: Path
) -> None:
    done = train_small("--dry-run", "--seeds", "0-1", "--json")
    plan = document(done.stdout)
    assert (done.returncode, plan["dry_run"], plan["parameters"]) == (0, True, 7820)
    assert (plan["steps_per_epoch"], plan["steps"], plan["train_images"]) == (3, 6, 384)
    assert [run["run"] for run in plan["runs"]] == [str(tmp_path / "run" / f"s{n}") for n in (0, 1)]
    assert {run["state"] for run in plan["runs"]} == {"new"}
    assert [check["gate"] for check in plan["checks"]] == ["params", "epochs"]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_in_a_pipe_is_lines(train_small: Cli) -> None:
    lines = train_small("--dry-run").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["plan", "run", "goal", "goal", "result"]
    assert values(lines[0])["compiled"] == "False"


def test_a_dry_run_decides_the_gates_that_need_no_training(train_small: Cli) -> None:
    assert train_small("--dry-run", "--require", "goal").returncode == 0
    assert train_small("--dry-run", "--require", "params", "--max-params", "7820").returncode == 3
    assert train_small("--dry-run", "--require", "epochs", "--max-epochs", "1").returncode == 3


@pytest.mark.slow
def test_a_dry_run_finds_what_would_stop_the_run(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    write_atomically(blocked, b"")
    assert train_small("--dry-run", "--device", "cuda:99").returncode == 5
    assert cli("train", "--model", "v3", "--dry-run", "--out", f"{blocked}/run").returncode == 5
    assert cli("train", "--model", "v3", "--dry-run", "--data-dir", "nowhere").returncode == 4


@pytest.mark.slow
def test_a_dry_run_knows_the_run_it_would_continue(train_small: Cli, tmp_path: Path) -> None:
    train_small()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    assert train_small("--dry-run").returncode == 2
    plan = document(train_small("--dry-run", "--resume", "auto", "--json").stdout)
    assert (plan["runs"][0]["state"], plan["runs"][0]["epochs_done"]) == ("finished", 2)
    assert train_small("--dry-run", "--resume", "auto", "--lr", "0.01").returncode == 2
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}


@pytest.mark.slow
def test_a_new_runs_own_name_is_foreseen(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = document(cli("train", "--model", "v3", "--val", "--dry-run", "--json").stdout)
    assert (plan["split"], plan["train_images"]) == ("validation", 50_000)
    assert plan["runs"][0]["run"].startswith(str(tmp_path / "checkpoints" / "v3"))
    assert list(tmp_path.iterdir()) == []
