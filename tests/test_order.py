"""Order and streams depend on seed, stream and epoch, and on nothing else."""

from __future__ import annotations

import torch

from mnistcli.data.order import epoch_order, stream_seed


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    first = epoch_order(1000, 128, seed=3, epoch=2)
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(first, epoch_order(1000, 128, seed=3, epoch=2))
    assert not torch.equal(first, epoch_order(1000, 128, seed=3, epoch=3))
    assert not torch.equal(first, epoch_order(1000, 128, seed=4, epoch=2))


def test_each_picture_is_seen_and_every_batch_is_full() -> None:
    order = epoch_order(1000, 128, seed=0, epoch=1)
    assert order.shape == (8, 128)
    assert order.unique().tolist() == list(range(1000))
    assert epoch_order(5, 8, seed=0, epoch=1).shape == (1, 8)


def test_streams_do_not_collide() -> None:
    seeds = {
        stream_seed(s, n, e) for s in range(20) for n in ("order", "augment") for e in range(20)
    }
    assert len(seeds) == 800
