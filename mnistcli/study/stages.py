"""The stages of a study, resolved: which seeds, how many arms come in, how many go on."""

from __future__ import annotations

from dataclasses import dataclass

from mnistcli.study import chances
from mnistcli.study.schema import Study

RULE = (
    "Each stage compares every challenger with the base on the stage's own seeds: Student's test, "
    "paired by seed where both train one network, else Welch's; p corrected for the number of "
    "challengers (Holm). The highest means go on, to the last measurement only one above the "
    "base that is not the same. An arm is called better only where it was the "
    "one challenger of a stage whose seeds no arm had used before, p < 0.05; worse at p < 0.05 in "
    "any stage; the same where the corrected interval lies within the margin."
)


@dataclass(frozen=True)
class Step:
    """A stage: `entering` challengers and the base on `seeds`; `keep` of the challengers go on.

    `keep` is None in the last one. Where one challenger enters, the stage decides. One that
    `confirms` is left out where the leader is not above the base, or shown to be the same.
    """

    name: str
    seeds: tuple[int, ...]
    entering: int
    keep: int | None
    epochs: int | None = None
    confirms: bool = False

    @property
    def decides(self) -> bool:
        """Whether an arm may be called better by this stage: nothing was picked on its seeds."""
        return self.entering == 1 and self.keep is None

    @property
    def runs(self) -> int:
        """How many runs it takes."""
        return (self.entering + 1) * len(self.seeds)


def schedule(study: Study, challengers: int, needed: int) -> tuple[Step, ...]:
    """Return the stages; `needed` seeds per arm where the file leaves their number to `detect`.

    Where several challengers come out of the last stage, its leader is measured once more beside
    the base on fresh seeds, unless `confirm` is false.
    """
    if study.stages is not None:
        named = [(stage.seeds, stage.keep, stage.epochs) for stage in study.stages]
    else:
        named = [(study.seeds or tuple(range(needed)), None, None)]
    steps: list[Step] = []
    entering = challengers
    for number, (seeds, keep, epochs) in enumerate(named, start=1):
        kept = None if keep is None else min(keep, entering)
        steps.append(Step(f"stage {number}", seeds, entering, kept, epochs))
        entering = kept or entering
    confirmed = entering > 1 if study.confirm is None else study.confirm is not False
    if confirmed:
        last = steps[-1]
        steps[-1] = Step(last.name, last.seeds, last.entering, 1, last.epochs)
        fresh = study.confirm if isinstance(study.confirm, tuple) else _fresh(steps)
        steps.append(Step("confirm", fresh, 1, None, last.epochs, confirms=True))
    return tuple(steps)


def _fresh(steps: list[Step]) -> tuple[int, ...]:
    first = 1 + max(seed for step in steps for seed in step.seeds)
    return tuple(range(first, first + len(steps[-1].seeds)))


def chance(steps: tuple[Step, ...], effect: float, sd: float, *, pairs: bool) -> float:
    """Return the chance that one challenger, better by `effect`, is kept to the end and found."""
    found = 1.0
    for step in steps:
        n = len(step.seeds)
        if step.keep is not None:
            found *= chances.keeps(effect, sd, n, challengers=step.entering, keep=step.keep)
        elif n < chances.LEAST_SEEDS:
            return 0.0
        else:
            alpha = chances.ALPHA / step.entering  # of several: Holm's is at least Bonferroni's
            found *= chances.finds(effect, sd, n, pairs=pairs, alpha=alpha)
    return found


def seeds_for(study: Study, challengers: int, sd: float, *, pairs: bool) -> int:
    """Return the seeds per arm with which a true `detect` is found in 80 % of such studies."""
    effect = study.detect / 100

    def reached(n: int) -> float:
        return chance(schedule(study, challengers, n), effect, sd, pairs=pairs)

    return chances.seeds_needed(reached)
