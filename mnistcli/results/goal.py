"""The goal as gates: few parameters, few epochs, accuracy above a target. In integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

GATES = ("params", "epochs", "accuracy", "last3", "goal")


@dataclass(frozen=True)
class Limits:
    """The bounds: parameters below, epochs at most, accuracy above `target` percent."""

    max_params: int = 8000
    max_epochs: int = 15
    target: str = "99.4"


@dataclass(frozen=True)
class Check:
    """One gate's verdict; `passed` is None where the figure is not known.

    `interval` is the 95 % interval of an accuracy, as shares.
    """

    gate: str
    need: str
    got: str
    passed: bool | None
    interval: tuple[float, float] | None = None


def above(correct: int, total: int, target: str) -> bool:
    """Return whether correct / total is above `target` percent, without rounding."""
    return Fraction(correct * 100, total) > Fraction(target)


def judge_parameters(parameters: int, limits: Limits) -> Check:
    """Judge the parameter budget alone."""
    return Check(
        "params", f"< {limits.max_params:,}", f"{parameters:,}", parameters < limits.max_params
    )


def judge_epochs(epochs: int | None, limits: Limits) -> Check:
    """Judge the number of epochs alone; None is undecided."""
    met = epochs <= limits.max_epochs if epochs is not None else None
    return Check("epochs", f"<= {limits.max_epochs}", str(epochs or "unknown"), met)


def judge(
    parameters: int, epochs: int | None, counts: Sequence[tuple[int, int]], limits: Limits
) -> list[Check]:
    """Judge all four gates; `counts` are (correct, total) of the epochs, the last one last.

    `epochs` None or fewer than three counts leave the gates that need them undecided.
    """
    from mnistcli.results.stats import wilson

    checks = [judge_parameters(parameters, limits), judge_epochs(epochs, limits)]
    last, target = counts[-1], limits.target
    met = above(*last, target)
    checks.append(Check("accuracy", f"> {target} %", _percent(*last), met, wilson(*last)))
    three = counts[-3:]
    checks.append(
        Check(
            "last3",
            f"all > {target} %",
            " ".join(f"{100 * c / t:.2f}" for c, t in three) if len(counts) > 1 else "unknown",
            all(above(c, t, target) for c, t in three) if len(three) == 3 else None,
        )
    )
    return checks


def failures(checks: Sequence[Check], required: Sequence[str]) -> list[str]:
    """Return the required gates that did not pass; an undecided gate has not passed."""
    wanted = set(GATES) if "goal" in required else set(required)
    return [check.gate for check in checks if check.gate in wanted and not check.passed]


def to_dicts(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the checks as plain values."""
    return [vars(check) for check in checks]


def judge_result(result: dict[str, Any], limits: Limits) -> list[Check]:
    """Judge a recorded run by these limits, not by those of its own time."""
    total = result["last"]["total"]
    counts = [(correct, total) for correct in result["correct_by_epoch"]]
    return judge(result["parameters"], result["epochs_done"], counts, limits)


def verdict(checks: Sequence[Check]) -> str:
    """Return PASS, FAIL or, where nothing failed but a figure is missing, UNKNOWN."""
    if any(check.passed is False for check in checks):
        return "FAIL"
    return "PASS" if all(check.passed for check in checks) else "UNKNOWN"


def _percent(correct: int, total: int) -> str:
    return f"{100 * correct / total:.2f} % ({correct:,} of {total:,})"
