"""Ranks that train one run together: torch's process group and reductions.

Which rank this is, `engine.ranks` says; how ranks find each other, `engine.meeting`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from mnistcli.engine.ranks import Ranks
from mnistcli.errors import MnistcliError, SetEnded
from mnistcli.models import own
from mnistcli.models.registry import ModelEntry

T = TypeVar("T")


class ToldByFirst(MnistcliError):
    """What another rank raised; the first one tells of it."""


@dataclass(frozen=True)
class Group:
    """The ranks that train one run together; alone, every reduction is the identity."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this rank evaluates, writes and shows."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """This rank and their number: the slice of each batch that it takes."""
        return self.rank, self.size

    def stream(self, name: str) -> str:
        """Return the name of a random stream in which no two ranks draw the same."""
        return name if self.leads else f"{name}/{self.rank}"

    def wrap(self, model: nn.Module, entry: ModelEntry, device: torch.device) -> nn.Module:
        """Return the network whose backward pass averages gradients over the ranks.

        An own one may leave layers out, other ones at each step and rank: looking for them costs
        a walk through the graph. Batch normalisation sees a rank's own slice on the CPU and the
        whole batch on CUDA; its running statistics are the first rank's.
        """
        if self.size == 1:
            return model
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(
            _Own(model, entry, self).to(device) if entry.own else model,
            device_ids=None if device.type == "cpu" else [device],
            find_unused_parameters=entry.own,
        )

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the ranks, whose slices are equally large."""
        return value if self.size == 1 else self.sum(value) / self.size

    def first(self, make: Callable[[], T] | None = None) -> T:
        """Return on every rank what `make` returned on the first; it runs nowhere else.

        What it raises there is raised on every rank, so that none waits for the others in vain.
        """
        if self.size == 1:
            return make() if make is not None else None  # type: ignore[return-value]
        told: list[Any] = [None, None]
        fault: BaseException | None = None
        if self.leads and make is not None:
            try:
                told[0] = make()
            except (Exception, SystemExit, SetEnded) as error:
                # What is no error of ours may have a type that other ranks can't unpickle.
                told[1] = error if isinstance(error, MnistcliError) else ToldByFirst(repr(error))
                fault = error
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        if told[1] is not None:
            raise fault or told[1]
        return told[0]  # type: ignore[no-any-return]

    def refuse(self, fault: MnistcliError | None) -> None:
        """If any rank has a fault, raise on every rank that of the lowest such rank.

        All call it at the same place of a step: else the others would wait for a sum of gradients.
        """
        source = torch.tensor(self.size if fault is None else self.rank)
        dist.all_reduce(source, dist.ReduceOp.MIN)
        if (rank := int(source)) < self.size:
            told = [fault]
            dist.broadcast_object_list(told, src=rank, device=torch.device("cpu"))
            assert told[0] is not None
            raise told[0] if self.leads else ToldByFirst(str(told[0]))

    def agree(self, should_stop: Callable[[], int | None]) -> Callable[[], int | None]:
        """Return a `should_stop` that every rank calls at the same step and answers alike."""
        if self.size == 1:
            return should_stop

        def agreed() -> int | None:
            signum = torch.tensor(should_stop() or 0)
            dist.all_reduce(signum, dist.ReduceOp.MAX)
            return int(signum) or None

        return agreed


ALONE = Group()


class _Own(nn.Module):
    """An own network inside DDP: what it raises on one rank ends the run on all.

    Nothing uses `spare`: where DDP looks for unused parameters and finds none, it warns.
    """

    def __init__(self, network: nn.Module, entry: ModelEntry, group: Group) -> None:
        super().__init__()
        self.network, self.spare = network, nn.Parameter(torch.zeros(()))
        self._entry, self._group = entry, group

    def forward(self, images: Tensor) -> Tensor:
        fault = None
        try:
            with own.faults(self._entry, "fails in training"):
                logits: Tensor = self.network(images)
        except MnistcliError as error:
            fault = error
        self._group.refuse(fault)
        return logits


@contextmanager
def grouped(ranks: Ranks, store: Store, device: torch.device) -> Iterator[Group]:
    """Hold a process group over all ranks: gloo for the CPU's tensors, nccl for a GPU's."""
    on_gpu = device.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.size,
        device_id=device if on_gpu else None,
    )
    try:
        yield Group(ranks.rank, ranks.size)
    finally:
        # DDP holds the group in a cycle; its threads have to end before the interpreter does, or
        # they may abort the process (seen once in about 30 exits).
        gc.collect()
        dist.destroy_process_group()
