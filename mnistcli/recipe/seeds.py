"""Seeds as people write them, `0-4` or `0,3,7`, and back."""

from __future__ import annotations

from collections.abc import Sequence

from mnistcli.errors import UsageError

_MAX_SEEDS = 10_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of `0-4` or `0,3,7`.

    Raises:
        UsageError: it is no such text, a seed stands twice, or there are too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not _is_count(first) or (dash and not _is_count(last)):
            raise UsageError(f"can't read seeds {text!r}", hint="--seeds 0-4 or --seeds 0,3,7")
        low, high = int(first), int(last or first)
        if high < low or high >= 2**31 or len(seeds) + high - low >= _MAX_SEEDS:
            raise UsageError(f"bad range of seeds {part!r}", hint="--seeds 0-4")
        seeds.extend(range(low, high + 1))
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"a seed appears twice in {text!r}", hint="--seeds 0-4")
    return tuple(seeds)


def show_seeds(seeds: Sequence[int]) -> str:
    """Return seeds as `0-4` or `0,3,7`, as `parse_seeds` reads them back."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _is_count(text: str) -> bool:
    """Return whether a text is a number of at most ten plain digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 10
