"""What the machine could do at best: its matrix-product peak, and the time floor it sets."""

from __future__ import annotations

import time

import torch

from mnistcli.engine.runtime import Runtime, wait_for_device

FLOPS_PER_MULT_ADD = 2
TRAINING_PASSES = 3  # forward, gradient of the input, gradient of the weights: one product each


def matmul_gflops(runtime: Runtime, dtype: torch.dtype) -> float:
    """Return the best rate in 10⁹ operations per second of square matrix products."""
    side, device = (8192 if runtime.torch_device.type == "cuda" else 2048), runtime.torch_device
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(6):  # the first one warms up
        wait_for_device(device)
        started = time.perf_counter()
        a @ b
        wait_for_device(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


def floor_seconds(trained: int, read: int, images: int, gflops: float) -> float:
    """Return the time of an epoch's arithmetic at the matrix-product peak.

    Mult-adds for one picture: `trained` of the network, `read` of the teacher that it learns from.
    """
    mult_adds = trained * TRAINING_PASSES + read
    return mult_adds * FLOPS_PER_MULT_ADD * images / (gflops * 1e9)
