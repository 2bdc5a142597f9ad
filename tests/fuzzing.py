"""Mutated files, thousands of them: each is accepted as valid or refused in the documented way.

    python tests/fuzzing.py KIND[,KIND…] SEED COUNT

where KIND is checkpoints, idx, recipes, or results, sets, metrics, records, env, predictions;
prints one line of JSON for each. A process of its own, so that a crash is seen; `peak_mib` is its
peak so far, that of earlier kinds included.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzzed_inputs import checkpoints, idx, recipes
from fuzzed_results import env, metrics, predictions, records, results, sets
from mutations import Mutate, Probe

from mnistcli.engine import machine

KINDS: dict[str, Callable[[], tuple[Mutate, Probe]]] = {
    "checkpoints": checkpoints, "idx": idx, "recipes": recipes, "results": results, "sets": sets,
    "metrics": metrics, "records": records, "env": env, "predictions": predictions,
}  # fmt: skip
_SECONDS = 20  # more is a hang


def documented(kind: str, error: Exception) -> bool:
    """Return whether an error is what this kind of file is refused with."""
    from mnistcli.errors import ArtifactError, UsageError

    if kind == "checkpoints" and isinstance(error, UsageError):
        return "holds the own network" in error.what
    return isinstance(error, UsageError if kind == "recipes" else ArtifactError)


def fuzz(kind: str, seed: int, count: int) -> dict[str, Any]:
    """Return what became of `count` mutated files; case i has the seed "SEED/i"."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    mutate, probe = KINDS[kind]()
    failures: list[str] = []
    outcomes = {"changed and valid": 0, "unchanged": 0, "refused": 0}
    started = time.monotonic()
    signal.signal(signal.SIGALRM, too_long)
    with tempfile.TemporaryDirectory() as name:
        for case in range(count):
            mutate(Random(f"{seed}/{case}"), Path(name))
            signal.alarm(_SECONDS)
            try:
                outcomes["changed and valid" if probe(Path(name)) else "unchanged"] += 1
            except Exception as error:
                outcomes["refused"] += 1
                if not documented(kind, error):
                    failures.append(f"{seed}/{case}: {type(error).__name__}: {error}"[:300])
            signal.alarm(0)
    return {
        "fuzz": kind, "seed": seed, "count": count, **outcomes,
        "failures": failures, "seconds": round(time.monotonic() - started, 1),
        "peak_mib": round(machine.peak_rss_mib()),
    }  # fmt: skip


if __name__ == "__main__":
    for kind in sys.argv[1].split(","):
        sys.stdout.write(json.dumps(fuzz(kind, int(sys.argv[2]), int(sys.argv[3]))) + "\n")
