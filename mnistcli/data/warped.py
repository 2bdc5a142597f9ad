"""Training pictures as a recipe distorts them, to be looked at."""

from __future__ import annotations

import torch

from mnistcli.data import augment
from mnistcli.data.mnist import Labelled
from mnistcli.data.order import generator
from mnistcli.recipe import Recipe

DIGITS, WARPS = 10, 9  # a row a digit: the picture itself, then so many warps of it


def warped(data: Labelled, recipe: Recipe) -> list[bytes]:
    """Return the first picture of each class, 784 grey bytes, each followed by its warps.

    They are drawn as those of the recipe's first epoch are.
    """
    firsts = [int((data.labels == digit).nonzero()[0]) for digit in range(DIGITS)
              if bool((data.labels == digit).any())]  # fmt: skip
    images = augment.to_input(data.images[torch.tensor(firsts)]).repeat_interleave(WARPS, 0)
    ranges = recipe.augment.faded(recipe.epochs)
    drawn = augment.draw(ranges, len(images), generator(recipe.seed, "augment", 1))
    seen = (augment.apply(images, drawn) * 255).round().to(torch.uint8).squeeze(1)
    rows = seen.reshape(len(firsts), WARPS, 28, 28)
    sheet = torch.cat([data.images[torch.tensor(firsts)][:, None], rows], dim=1).flatten(0, 1)
    return [picture.numpy().tobytes() for picture in sheet]
