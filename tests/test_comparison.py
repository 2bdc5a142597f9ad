"""Gathering results for a comparison."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mnistcli import files
from mnistcli.missing import _of_one_kind
from mnistcli.models.registry import COMPARED
from mnistcli.results.comparison import rows
from mnistcli.results.gather import gather
from mnistcli.view.comparison import _cut


def test_thousands_of_runs_are_compared_in_seconds(tmp_path: Path) -> None:
    """6,000 take 1.2 s on two cores; looking each up among all others took 15."""
    record = json.loads(files.packaged("checkpoints", "records", "v3.jsonl").open().readline())
    folders = [tmp_path / f"s{seed}" for seed in range(6000)]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(record | {"seed": seed}))
    started = time.monotonic()
    names = [str(folder) for folder in folders]
    assert [row["n"] for row in rows(gather([*names, str(tmp_path / "*")]))] == [6000]
    assert time.monotonic() - started < 10


def test_a_model_means_its_test_figures_and_a_folder_its_recipes() -> None:
    assert {record["split"] for record in gather(["v3"])} == {"test"}
    tried = gather(["study"])
    assert {record["split"] for record in tried} == {"validation"}
    assert {record["recipe"].partition("/")[0] for record in tried} == {"study"}
    assert {record["model"] for record in gather([])} == set(COMPARED)


def test_a_row_says_how_many_runs_pass_each_gate_and_how_sure_their_share_is() -> None:
    row = next(row for row in rows(gather(["plain/v3"])) if row["recipe"] == "plain/v3")
    assert row["gates"] == {"params": 9, "epochs": 9, "accuracy": 5, "last3": 5}
    assert (row["passes"], row["last3"], row["above"]) == (5, 5, pytest.approx(5 / 9))
    assert row["above_interval"] == pytest.approx([0.2667, 0.8112], abs=1e-4)  # Wilson


def test_runs_of_different_teachers_are_different_rows() -> None:
    first, second, *_ = gather(["plain/v3"])
    assert len(rows([first, second])) == 1
    assert len(rows([first, second | {"teacher_sha256": "a"}])) == 2


def on_cuda(result: dict[str, Any], **changes: Any) -> dict[str, Any]:
    runtime = result["runtime"] | {"device": "cuda:0", "device_name": "a GPU"}
    return result | {"runtime": runtime} | changes


def test_devices_have_rows_of_their_own_and_a_baseline_on_each() -> None:
    base, arm = gather(["study/v3-base"])[0], gather(["study/v3-kd"])[0]
    better = on_cuda(base, last=base["last"] | {"accuracy": 0.999})
    table = rows([base, arm, better, on_cuda(arm)], base)
    assert [row["recipe"] for row in table] == [
        "study/v3-base", "study/v3-base on cuda", "study/v3-kd", "study/v3-kd on cuda",
    ]  # fmt: skip
    against = [base["last"]["accuracy"], 0.999]
    gains = [arm["last"]["accuracy"] - accuracy for accuracy in against]
    assert [row["difference"] for row in table] == pytest.approx([0, 0, *gains])
    assert _cut(table[1]["recipe"], 10) == "study/v3-b… on cuda"


def test_published_runs_of_one_kind_of_device_make_a_set() -> None:
    base = gather(["study/v3-base"])[0]
    cpu = [base | {"seed": seed} for seed in range(2)]
    cuda = [on_cuda(base, seed=seed) for seed in range(5)]
    assert sorted(_of_one_kind([*cuda, *cpu])) == [0, 1, 2, 3, 4]
    assert all(run["runtime"]["device"] == "cuda:0" for run in _of_one_kind([*cpu, *cuda]).values())
    assert _of_one_kind([]) == {}
