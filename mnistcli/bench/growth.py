"""Whether cost grows as the data does: whole epochs over fewer and over more pictures."""

from __future__ import annotations

from typing import Any

import torch

from mnistcli.bench.measure import Bench
from mnistcli.data.batches import steps_per_epoch
from mnistcli.data.mnist import Labelled
from mnistcli.engine import machine

SIZES = (10_000, 60_000, 240_000)


def growth(bench: Bench, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Train one epoch for each number of pictures; return images/s and peak memory of each.

    Rising sizes, since on the CPU the peak is the process's and never falls.
    """
    rows = []
    for images in sorted(sizes):
        machine.reset_peak_memory(bench.runtime.torch_device)
        steps = steps_per_epoch(images, bench.recipe.batch_size)
        seconds = sum(bench.steps(steps, repeated(bench.training, images)).values())
        speed = steps * bench.recipe.batch_size / seconds
        memory = machine.peak_memory_mib(bench.runtime.torch_device)
        rows.append({"images": images, "images_per_second": speed, "seconds": seconds, **memory})
    return rows


def repeated(data: Labelled, images: int) -> Labelled:
    """Return `images` pictures: the data cut off, or over and over."""
    index = torch.arange(images, device=data.images.device) % len(data.images)
    return Labelled(data.images[index], data.labels[index])
