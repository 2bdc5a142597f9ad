"""What ours is compared with: the reference project's pipeline, or a competent PyTorch loop."""

from __future__ import annotations

import logging
import time
from typing import Literal

from mnistcli.bench import competent
from mnistcli.bench.measure import Bench, Rival
from mnistcli.engine import ranks, threads
from mnistcli.engine.runtime import fastest_kernels, wait_for_device
from mnistcli.models.registry import build

Versus = Literal["baseline", "torch"]

_WARMUP_STEPS, _TRIAL_STEPS, _TRIALS = 8, 20, 5


def prepare(bench: Bench, *, name: Versus, compile: bool) -> Rival:
    """Return a rival ready to be timed, set up as serves it best here.

    `compile` lets the competent loop go through torch.compile where that is faster.
    """
    return _baseline(bench) if name == "baseline" else _torch(bench, compile)


def _baseline(bench: Bench) -> Rival:
    from mnistcli.bench import pil  # torchvision: two seconds

    def speed(steps: int, workers: int) -> float:
        with threads.all_of(bench.runtime):
            return pil.images_per_second(
                build(bench.entry, bench.recipe.model_args), bench.training, bench.runtime,
                steps=steps, workers=workers,
            )  # fmt: skip

    trials = {count: speed(15, count) for count in (0, ranks.here().cores)}
    best = max(trials, key=lambda count: trials[count])
    return Rival("baseline", lambda steps: speed(steps, best), {"baseline_workers": best})


def _torch(bench: Bench, compile: bool) -> Rival:
    """Warm each way up, time them in turn, and keep the fastest by its best time."""
    modes = competent.MODES[bench.runtime.torch_device.type][: None if compile else 1]
    loops = {
        mode: competent.Loop(bench.entry, bench.recipe, bench.training, bench.runtime, mode=mode)
        for mode in modes
    }
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA runtime"
    warmups = {mode: _seconds(bench, loop, _WARMUP_STEPS) for mode, loop in loops.items()}
    trials: dict[str, list[float]] = {mode: [] for mode in loops}
    for _ in range(_TRIALS):
        for mode, loop in loops.items():
            trials[mode].append(_seconds(bench, loop, _TRIAL_STEPS))
    best = min(trials, key=lambda mode: min(trials[mode]))
    batch = bench.recipe.batch_size
    rates = {mode: _TRIAL_STEPS * batch / min(spent) for mode, spent in trials.items()}
    return Rival(
        "torch",
        lambda steps: steps * batch / _seconds(bench, loops[best], steps),
        {"torch_mode": best, "torch_modes": rates, "torch_warmup_seconds": warmups[best]},
    )


@fastest_kernels()
def _seconds(bench: Bench, loop: competent.Loop, steps: int) -> float:
    with threads.all_of(bench.runtime):
        wait_for_device(bench.runtime.torch_device)
        started = time.monotonic()
        loop(steps)
        wait_for_device(bench.runtime.torch_device)
        return time.monotonic() - started
