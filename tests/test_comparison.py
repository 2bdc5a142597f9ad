"""What makes a row, who is in it, and what is said of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from mnistcli import files
from mnistcli.models.registry import COMPARED
from mnistcli.results.comparison import rows
from mnistcli.results.gather import gather
from mnistcli.results.stats import paired, welch
from mnistcli.runs.missing import _of_one_kind
from mnistcli.view.comparison import _cut, notes

Result = dict[str, Any]
RECORDS = files.packaged("checkpoints", "records")


def runs(shares: Sequence[float], folder: str = "mine", **changes: Any) -> list[Result]:
    """Return runs of v3 with these accuracies, seeds 0, 1, 2, …, as if from a folder."""
    base = next(result for result in gather(["v3"]).results if result["recipe"] == "v3")
    return [
        base
        | {"seed": seed, "origin": folder, "run": f"{folder}/s{seed}"}
        | {"last": base["last"] | {"accuracy": share}}
        | changes
        for seed, share in enumerate(shares)
    ]


def on_cuda(result: Result, **changes: Any) -> Result:
    runtime = result["runtime"] | {"device": "cuda:0", "device_name": "a GPU"}
    return result | {"runtime": runtime} | changes


@pytest.mark.slow
def test_thousands_of_runs_are_compared_in_seconds(tmp_path: Path) -> None:
    """3,000 take 0.8 s of processor time; looking each up among all others took 4."""
    record = json.loads((RECORDS / "v3.jsonl").open().readline())
    folders = [tmp_path / f"s{seed}" for seed in range(3000)]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        values = record["recipe_values"] | {"seed": seed}
        changed = record | {"seed": seed, "recipe_values": values}
        (folder / "result.json").write_text(json.dumps(changed))
    started = time.process_time()
    names = [str(folder) for folder in folders]
    found = gather([*names, str(tmp_path / "*")]).results
    assert [row["n"] for row in rows(found)] == [3000]
    assert time.process_time() - started < 15  # 4 s beside busy processes; it was quadratic once


def test_a_model_means_its_test_figures_and_a_folder_its_recipes() -> None:
    assert {record["split"] for record in gather(["v3"]).results} == {"test"}
    tried = gather(["study"]).results
    assert {record["split"] for record in tried} == {"validation"}
    assert {record["recipe"].partition("/")[0] for record in tried} == {"study"}
    recorded = {record["model"] for record in gather([]).results}
    assert {"v1", "v7"} <= recorded <= set(COMPARED)


def test_a_row_says_how_many_runs_pass_each_gate_and_how_sure_their_share_is() -> None:
    row = next(row for row in rows(gather(["plain/v3"]).results) if row["n"] == 9)
    assert row["gates"] == {"params": 9, "epochs": 9, "accuracy": 5, "last3": 5}
    assert (row["passes"], row["last3"], row["above"]) == (5, 5, pytest.approx(5 / 9))
    assert row["above_interval"] == pytest.approx([0.2667, 0.8112], abs=1e-4)  # Wilson


@pytest.mark.parametrize(
    "change",
    [
        {"teacher_sha256": "a"}, {"network": "another"}, {"recipe_digest": "a"}, {"origin": "b"},
        {"split": "validation"}, {"data": "a"}, {"code_path": "eager"},
    ],
)  # fmt: skip
@pytest.mark.slow
def test_whatever_differs_but_the_seed_is_another_row(change: Result) -> None:
    first, second = runs([0.99, 0.98])
    assert len(rows([first, second])) == 1
    assert len(rows([first, second | change])) == 2


def test_a_published_figure_does_not_change_with_what_stands_beside() -> None:
    published = gather(["v3"]).results
    base = next(result for result in published if result["recipe"] == "v3")
    alone = {row["recipe"]: row["mean"] for row in rows(published) if row["which"] is None}
    mine = runs([0.9])
    for both in ([*published, *mine], [*mine, *published]):
        table = rows(both, baseline=base)
        ours = next(row for row in table if row["origin"] == "mine")
        theirs = next(row for row in table if row["recipe"] == "v3" and row["n"] == 30)
        assert (ours["n"], theirs["mean"]) == (1, alone["v3"])
        assert ours["difference"] == pytest.approx(0.9 - alone["v3"])
        assert (ours["which"], theirs["which"]) == ("in mine", "published")


def test_a_second_run_of_a_seed_is_a_row_of_its_own() -> None:
    table = rows([*runs([0.99, 0.98, 0.97]), *runs([0.96])])
    assert [(row["n"], row["which"]) for row in table] == [
        (3, "run 1 of a seed"),
        (1, "run 2 of a seed"),
    ]


def test_every_run_with_kernels_and_without_is_counted() -> None:
    table = rows(gather([str(RECORDS / "kernels.jsonl")]).results)
    assert sorted((row["n"], row["which"]) for row in table) == [
        (16, "compiled"), (16, "torch.compile"), (24, "compiled"), (24, "eager"),
    ]  # fmt: skip


def test_the_replaced_runs_of_plain_v3_are_back_beside_those_that_replaced_them() -> None:
    found = {row["which"]: row for row in rows(gather(["plain/v3"]).results)}
    assert found["torch.compile"]["by_seed"] == {0: 0.9949, 1: 0.9945, 2: 0.9945}
    assert found["compiled"]["n"] == 9


def test_devices_have_rows_of_their_own_and_a_baseline_on_each() -> None:
    base, arm = (gather([f"study/{name}"]).results[0] for name in ("v3-base", "v3-kd"))
    better = on_cuda(base, last=base["last"] | {"accuracy": 0.999})
    table = rows([base, arm, better, on_cuda(arm)], base)
    assert [row["recipe"] for row in table] == [
        "study/v3-base", "study/v3-base on cuda", "study/v3-kd", "study/v3-kd on cuda",
    ]  # fmt: skip
    against = [base["last"]["accuracy"], 0.999]
    gains = [arm["last"]["accuracy"] - accuracy for accuracy in against]
    differences = [row["difference"] for row in table if "kd" in row["recipe"]]
    assert differences == pytest.approx(gains)
    assert _cut(table[1]["recipe"], 10) == "study/v3-b… on cuda"


def test_times_of_different_machines_have_no_median() -> None:
    first, second = runs([0.99, 0.98])
    runtime = first["runtime"]
    alike = rows([first | {"seconds_per_epoch": 10.0}, second | {"seconds_per_epoch": 12.0}])
    assert alike[0]["seconds_per_epoch"] == 11.0
    threads = second | {"runtime": runtime | {"threads": runtime["threads"] + 1}}
    (mixed,) = rows([first, threads])
    assert (mixed["n"], mixed["seconds_per_epoch"], mixed["images_per_second"]) == (2, None, None)


def test_published_runs_of_one_kind_of_device_make_a_set() -> None:
    base = gather(["study/v3-base"]).results[0]
    cpu = [base | {"seed": seed} for seed in range(2)]
    cuda = [on_cuda(base, seed=seed) for seed in range(5)]
    assert sorted(_of_one_kind([*cuda, *cpu])) == [0, 1, 2, 3, 4]
    assert all(run["runtime"]["device"] == "cuda:0" for run in _of_one_kind([*cpu, *cuda]).values())
    assert _of_one_kind([]) == {}


GOOD = [0.9953, 0.9955, 0.9957, 0.9952, 0.9956]


def standing(shares: Sequence[float], *, margin: float = 0.0005, **changes: Any) -> str:
    """Return how a row stands to one with the accuracies GOOD."""
    table = rows([*runs(GOOD), *runs(shares, "other", **changes)], margin=margin)
    return next(str(row["standing"]) for row in table if row["origin"] == "other")


@pytest.mark.slow
def test_nearness_needs_evidence_as_a_difference_does() -> None:
    assert standing([0.9919, 0.9917, 0.9921, 0.9918, 0.0987]) == "not separated"  # it collapsed
    assert standing([0.9943, 0.9945, 0.9947, 0.9943, 0.9945]) == "below"
    near = [share + 0.0001 * (-1) ** seed - 0.00003 for seed, share in enumerate(GOOD)]
    assert standing(near) == "tied"
    assert standing(near, margin=0.00005) == "not separated"
    assert standing([0.9955, 0.9949], network="another") == "few runs"


@pytest.mark.slow
def test_pairs_are_of_one_network_and_all_else_is_independent() -> None:
    other = [0.9950, 0.9953, 0.9955, 0.9951, 0.9952]
    for change, test, name in (({}, paired, "paired by seed"), ({"network": "b"}, welch, "Welch")):
        table = rows([*runs(GOOD), *runs(other, "other", **change)])
        row = next(row for row in table if row["origin"] == "other")
        assert row["leader_test"] == name
        assert row["leader_p"] == pytest.approx(test(other, GOOD).p)


@pytest.mark.slow
def test_marks_are_corrected_for_the_rows_tested() -> None:
    arms = [runs([share - 0.0003 * seed for seed, share in enumerate(GOOD)], f"{i}",
                 recipe_digest=f"{i}") for i in range(4)]  # fmt: skip
    alone, among = rows([*runs(GOOD), *arms[0]]), rows([*runs(GOOD), *chain(*arms)])
    ps = [
        next(row["leader_p"] for row in table if row["origin"] == "0") for table in (alone, among)
    ]
    assert ps[1] == pytest.approx(min(1, 4 * ps[0]))
    assert "corrected for 4 rows tested" in " ".join(notes(among))
    assert "picked on these same figures" in " ".join(notes(among))


def test_two_runs_have_no_interval_and_no_test() -> None:
    table = rows([*runs(GOOD), *runs([0.9951, 0.9950], "two")], baseline=runs([0.5])[0])
    two = next(row for row in table if row["origin"] == "two")
    assert (two["interval"], two["difference_p"], two["leader_p"]) == (None, None, None)
    assert two["standing"] == "few runs"
    assert "fewer than three" in " ".join(notes(table))


def test_a_difference_over_common_seeds_says_which() -> None:
    later = [run | {"seed": run["seed"] + 2} for run in runs(GOOD, "later")]
    table = rows([*runs(GOOD), *later], baseline=runs([0.5])[0])
    row = next(row for row in table if row["origin"] == "later")
    assert row["difference_seeds"] == (2, 3, 4)
    assert "only over the common seeds 2, 3, 4" in " ".join(notes(table))
