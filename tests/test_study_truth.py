"""Simulated truth: what a study says is held against what is so, over hundreds of studies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from mnistcli.study import answer, chances
from mnistcli.study.schema import Study
from mnistcli.study.stages import Step, chance, schedule, seeds_for

SD, TOTAL = 0.0005, 10_000
STUDIES = 400
Truth = dict[str, float]


def study_of(**values: Any) -> Study:
    return Study.model_validate({"question": "?", "base": "v3", "detect": 0.05} | values)


def result(name: str, share: float, seed: int) -> dict[str, Any]:
    """What `answer` reads of a run's result."""
    return {
        "model": "v3", "network": "n", "parameters": 1, "mult_adds": 1, "receptive_field": 1,
        "recipe_digest": name, "split": "validation", "data": "d", "origin": "o", "seed": seed,
        "runtime": {"device": "cpu", "precision": "bf16", "compiled": True},
        "seconds_per_epoch": 1.0, "last": {"accuracy": share, "loss": 1 - share},
    }  # fmt: skip


def entries(step: Step, arms: list[str], truth: Truth, rng: np.random.Generator) -> list[Any]:
    """Runs of accuracies around the truth, in whole pictures."""
    found = []
    for name in arms:
        shares = np.round(rng.normal(0.994 + truth[name], SD, len(step.seeds)) * TOTAL) / TOTAL
        runs = [result(name, float(x), seed) for x, seed in zip(shares, step.seeds, strict=True)]
        found.append(answer.entry(name, runs, 0))
    return found


def simulate(steps: tuple[Step, ...], truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
    """The answer of one study by its own code, without training."""
    arms, tables = list(truth), []
    for step in steps:
        if step.confirms and not answer.worth_confirming(tables[-1], arms[1]):
            break
        done = entries(step, arms, truth, rng)
        tables.append(answer.table(step, done, 0.0005))
        if step.keep is not None:
            arms = [arms[0], *answer.best(done, step.keep)]
    return answer.conclude(steps, tables, SD)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"seeds": "0-4"},
        {"stages": [{"seeds": "0-2", "keep": 2}, {"seeds": "3-7"}]},
        {"stages": [{"seeds": "0-3", "keep": 1}, {"seeds": "4-9"}]},
    ],
)
def test_without_a_difference_at_most_one_study_in_twenty_calls_an_arm_better(
    values: dict[str, Any],
) -> None:
    steps = schedule(study_of(**values), 3, 0)
    truth = dict.fromkeys(("base", "a", "b", "c"), 0.0)
    rng = np.random.default_rng(19)
    called = sum(simulate(steps, truth, rng)["better"] for _ in range(1000))
    assert 1 <= called <= 50


@pytest.mark.parametrize("challengers", [1, 3])
@pytest.mark.slow
def test_a_true_difference_is_found_at_the_planned_seeds(challengers: int) -> None:
    study = study_of()
    needed = seeds_for(study, challengers, SD, pairs=True)
    steps = schedule(study, challengers, needed)
    truth = {"base": 0.0} | dict.fromkeys("abc"[:challengers], 0.0) | {"a": 0.0005}
    rng = np.random.default_rng(5)
    found = sum(simulate(steps, truth, rng)["winner"] == "a" for _ in range(STUDIES))
    planned = chance(steps, 0.0005, SD, pairs=True)
    assert 0.8 <= planned < 0.85
    assert found / STUDIES == pytest.approx(planned, abs=0.054)  # 2.7 sd of the simulation
    assert found >= 0.8 * STUDIES - 2.7 * 8


@pytest.mark.slow
def test_halving_keeps_the_best_arm_as_often_as_the_plan_says() -> None:
    stages = [{"seeds": "0-2", "keep": 3}, {"seeds": "3-7", "keep": 1}, {"seeds": "8-15"}]
    steps = schedule(study_of(stages=stages), 6, 0)
    truth = {"base": 0.0} | dict.fromkeys("abcdef", 0.0) | {"d": 0.0005}
    rng = np.random.default_rng(3)
    kept: Counter[int] = Counter()
    for _ in range(STUDIES):
        arms = list(truth)
        for number, step in enumerate(steps[:2], start=1):
            assert step.keep is not None
            arms = [arms[0], *answer.best(entries(step, arms, truth, rng), step.keep)]
            kept[number] += "d" in arms
    expected = 1.0
    for number, step in enumerate(steps[:2]):
        assert step.keep is not None
        expected *= chances.keeps(
            0.0005, SD, len(step.seeds), challengers=step.entering, keep=step.keep
        )
        assert kept[number + 1] / STUDIES == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("arms", "points"), [(5, 0.035), (10, 0.047), (60, 0.071)])
def test_the_best_of_equal_arms_is_flattered_as_was_simulated_before(
    arms: int, points: float
) -> None:
    assert 100 * chances.flattery(0.00043, 2, arms) == pytest.approx(points, abs=0.0011)


@pytest.mark.slow
def test_the_leader_is_shrunk_by_what_it_owes_to_having_been_picked() -> None:
    steps = schedule(study_of(seeds="0-4"), 9, 0)
    truth = {"base": 0.0} | dict.fromkeys("abcdefghi", 0.0)
    rng = np.random.default_rng(1)
    found = [simulate(steps, truth, rng) for _ in range(200)]
    raw = np.mean([one["leader_mean"] for one in found]) - 0.994
    shrunk = np.mean([one["shrunk"] for one in found]) - 0.994
    assert raw > 0.0002
    assert abs(shrunk) < 0.00005


def test_seeds_agree_with_the_simulated_ones_of_independent_arms() -> None:
    """13 and 25 seeds an arm were simulated for 0.05 points at sd 0.043 and 0.061."""
    for sd, simulated in ((0.00043, 13), (0.00061, 25)):
        needed = chances.seeds_needed(
            lambda n, sd=sd: chances.finds(0.0005, sd, n, pairs=False)  # type: ignore[misc]
        )
        assert abs(needed - simulated) <= 1
