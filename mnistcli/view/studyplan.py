"""Show a study's plan: its arms, its stages, what it can tell and what it costs."""

from __future__ import annotations

from typing import Any

from mnistcli.view.output import Output
from mnistcli.view.tables import Column, plain_line, print_table, whole_percent


def points(share: float | None, digits: int = 3) -> str:
    """Return a difference of shares in points, without a sign."""
    return "–" if share is None else f"{100 * share:.{digits}f}"


def minutes(seconds: float | None) -> str:
    """Return a time in words: 40 s, 25 min, 3.5 h."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _chance(share: float | None) -> str:
    return "–" if share is None else whole_percent(share)


def _plain_seconds(value: float) -> str:
    return f"{value:.1f}"


_ARMS = [
    Column("arm", "arm", left=True),
    Column("model", "model", left=True, rank=2),
    Column("changed", "changes of the base", left=True),
    Column("epochs", "epochs", rank=1),
    Column(
        "seconds_per_epoch",
        "s/epoch",
        lambda v: "–" if v is None else f"{v:.1f}",
        _plain_seconds,
        rank=1,
    ),
]
_STAGES = [
    Column("stage", "stage", left=True),
    Column("seeds", "seeds"),
    Column("arms", "arms"),
    Column("runs", "runs"),
    Column("epochs", "epochs", rank=2),
    Column("drops", "drops", rank=1),
    Column("keeps_best", "keeps the best", _chance, points, rank=1),
    Column("flattery", "best flattered by", points, points, rank=1),
    Column("seconds", "time", minutes, _plain_seconds),
]


def show_plan(output: Output, plan: dict[str, Any], jobs: int) -> None:
    """Print the plan, then the sentences that it comes to."""
    if not output.quiet:
        output.product(plan["question"] if output.live else plain_line(
            "study", [Column("question", "")], plan))  # fmt: skip
    rows = [arm | {"changed": " ".join(arm["changes"])} for arm in plan["arms"]]
    print_table(output, _ARMS, rows, title="", kind="arm")
    print_table(output, _STAGES, plan["stages"], title="", kind="stage")
    for sentence in sentences(plan, jobs):
        output.talk(f"note: {sentence}")
    values = {
        "runs": plan["runs"],
        "detect": points(plan["detect"]),
        "power": f"{plan['power']:.2f}",
        "detectable": points(plan["detectable"]),
        "sd": points(plan["sd"]),
        "minutes": None if plan["seconds"] is None else f"{plan['seconds'] / jobs / 60:.1f}",
    }
    output.result(plain_line("plan", [Column(key, key) for key in values], values))


def sentences(plan: dict[str, Any], jobs: int) -> list[str]:
    """Return what a plan can tell, what it costs, and what that rests on."""
    least = plan["detectable"]
    said = [
        f"an arm better by {points(plan['detect'], 2)} points is found in "
        f"{whole_percent(plan['power'])} of such studies; 80 % "
        + ("is out of reach" if least is None else f"is reached at {points(least)} points"),
        f"a run's sd over seeds is taken as {points(plan['sd'])} points ({plan['sd_source']})",
        _cost(plan, jobs),
    ]
    flattered = [stage for stage in plan["stages"] if stage["flattery"] > 0]
    said += [
        f"{stage['stage']}: the best of {stage['arms'] - 1} arms that do not differ looks "
        f"{points(stage['flattery'])} points better than it is"
        for stage in flattered
    ]
    if not any(stage["decides"] for stage in plan["stages"]):
        said.append("no stage measures one arm on fresh seeds: none will be called better")
    return said


def _cost(plan: dict[str, Any], jobs: int) -> str:
    if plan["seconds"] is None:
        unknown = [arm["model"] for arm in plan["arms"] if arm["seconds_per_epoch"] is None]
        return f"{plan['runs']} runs; no record tells how long {unknown[0]} takes"
    sources = dict.fromkeys(arm["pace_source"] for arm in plan["arms"])
    many = f" by {jobs} processes" if jobs > 1 else ""
    shown = "; ".join(list(sources)[:3])
    return f"{plan['runs']} runs, about {minutes(plan['seconds'] / jobs)}{many} (as {shown})"
