"""The options about many processes, and what contradicts them; found before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mnistcli.engine import ranks
from mnistcli.engine.ranks import Ranks
from mnistcli.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from mnistcli.recipe import Recipe

OURS = "mnistcli-jobs-"  # begins the name of a launch that `--jobs` made

_PANEL = "Many processes"

Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="Train the seeds in this many processes, which share this machine's cores.",
        show_default="one process",
        rich_help_panel=_PANEL,
    ),
]
MaxRestarts = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="How often to start the processes of --jobs again after one of them died.",
        show_default="3",
        rich_help_panel=_PANEL,
    ),
]
Parallel = Annotated[
    Literal["runs", "data"],
    typer.Option(
        help="Divide whole runs, or each batch of one run (DDP; eager on CUDA), among the "
        "processes of --jobs or torchrun.",
        rich_help_panel=_PANEL,
    ),
]


def check(jobs: int | None, max_restarts: int | None, parallel: str, resume: object) -> None:
    """Refuse options about ranks that contradict one another or do nothing."""
    launched, by_jobs = ranks.launched(), ranks.here().launch.startswith(OURS)
    if max_restarts is not None and jobs is None:
        raise UsageError("--max-restarts belongs to --jobs", hint="torchrun has its own")
    if launched and jobs is not None and not by_jobs:
        raise UsageError("torchrun starts the processes already", hint="leave out --jobs")
    if parallel == "data" and not launched and jobs is None:
        raise UsageError(
            "--parallel data needs several processes", hint="--jobs N, or torchrun -m mnistcli …"
        )
    if (launched or jobs is not None) and isinstance(resume, Path):
        raise UsageError("--resume PATH continues one run in one process", hint="--resume auto")


def check_set(
    recipe: Recipe, seeds: Sequence[int], jobs: int | None, parallel: str, out: Path | None
) -> None:
    """Refuse a set that its ranks can't share out."""
    size = ranks.here().size if ranks.launched() else jobs or 1
    if ranks.launched() and out is None:
        raise UsageError("several processes need one shared folder", hint="--out DIR")
    if parallel == "data" and recipe.batch_size % size:
        fitting = max(1, round(recipe.batch_size / size)) * size
        raise UsageError(
            f"a batch of {recipe.batch_size} can't be shared equally among {size} processes",
            hint=f"--batch-size {fitting}",
        )
    if parallel == "runs" and (jobs or 1) > len(seeds):
        raise UsageError(
            f"{jobs} processes for {len(seeds)} run{'s' * (len(seeds) > 1)}",
            hint="--seeds 0-4, fewer --jobs, or --parallel data",
        )


def told_elsewhere(error: BaseException) -> bool:
    """Return whether another process reports this error: the first rank, or `--jobs` itself."""
    if (place := own_rank()) is None:
        return False
    by_parent = isinstance(error, Interrupted) and place.launch.startswith(OURS)
    return by_parent or (isinstance(error, Interrupted | UsageError) and not place.leads)


def own_rank() -> Ranks | None:
    """Return this process's place in a launch; None alone, or where its variables make no sense,
    which the command itself will say."""
    try:
        return ranks.here() if ranks.launched() else None
    except UsageError:
        return None


def say_if_alone(say: Callable[[str], None]) -> None:
    """Tell whoever expects a rank's share that this process trains everything.

    Refusing would stop jobs on clusters that set these variables for each container, a single one
    too; what is trained alone is complete and right, and a folder's lock keeps copies apart.
    """
    if names := ranks.stray():
        be = "is" if len(names) == 1 else "are"
        say(
            f"notice: {' and '.join(names)} {be} set, but torchrun did not start this process: "
            "it trains alone"
        )
