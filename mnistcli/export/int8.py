"""A trained network's answers in integers only, as `--to c-int8` computes them."""

from __future__ import annotations

import torch
from torch import Tensor

from mnistcli.data import mnist
from mnistcli.export.fold import fold
from mnistcli.export.integer import LOGIT_BITS, IntegerGraph, run_integers
from mnistcli.export.quantise import quantise
from mnistcli.runs.trained import Trained

CALIBRATED_ON = 512  # training pictures, the first ones
_BATCH = 125


def in_integers(trained: Trained, dataset: mnist.Dataset) -> IntegerGraph:
    """Return a network in integers, calibrated on pictures that it was trained on.

    Raises:
        UsageError: it uses a layer that is not known, or needs more than 32 bits.
    """
    trained_on = dataset.train
    if trained.recipe.validation:
        trained_on, _ = mnist.validation_parts(dataset)
    with torch.no_grad():  # in inference mode a trace can't follow tensors
        return quantise(fold(trained), trained_on.images[:CALIBRATED_ON])


@torch.no_grad()
def integer_logits(trained: Trained, dataset: mnist.Dataset, images: Tensor) -> Tensor:
    """Return logits, float32 [N, 10] on the CPU, for pictures uint8 [N, 28, 28]."""
    graph = in_integers(trained, dataset)
    parts = [run_integers(graph, part) for part in images.cpu().split(_BATCH)]
    logits: Tensor = torch.cat(parts).float() / 2**LOGIT_BITS
    return logits
