"""Which device and precision a request means on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch

from mnistcli.engine import machine, ranks
from mnistcli.errors import EnvironmentFault, UsageError

Precision = Literal["fp32", "bf16", "fp16"]


def device(asked: str) -> tuple[torch.device, str | None]:
    """Return the device, and why an NVIDIA device that is here is not used.

    Raises:
        EnvironmentFault: it was asked for, and is not here.
        UsageError: there is no such kind of device.
    """
    kind, _, index = asked.partition(":")
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", asked):
        raise UsageError(f"unknown device {asked!r}", hint="--device auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu"), None
    local_rank = ranks.here().local_rank % max(1, torch.cuda.device_count())
    found = torch.device("cuda", int(index or local_rank))
    fault = machine.cuda_fault(found)
    if fault is None:
        return found, None
    if kind == "cuda":
        raise EnvironmentFault(f"{asked} can't be used: {fault}", hint="--device cpu")
    return torch.device("cpu"), fault if Path("/proc/driver/nvidia/version").exists() else None


def precision(asked: str, place: torch.device) -> Precision:
    """Return the precision asked for, or the fastest that a device has.

    Raises:
        EnvironmentFault: the device lacks it.
    """
    if place.type == "cuda":
        native_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        best: Precision = "bf16" if native_bf16 else "fp16"
    else:
        native_bf16 = machine.cpu_has_bf16()
        best = "bf16" if native_bf16 else "fp32"
    if asked == "auto":
        return best
    if asked == "fp16" and place.type == "cpu":
        raise EnvironmentFault("fp16 is not supported on the CPU", hint="--precision bf16 or fp32")
    if asked == "bf16" and not native_bf16:
        raise EnvironmentFault(f"{place} has no native bf16", hint=f"--precision {best}")
    return asked  # type: ignore[return-value]


def kernel_precision(asked: str) -> Precision:
    """Return what the CPU's kernels multiply in; `auto` is the faster that they have here."""
    if asked == "auto":
        return "bf16" if machine.cpu_has_tiles() else "fp32"
    return asked  # type: ignore[return-value]
