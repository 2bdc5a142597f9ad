"""Each figure in the README's prose, and in the pages beside the records, is a recorded one."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from mnistcli.models.registry import MODELS
from mnistcli.results.comparison import Row, rows
from mnistcli.results.gather import gather

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "checkpoints" / "records"


def page(*parts: str) -> str:
    """Return a page as one line, so that line breaks part no sentence."""
    return " ".join((ROOT.joinpath(*parts) / "README.md").read_text().split())


def recorded(name: str) -> Any:
    return json.loads((RECORDS / name).read_text())


def named(recipe: str) -> Row:
    found = [row for row in rows(gather([]).results) if row["recipe"] == recipe]
    return max(found, key=lambda row: row["n"])


def percent(recipe: str) -> str:
    return f"{100 * named(recipe)['mean']:.2f} %"


def in_turn(name: str) -> str:
    """Return 2.8 (2.7, 2.8, 2.9): a measurement's ratio, and those of its rounds."""
    found = recorded(name)
    return f"{found['ratio']:.1f} ({', '.join(f'{ratio:.1f}' for ratio in found['ratios'])})"


@pytest.mark.slow
def test_the_first_lines_say_what_the_records_say() -> None:
    said = page()
    v3, v8, v10 = (MODELS[name].parameters for name in ("v3", "v8", "v10"))
    assert f"{percent('v3')} on the test set with {v3:,} parameters (v3)" in said
    assert f"{percent('v8')} with {v8:,} (v8), {percent('v10')} with {v10:,} (v10)" in said
    runs = [named(name)["n"] for name in ("v3", "v8", "v10")]
    assert "means of {}, {} and {} runs".format(*runs) in said
    alone = named("plain/v3-muon")
    reach = f"{alone['passes']} of {alone['n']} runs reach the goal"
    assert f"Without a teacher v3 has {percent('plain/v3-muon')}, and {reach}" in said
    assert f"{recorded('bench-torch.json')['ratio']:.1f} times the images per second" in said
    (small,) = (one for one in recorded("export.json")
                if (one["model"], one["format"]) == ("v4", "c-int8"))  # fmt: skip
    tested = [one for one in recorded("int8.json") if one["split"] == "test"]
    share = fmean(one["int8"] / one["total"] for one in tested)
    weights = f"{small['weights_bytes']:,} bytes of weights"
    assert f"v4 keeps its {100 * share:.2f} % in {weights}" in said
    assert f"{recorded('cuda-v3.json')['seconds_per_epoch']:.2f} s per epoch on an H200" in said
    (disk,) = (one for one in recorded("measured.json") if "cuda" in one)
    assert f"takes {disk['all'] / 1e9:.1f} GB of disk, of which {disk['cuda'] / 1e9:.1f} GB" in said
    minutes = named("v3")["seconds_per_epoch"] * 15 / 60
    assert f"The 15 epochs took {minutes:.0f} minutes on one core of an AMD EPYC" in said
    assert named("v3")["machines"] == ["AMD EPYC, 1 thread, bf16 compiled, torch 2.14.1+cu130"]


def test_the_study_in_the_readme_had_that_answer() -> None:
    lines = (ROOT / "checkpoints" / "study" / "optimizer.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    arms: dict[str, dict[int, float]] = {}
    for run in runs:
        arm = arms.setdefault(run["recipe_values"]["optim"]["name"], {})
        arm[run["seed"]] = run["last"]["accuracy"]
    fresh = arms["muon"].keys() - arms["adamw"].keys()  # on which the leader was measured again
    points = 100 * fmean(arms["muon"][seed] - arms["sgd"][seed] for seed in fresh)
    assert f"after {len(runs)} runs: Muon is {points:.2f} points better" in page()


def test_what_one_sees_is_what_the_picture_shows() -> None:
    drawn = (RECORDS / "v3.svg").read_text()
    block = (ROOT / "README.md").read_text().partition("epoch  train loss")[2].partition("```")[0]
    figures = [word for word in block.split() if any(c.isdigit() for c in word)]
    assert len(figures) > 25
    assert [word for word in figures if word.strip("(),") not in drawn] == []


def test_reliability_is_what_the_record_says() -> None:
    lines = (ROOT / "tests" / "data" / "soak.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    random, steps, *fuzzed, exports, notebook = found
    said = page("tests")
    assert f"{random['SIGKILL']} SIGKILLs and {random['SIGTERM']} SIGTERMs at random times" in said
    assert (random["lost"], random["finished_equal"]) == (0, 3)
    assert f"After {random['SIGKILL'] + random['SIGTERM']} kills and signals at random" in page()
    assert f"each of the {steps['SIGKILL']} steps" in said
    assert f"all {steps['finished_equal']} resumed" in said
    assert {(one["count"], *one["failures"]) for one in fuzzed} == {(10_000,)}
    assert f"in at most {max(one['peak_mib'] for one in fuzzed)} MiB" in said
    assert f"{exports['networks']} random networks as C" in said
    assert f"over {exports['pictures']:,} random pictures" in said
    assert exports["failures"] == notebook["failures"] == []


def test_speed_is_what_the_records_say() -> None:
    said = page("checkpoints")
    for name in ("bench.json", "bench-distilled.json", "bench-torch.json"):
        assert f"{in_turn(name)} | `{name}`" in said
    ours, theirs = (recorded("bench.json")[f"{who}images_per_second"] for who in ("", "baseline_"))
    assert f"{ours:,.0f} images/s against {theirs:,.0f}" in said
    threads = recorded("bench-torch.json")["threads"]
    rounds = ", ".join(f"{ratio:.1f}" for ratio in sorted(threads["ratios"]))
    others = [recorded(name)["threads"]["ratio"] for name in ("bench.json", "bench-distilled.json")]
    first, second = (f"{ratio:.1f}" for ratio in others)
    third = f"Two threads bring {threads['ratio']:.1f} times one ({rounds}) in the third row's run"
    assert f"{third}, {first} in the first's and {second} in the second's" in said
    parts = recorded("bench-torch.json")["epoch_seconds"]
    seconds = "{step:.1f} s of steps, {input:.1f} s of input and {evaluation:.1f} s of evaluation"
    assert seconds.format(**parts) in said
    several, alone = (one["wall_seconds"] for one in recorded("jobs.json")["runs"][::-1])
    assert f"took {alone} s in one process with two threads and {several:.1f} s" in said
    jobs = recorded("bench-jobs.json")["jobs"]
    rounds = ", ".join(f"{ratio:.1f}" for ratio in sorted(jobs["ratios"]))
    assert f"train {jobs['ratio']:.1f} times as many runs per hour as one process" in said
    assert f"({rounds}; `bench-jobs.json`)" in said
    cuda = recorded("bench-cuda.json")
    ratio, *_ = in_turn("bench-cuda.json").split()
    assert f"{ratio} times the reference project's pipeline with 16 workers" in said
    images = f"{cuda['images_per_second']:,.0f} images/s"
    assert f"{images} against {cuda['baseline_images_per_second']:,.0f}" in said
    assert f"{recorded('cuda-v3.json')['seconds_per_epoch']:.2f} s per epoch" in said


@pytest.mark.slow
def test_what_made_the_difference_is_what_the_records_say() -> None:
    said = page("checkpoints")
    gained, plain = {}, {}
    for name in ("v1", "v2"):
        reported = MODELS[name].reported_accuracy
        assert reported is not None
        gained[name] = 100 * named(name)["mean"] - reported
        plain[name] = 100 * named(f"plain/{name}")["mean"] - reported
    first = f"v2 is {gained['v2']:.2f} points above the reference project's report, v1"
    assert f"{first} {gained['v1']:.2f} points" in said
    assert f"gives {plain['v2']:.2f} and {plain['v1']:.2f} of these" in said
    assert f"The teacher has {MODELS['teacher'].parameters:,} parameters" in said


def test_the_recorded_step_on_cuda_is_what_was_measured() -> None:
    said, (step, study, *_) = page("checkpoints"), recorded("measured.json")
    before, after = step["before"]["microseconds_per_step"], step["after"]
    assert f"one launch in place of {after['kernels_per_step']} (v3" in said
    assert f"takes {after['microseconds_per_step']['recorded'] / 1000:.2f} ms" in said
    inductor = before["torch.compile reduce-overhead, rest eager"] / 1000
    assert f"took {inductor:.2f} ms and 9 s to start" in said
    assert f"{before['eager'] / 1000:.1f} ms (the best of three rounds" in said
    assert f"trained {study['runs']} runs of the study in {study['seconds']} s" in said
