"""A study run for real, in short: killed, resumed, over processes, and blind to the test set."""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, document, values
from forkserver import Server

from mnistcli.data import mnist
from mnistcli.study.registration import registrations

ARMS = """
question: Which rate?
base: plain/v3
common: {epochs: 2, batch_size: 32, ema_decay: null, augment: null}
arms:
  slow: {optim.lr: 0.02}
  adamw: {optim: adamw}
seeds: 0-2
sd: 1
confirm: false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rate.yaml"
    path.write_text(ARMS)
    return path


@pytest.fixture(scope="session")
def whole(
    forked: Server, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The table of the study that nothing stopped."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "rate.yaml").write_text(ARMS)
    done = forked.run(*line(folder / "rate.yaml", tiny_data), "--out", folder / "whole")
    assert done.code == 0, done.err
    assert done.out.count("run done=") == 9
    return table_of(folder / "whole")


def line(file: Path, data: Path) -> list[str]:
    return ["study", str(file), "--data-dir", str(data), "--threads", "1"]


def table_of(folder: Path) -> list[dict[str, Any]]:
    """Return a study's rows, without what depends on speed."""
    record = json.loads((folder / "study.json").read_text())
    assert record["exit_code"] == 0
    (table,) = record["stages"]
    weights = {(row["arm"], row["seed"]): row["weights_sha256"] for row in record["rows"]}
    assert len(weights) == 9
    return [
        {key: value for key, value in row.items() if key != "seconds_per_epoch"}
        | {"weights": [hash_ for (arm, _), hash_ in sorted(weights.items()) if arm == row["arm"]]}
        for row in table
    ]


def test_killed_five_times_and_resumed_a_study_has_the_same_table(
    forked: Server, file: Path, tiny_data: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    words = [*line(file, tiny_data), "--out", tmp_path / "killed"]
    rng = random.Random(19)
    for runs in (1, 2, 4, 5, 7):  # begun by the time; what the machine's load is does not matter
        child = forked.start(*words)
        child.until(lambda runs=runs: len([*(tmp_path / "killed").glob("*/s*")]) >= runs)
        time.sleep(rng.uniform(0, 0.2))
        child.signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    done = forked.run(*words)
    assert done.code == 0, done.err
    assert table_of(tmp_path / "killed") == whole
    assert [path.name for path in tmp_path.rglob(".*.mnistcli-tmp")] == []
    assert len(registrations(tmp_path / "killed")) == 1


def test_a_signal_saves_and_the_printed_line_goes_on(
    forked: Server, file: Path, tiny_data: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    words = [*line(file, tiny_data), "--out", str(tmp_path / "stopped")]
    child = forked.start(*words)
    child.until("run done=3/9")
    child.signal(signal.SIGINT)
    assert child.wait() == 130
    assert "runs ended: " in child.err
    assert f"hint: mnistcli {' '.join(words)}" in child.err
    assert forked.run(*words).code == 0
    assert table_of(tmp_path / "stopped") == whole


def test_two_jobs_write_the_same_rows_and_one_document(
    forked: Server, file: Path, tiny_data: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    words = [*line(file, tiny_data), "--out", tmp_path / "jobs", "--jobs", "2", "--json"]
    jobs = forked.run(*words)
    assert jobs.code == 0, jobs.err
    report = document(jobs.out)
    assert (report["command"], report["ok"]) == ("study", True)
    assert {row["rank"] for row in report["study"]["rows"]} == {0, 1}
    assert table_of(tmp_path / "jobs") == whole


def test_ranks_write_the_same_rows(
    forked: Server, file: Path, tiny_data: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    ranks = forked.start_ranks(*line(file, tiny_data), "--out", tmp_path / "ranks")
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    assert values(ranks[0].out.splitlines()[-1])["runs"] == "9"
    assert table_of(tmp_path / "ranks") == whole


class Unread:
    """Test pictures that must not be looked at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a test picture was read: {name}")

    __len__ = __getitem__ = __iter__ = __getattr__  # type: ignore[assignment]


@pytest.mark.slow
def test_a_study_reads_no_test_picture(
    file: Path, tiny_data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread: Any = mnist.Labelled(Unread(), Unread())  # type: ignore[arg-type]
    real = mnist.load
    monkeypatch.setattr(mnist, "load", lambda place: replace(real(place), test=unread))
    words = line(file, tiny_data)
    done = cli(*words, "--out", str(tmp_path / "blind"))
    assert done.returncode == 0, done.stderr
    assert {row["split"] for row in record_of(tmp_path / "blind")["rows"]} == {"validation"}
    seen = cli("train", "--recipe", "plain/v3", "--data-dir", str(tiny_data), "--epochs", "1",
               "--batch-size", "32", "--out", str(tmp_path / "seen"))  # fmt: skip
    assert "a test picture was read" in seen.stderr  # so the trap does catch


def record_of(folder: Path) -> dict[str, Any]:
    return document((folder / "study.json").read_text())


@pytest.mark.slow
def test_stages_halve_and_the_leader_is_measured_on_fresh_seeds(
    tiny_data: Path, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "halving.yaml"
    stages = "stages: [{seeds: 0-2, keep: 1}, {seeds: 5-7, epochs: 1}]"
    text = ARMS.replace("epochs: 2", "epochs: 1").replace("seeds: 0-2", stages)
    file.write_text(text)
    done = cli(*line(file, tiny_data), "--out", str(tmp_path / "halving"))
    assert done.returncode == 0, done.stderr
    record = record_of(tmp_path / "halving")
    first, second = record["stages"]
    best = max(first[1:], key=lambda row: (row["mean"], -row["loss"]))
    assert [row["arm"] for row in second] == ["base", best["arm"]]
    assert {row["seed"] for row in record["rows"] if row["stage"] == 1} == {5, 6, 7}
    assert (tmp_path / "halving" / "base@2" / "s5" / "last.pt").exists()


@pytest.mark.slow
def test_an_arm_that_diverges_is_a_finding_and_is_not_kept(
    tiny_data: Path, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "wild.yaml"
    wild = "  slow: {optim.lr: 1.0e+20}"
    file.write_text(
        ARMS.replace("  slow: {optim.lr: 0.02}", wild).replace("epochs: 2", "epochs: 1")
    )
    done = cli(*line(file, tiny_data), "--out", str(tmp_path / "wild"))
    assert done.returncode == 0, done.stderr
    (table,) = record_of(tmp_path / "wild")["stages"]
    assert [(row["arm"], row["failed"]) for row in table] == [
        ("base", 0),
        ("slow", 3),
        ("adamw", 0),
    ]
    assert table[1]["verdict"] == "failed"
    assert record_of(tmp_path / "wild")["answer"]["leader"] == "adamw"


@pytest.mark.slow
def test_a_changed_plan_is_registered_beside_the_old_one_and_says_after_how_many_runs(
    file: Path, tiny_data: Path, tmp_path: Path, cli: Cli
) -> None:
    file.write_text(ARMS.replace("epochs: 2", "epochs: 1"))
    words = [*line(file, tiny_data), "--out", str(tmp_path / "more")]
    assert cli(*words).returncode == 0
    file.write_text(file.read_text().replace("seeds: 0-2", "seeds: 0-3"))
    again = cli(*words, "--json")
    assert again.stderr.count("status=finished") == 3  # the new seed alone
    report = document(again.stdout)["study"]
    assert [one["runs_before"] for one in report["registrations"]] == [0, 9]
    assert report["claims"]["slow"] == "registered after 9 runs"
    file.write_text(file.read_text().replace("optim.lr: 0.02", "optim.lr: 0.03"))
    renamed = cli(*words)
    assert renamed.returncode == 2
    assert "a new name for the new arm" in renamed.stderr
    edited = tmp_path / "more" / "registration-1.json"
    edited.write_text(edited.read_text().replace("Which rate?", "Is adamw best?"))
    assert cli(*words).returncode == 4


@pytest.mark.slow
def test_a_folder_of_another_question_or_other_data_is_refused(
    file: Path, tiny_data: Path, small_data: Path, tmp_path: Path, cli: Cli
) -> None:
    file.write_text(ARMS.replace("epochs: 2", "epochs: 1"))
    out = ["--out", str(tmp_path / "one")]
    assert cli(*line(file, tiny_data), *out).returncode == 0
    assert cli(*line(file, small_data), *out).returncode == 4
    file.write_text(file.read_text().replace("Which rate?", "Another?"))
    assert cli(*line(file, tiny_data), *out).returncode == 2
