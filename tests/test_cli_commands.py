"""`summary`, `evaluate` and `compare` in a pipe and with --json, and the table of all results."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
import torch
from conftest import Cli, Golden, document, values
from PIL import Image

from mnistcli.data import mnist
from mnistcli.engine import machine
from mnistcli.files import packaged
from mnistcli.models.registry import COMPARED, MODELS
from mnistcli.results.comparison import MNIST_DIGEST, rows
from mnistcli.results.gather import gather
from mnistcli.results.runlog import read_json
from mnistcli.view.comparison import to_markdown


def test_summary_counts_v2_and_passes_its_budget(cli: Cli) -> None:
    done = cli("summary", "v2", "--require", "params")
    assert done.returncode == 0
    total = values(done.stdout.splitlines()[-1])
    assert (total["parameters"], total["verdict"]) == ("6704", "PASS")
    assert sum(int(values(line)["parameters"]) for line in done.stdout.splitlines()[:-1]) == 6704


@pytest.mark.slow
def test_summary_of_all_is_one_document(cli: Cli) -> None:
    models = document(cli("summary", "--json", "v1", "v2", "v3").stdout)["models"]
    assert [model["parameters"] for model in models] == [6536, 6704, 7820]
    assert len(cli("summary").stdout.splitlines()) == len(COMPARED)


def test_summary_enforces_another_budget(cli: Cli) -> None:
    done = cli("summary", "v3", "--max-params", "7820", "--require", "params", "--json")
    assert done.returncode == 3
    assert document(done.stdout)["models"][0]["parameters"] == 7820
    assert cli("summary", "v3", "--require", "accuracy").returncode == 2


def test_a_terminal_draws_the_summary_in_80_columns(
    cli: Cli, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    done = cli("summary", "v3", "--progress", "live")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    golden("summary/v3-80.txt", shown)
    assert max(map(len, shown.splitlines())) <= 80


# A network that is not trained yet has neither weights nor a record.
RECORDED = [n for n in MODELS if packaged("checkpoints", "reference", f"{n}.json").is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_reference_weights_reproduce_their_record(name: str, cli: Cli) -> None:
    """Exactly on the processor and torch that made the record; elsewhere rounding may flip one."""
    report = document(cli("evaluate", name, "--device", "cpu", "--json").stdout)
    record = read_json(packaged("checkpoints", "reference", f"{name}.json"))
    assert record is not None
    assert report["total"] == record["last"]["total"] == 10_000
    here = machine.device_name(torch.device("cpu")), torch.__version__
    same = here == (record["runtime"]["device_name"], record["versions"]["torch"])
    assert abs(report["correct"] - record["last"]["correct"]) <= (0 if same else 1)
    assert sum(map(sum, report["confusion"])) == 10_000
    assert sum(report["confusion"][d][d] for d in range(10)) == report["correct"]


@pytest.mark.slow
def test_evaluate_gates_and_writes_predictions(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    done = cli(
        "evaluate", "v3", "--predictions", str(path), "--require", "params", "--target", "100"
    )
    assert done.returncode == 0
    assert "result verdict=FAIL" in done.stdout
    table = list(csv.DictReader(path.open()))
    assert len(table) == 10_000
    right = sum(row["label"] == row["prediction"] for row in table)
    assert f"correct={right} " in done.stdout
    assert cli("evaluate", "v3", "--target", "100", "--require", "accuracy").returncode == 3


@pytest.mark.slow
def test_evaluate_takes_a_run_folder_and_refuses_others(
    train_small: Cli, cli: Cli, small_data: Path, tmp_path: Path
) -> None:
    trained = document(train_small("--json").stdout)
    report = document(
        cli("evaluate", str(tmp_path / "run"), "--data-dir", str(small_data), "--json").stdout
    )
    assert report["correct"] == trained["last"]["correct"]
    assert report["total"] == 130
    wrong = cli("evaluate", str(tmp_path / "run"), "--model", "v2")
    assert wrong.returncode == 4
    assert "v3" in wrong.stderr
    assert "v2" in wrong.stderr
    assert cli("evaluate", str(tmp_path)).returncode == 4


@pytest.mark.slow
def test_a_picked_epoch_is_labelled_and_cannot_meet_the_goal(
    train_small: Cli, cli: Cli, small_data: Path, tmp_path: Path
) -> None:
    train_small()
    line = ["evaluate", str(tmp_path / "run" / "best.pt"), "--data-dir", str(small_data)]
    report = document(cli(*line, "--target", "0", "--json").stdout)
    assert report["picked_on"] == "test"
    assert report["goal"]["verdict"] == "UNKNOWN"
    assert cli(*line, "--target", "0", "--require", "goal").returncode == 3


def test_validation_pictures_that_were_trained_on_are_refused(cli: Cli) -> None:
    assert cli("evaluate", "v3", "--val").returncode == 2


OWN = """
from __future__ import annotations
import dataclasses, torch
@dataclasses.dataclass
class Size:
    hidden: int
def net(hidden: int = 4):
    size = Size(hidden)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, size.hidden),
                               torch.nn.Linear(size.hidden, 10))
"""


@pytest.mark.slow
def test_an_own_network_goes_through_every_command(
    cli: Cli, small_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(OWN)
    own, run = f"{tmp_path / 'net.py'}:net", str(tmp_path / "run")
    data = ["--data-dir", str(small_data)]
    assert cli("summary", own).returncode == 0
    line = ["train", "--model", own, "--epochs", "1", "--lr", "0.01", "--no-plots", *data]
    line += ["--out", run]
    trained = document(cli(*line, "--set", "model_args.hidden=3", "--json").stdout)
    assert trained["parameters"] == 784 * 3 + 3 + 3 * 10 + 10
    assert cli("evaluate", run, *data).returncode == 2
    assert cli("evaluate", run, "--model", own, *data).returncode == 0
    Image.frombytes("L", (28, 28), mnist.load().test.images[0].numpy().tobytes()).save(
        tmp_path / "7.png"
    )
    line = ["predict", run, str(tmp_path / "7.png")]
    assert (cli(*line).returncode, cli(*line, "--model", own).returncode) == (2, 0)
    assert cli("train", "--resume", run, *data).returncode == 2
    assert cli("train", "--resume", run, "--model", own, "--no-plots", *data).returncode == 0
    assert "row model=" in cli("compare", run).stdout


@pytest.mark.slow
def test_compare_groups_seeds_and_takes_differences(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--seeds", "0-2", "--epochs", "1", out="plain")
    train_small("--seeds", "0-2", "--epochs", "1", "--lr", "0.01", out="slow")
    folders = [str(tmp_path / "plain"), str(tmp_path / "slow" / "*")]
    done = document(cli("compare", *folders, "--baseline", folders[0], "--json").stdout)
    assert [row["n"] for row in done["rows"]] == [3, 3]
    assert sorted(row["standing"] == "leader" for row in done["rows"]) == [False, True]
    assert [row["difference_test"] for row in done["rows"]].count("paired by seed") == 1


@pytest.mark.slow
def test_a_repeated_seed_is_a_row_of_its_own(train_small: Cli, cli: Cli, tmp_path: Path) -> None:
    train_small(out="a")
    train_small(out="b")
    done = document(cli("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json").stdout)
    found = [(row["n"], row["which"]) for row in done["rows"]]
    assert found == [(1, "run 1 of a seed"), (1, "run 2 of a seed")]


@pytest.mark.slow
def test_compare_pairs_single_runs_by_picture(train_small: Cli, cli: Cli, tmp_path: Path) -> None:
    train_small(out="a")
    train_small("--seed", "1", "--lr", "0.05", out="b")
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    result = document(cli("compare", *folders, "--json").stdout)
    assert "McNemar" in {row["leader_test"] for row in result["rows"]}


def test_the_digest_of_mnist_is_the_packaged_files(dataset: mnist.Dataset) -> None:
    assert dataset.digest == MNIST_DIGEST


@pytest.mark.slow
def test_other_pictures_have_their_own_leader_and_no_difference(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--epochs", "1", out="[other]")
    done = document(
        cli("compare", str(tmp_path / "[other]"), "v3", "--baseline", "v3", "--json").stdout
    )
    other = next(row for row in done["rows"] if row["epochs"] == 1)
    assert (other["standing"], other["difference"], other["reported"]) == ("leader", None, None)
    assert any("different pictures" in note for note in done["notes"])


def test_a_network_file_that_prints_and_exits_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys\nprint('hello')\nsys.exit(0)\n")
    done = cli("summary", f"{tmp_path / 'net.py'}:net", "--json")
    assert done.returncode == 2
    assert not document(done.stdout)["ok"]


def test_an_incomplete_result_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"schema": 1}')
    assert cli("compare", str(tmp_path)).returncode == 4


def test_compare_without_arguments_shows_the_records(cli: Cli) -> None:
    done = cli("compare", "--format", "csv")
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["model"] for row in table} == set(COMPARED) & set(RECORDED)
    assert {row["recipe"] for row in table} >= {"v1", "v2", "v3", "baseline/v3"}
    assert cli("compare", "nothing").returncode == 4


@pytest.mark.slow
def test_the_table_of_all_results_is_what_the_records_say() -> None:
    readme = (Path(__file__).parents[1] / "checkpoints" / "README.md").read_text()
    assert to_markdown(rows(gather([]).results), difference=False) in readme
