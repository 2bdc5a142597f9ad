"""`mnistcli train` as a user and a script see it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from conftest import Cli, document, values, write_idx

from mnistcli.cli.arguments import resume_command
from mnistcli.data import mnist
from mnistcli.results import runlog
from mnistcli.results.lock import lock


@pytest.mark.slow
def test_a_run_in_a_pipe_leaves_one_line_an_epoch_and_its_files(
    train_small: Cli, tmp_path: Path
) -> None:
    done = train_small()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    epochs = [values(line) for line in lines if line.startswith("epoch=")]
    assert [epoch["epoch"] for epoch in epochs] == ["1/2", "2/2"]
    shown = "train_loss train_acc test_loss test_acc correct best since_best lr rss_mib img_s sec"
    assert set(shown.split()) <= epochs[0].keys()
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout + done.stderr
    assert max(len(line) for line in lines if line.startswith("epoch=")) < 200
    assert lines[-1].startswith("result verdict=FAIL")
    assert values(lines[-1])["run"] == str(tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    kept = (
        "recipe.yaml env.json metrics.csv metrics.jsonl result.json predictions.pt last.pt best.pt"
    )
    assert set(kept.split()) <= files
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    columns = (  # a user's scripts read these; new ones may only follow
        "epoch train_loss train_correct train_total split eval_loss eval_correct eval_total "
        "best_correct epochs_since_best lr allocated_mib reserved_mib rss_mib images_per_second "
        "train_seconds eval_seconds"
    )
    assert [*rows[0]][:17] == columns.split()
    assert runlog.read_metrics(tmp_path / "run")[-1].epoch == 2


@pytest.mark.slow
def test_json_is_one_document_and_the_epochs_move_to_stderr(train_small: Cli) -> None:
    done = train_small("--json", "--require", "params")
    result = document(done.stdout)
    assert (result["ok"], result["command"], result["parameters"]) == (True, "train", 7820)
    assert result["last"]["total"] == 130
    assert "epoch=2/2" in done.stderr


@pytest.mark.slow
def test_quiet_leaves_the_result_line_only(train_small: Cli) -> None:
    done = train_small("--quiet")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    both = train_small("--quiet", "--json", "--resume", "auto")
    assert document(both.stdout)["ok"]


@pytest.mark.slow
def test_a_failed_gate_exits_3_after_the_verdict(train_small: Cli) -> None:
    done = train_small("--require", "goal")
    assert done.returncode == 3
    assert "result verdict=FAIL" in done.stdout
    assert "accuracy" in done.stderr
    again = train_small("--require", "goal", "--json", "--resume", "auto")
    failed = document(again.stdout)
    assert (again.returncode, failed["ok"], failed["error"]["exit_code"]) == (3, False, 3)
    assert failed["last"]["total"] == 130
    assert train_small("--resume", "auto", "--target", "0", "--require", "accuracy").returncode == 0


@pytest.mark.slow
def test_several_seeds_share_a_summary_and_have_folders(train_small: Cli, tmp_path: Path) -> None:
    done = train_small("--seeds", "0,2", "--json", out="set")
    result = document(done.stdout)
    assert [run["seed"] for run in result["runs"]] == [0, 2]
    assert result["summary"]["n"] == 2
    assert {path.name for path in (tmp_path / "set").glob("[!.]*")} == {"s0", "s2", "set.json"}
    alone = document(train_small("--seed", "2", "--json", out="alone").stdout)
    assert alone["weights_sha256"] == result["runs"][1]["weights_sha256"]


@pytest.mark.slow
def test_validation_runs_say_so_and_depend_on_no_test_picture(
    train_small: Cli, small_data: Path, dataset: mnist.Dataset, tmp_path: Path
) -> None:
    done = train_small("--val", "--json")
    result = document(done.stdout)
    assert (result["split"], result["last"]["total"]) == ("validation", 64)
    assert "val_acc=" in done.stderr
    assert "test_acc=" not in done.stderr
    other = tmp_path / "other"
    write_idx(other, "train", mnist.load(small_data).train)
    write_idx(other, "t10k", mnist.Labelled(dataset.test.images[500:540], dataset.test.labels[:40]))
    again = document(train_small("--val", "--json", "--data-dir", str(other), out="again").stdout)
    assert again["weights_sha256"] == result["weights_sha256"]
    assert again["correct_by_epoch"] == result["correct_by_epoch"]


@pytest.mark.slow
def test_patience_ends_a_run_early_and_says_so(train_small: Cli) -> None:
    line = ["--val", "--patience", "1", "--epochs", "9", "--lr", "1e-9"]
    done = train_small(*line, "--set", "ema_decay=null", "--json")
    result = document(done.stdout)
    assert result["epochs_done"] < result["epochs"] == 9
    assert "no improvement for --patience" in done.stderr
    assert train_small("--patience", "1", out="other").returncode == 2


def test_print_recipe_prints_what_would_be_trained(cli: Cli) -> None:
    done = cli("train", "--model", "v3", "--lr", "0.05", "--print-recipe")
    assert not [line for line in done.stdout.splitlines() if line.strip() == "#"]
    assert done.returncode == 0
    assert "lr: 0.05" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ("train", 2, "--model v3"),
        ("train --model v0", 2, "did you mean"),
        ("train --model v3 --epochs 0", 2, "epochs"),
        ("train --model v3 --epochs many", 2, "--epochs"),
        ("train --model v3 --modle v3", 2, "--model"),
        ("train --model v3 --seeds 3-1", 2, "--seeds"),
        ("train --model v3 --seed 1 --seeds 0-1", 2, "exclude"),
        ("train --model v3 --device tpu", 2, "--device"),
        ("train --model v3 --device cuda:²", 2, "--device"),
        ("train --model v3 --device cuda:", 2, "--device"),
        ("train --model v3 --device cuda:99999999999999999999", 2, "--device"),
        ("train --model v3 --require speed", 2, "valid"),
        ("train --model v3 --data-dir nowhere", 4, "nowhere"),
        ("train --resume nowhere", 4, "nowhere"),
        ("train --model v3 --device cuda:99", 5, "cuda"),
        ("train --model v3 --precision fp16 --device cpu", 5, "fp16"),
        ("train --model v3 --out /dev/null/run", 5, "/dev/null"),
    ],
)
@pytest.mark.slow
def test_wrong_input_is_explained_with_its_exit_code(
    arguments: str,
    code: int,
    expected: str,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments.split(), "--json")
    assert done.returncode == code
    assert expected in done.stderr
    error = document(done.stdout)["error"]
    assert error["exit_code"] == code
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_network_argument_makes_no_folder(train_small: Cli, tmp_path: Path) -> None:
    done = train_small("--set", "model_args.dropuot=0.1")
    assert (done.returncode, "'dropout'" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_somebody_else_is_left_as_it_is(train_small: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "run" / ".draft.tmp"
    mine.parent.mkdir()
    mine.touch()
    assert train_small().returncode == 2
    assert train_small("--resume", "auto").returncode == 2
    assert mine.exists()


@pytest.mark.slow
def test_a_folder_without_a_checkpoint_is_started_by_resume(
    train_small: Cli, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    assert train_small("--resume", "auto").returncode == 0


def test_the_resume_command_is_the_line_itself() -> None:
    words = ["train", "--model", "v3", "--out", "a", "--require", "goal"]
    assert resume_command(words, "/x/a b") == (
        "mnistcli train --model v3 --require goal --resume '/x/a b'"
    )
    assert resume_command(["train", "--resume", "a b"], None) == "mnistcli train --resume 'a b'"
    seeds = ["train", "--model", "v3", "--seeds=0-1", "--out=a", "--resume", "auto"]
    assert resume_command(seeds, None) == (
        "mnistcli train --model v3 --seeds=0-1 --out=a --resume auto"
    )


def test_divergence_exits_6(train_small: Cli, tmp_path: Path) -> None:
    done = train_small("--model", "v1", "--lr", "1e20")
    assert done.returncode == 6
    assert "lower the learning rate" in done.stderr
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.slow
def test_an_occupied_folder_is_refused_and_a_busy_one_too(train_small: Cli, tmp_path: Path) -> None:
    train_small()
    assert train_small().returncode == 2
    with lock(tmp_path / "run"):
        busy = train_small()
        assert busy.returncode == 7
        assert str(os.getpid()) in busy.stderr
        assert train_small("--resume", "auto").returncode == 7


@pytest.mark.slow
def test_a_finished_run_is_left_alone_and_another_recipe_refused(
    train_small: Cli, tmp_path: Path
) -> None:
    """Row 17 of the fault matrix."""
    first = train_small("--json")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    again = train_small("--resume", "auto", "--json")
    assert again.returncode == 0
    assert document(again.stdout) == document(first.stdout)
    assert "already finished" in again.stderr
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    assert {p.name for p in before if before[p] != after[p]} <= {".lock"}
    other = train_small("--resume", "auto", "--lr", "0.01")
    assert other.returncode == 2
    assert "optim.lr=0.01" in other.stderr


@pytest.mark.slow
def test_resume_auto_finds_the_run_without_out(
    cli: Cli, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["train", "--model", "v3", "--epochs", "1", "--no-plots", "--resume", "auto"]
    line += ["--data-dir", str(small_data)]
    assert cli(*line).returncode == 0
    assert "already finished" in cli(*line).stderr
    assert cli(*line, "--seed", "5").returncode == 0
    assert len(list(Path("checkpoints", "v3").iterdir())) == 2
