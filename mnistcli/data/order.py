"""Private random streams, and the order of an epoch: functions of (seed, stream, epoch) alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def stream_seed(seed: int, stream: str, epoch: int) -> int:
    """Return a 63-bit seed mixed from the three by SHA-256: streams never overlap by arithmetic."""
    digest = hashlib.sha256(f"{seed}/{stream}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: str, epoch: int) -> torch.Generator:
    """Return a CPU generator for one stream of one epoch."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, epoch))


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return int64 indices [batches, batch_size]: a permutation in whole batches.

    The last batch is filled up from the beginning of the permutation, so that each picture is
    seen and every step has one shape (469 steps of 128 for 60,000 pictures, 32 seen twice).
    """
    permutation = torch.randperm(images, generator=generator(seed, "order", epoch))
    batches = -(-images // batch_size)
    padded = torch.arange(batches * batch_size) % images
    return permutation[padded].reshape(batches, batch_size)
