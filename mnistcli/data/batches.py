"""The pictures of one epoch as batches on the device, in order and augmented."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mnistcli.data import augment
from mnistcli.data.mnist import Labelled
from mnistcli.data.order import epoch_order, generator
from mnistcli.recipe import Recipe

# Pictures gathered and warped at once: amortises the calls and stays inside the CPU's caches.
_BLOCK_IMAGES = 1024


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return -(-images // batch_size)


def training_batches(
    data: Labelled, recipe: Recipe, epoch: int, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (pictures [B, 1, 28, 28] float32 normalised, labels [B]) for one epoch.

    Order and warps depend on the recipe, its seed and the epoch alone; they are drawn on the CPU
    and copied to the data's device once. `share` (rank, ranks) yields that rank's slice of each
    batch, B / ranks pictures.
    """
    device, size = data.images.device, recipe.batch_size // share[1]
    order = epoch_order(len(data.images), recipe.batch_size, recipe.seed, epoch).flatten()
    random = generator(recipe.seed, "augment", epoch)
    ranges = recipe.augment.faded(recipe.epochs + 1 - epoch)
    geometry = augment.draw(ranges, len(order), random)
    order = _slices(order, size, share).to(device)
    if geometry is not None:
        coefficients = _slices(geometry.coefficients, size, share)
        geometry = geometry._replace(coefficients=coefficients).to(device)
    block = max(1, _BLOCK_IMAGES // size) * size
    for start in range(0, len(order), block):
        index = order[start : start + block]
        warps = geometry.rows(start, start + block) if geometry is not None else None
        images = augment.to_input(data.images.index_select(0, index))  # copies whole pictures
        images = augment.apply(images, warps)
        labels = data.labels[index]
        yield from zip(
            torch.split(augment.normalise(images), size), torch.split(labels, size), strict=True
        )


def _slices(values: Tensor, size: int, share: tuple[int, int]) -> Tensor:
    """Return one rank's `size` rows of each batch, as a view where there is one rank."""
    rank, ranks = share
    return values.reshape(-1, ranks, size, *values.shape[1:])[:, rank].flatten(0, 1)
