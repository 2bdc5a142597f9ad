"""Device, precision, compilation and threads: decided once at a run's start, then obeyed.

Owns torch's other global flags and the global generator.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from mnistcli.data.order import stream_seed
from mnistcli.engine import choice, kernels, lanes, machine, ranks, threads
from mnistcli.engine.choice import Precision
from mnistcli.errors import EnvironmentFault, UsageError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Below this many pictures in the whole run, compiling the CPU's kernels takes longer than they
# save.
_COMPILE_PAYS_IMAGES = 10_000


@dataclass(frozen=True)
class Request:
    """What the user asked for; `auto` and None leave the choice to the machine."""

    device: str = "auto"
    precision: str = "auto"
    compile: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Runtime:
    """What was decided. `device_reason` says why a present NVIDIA device is not used.

    `threads_reason` says why there are fewer threads than cores, where nobody asked for so few;
    `compiler` is the version line of what compiled the CPU's kernels; `teacher_precision` is what
    a teacher computes in, where not in the same.
    """

    device: str
    device_name: str
    precision: Precision
    compiled: bool
    threads: int
    device_reason: str | None = None
    compile_reason: str | None = None
    compiler: str | None = None
    threads_reason: str | None = None
    teacher_precision: Precision | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that autocast computes in."""
        return _DTYPES[self.precision]

    def autocast(self, *, teacher: bool = False) -> torch.autocast:
        """Return the context that a network computes in, or its teacher."""
        dtype = _DTYPES[(self.teacher_precision if teacher else None) or self.precision]
        return torch.autocast(self.torch_device.type, dtype, enabled=dtype != torch.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint stores them."""
        return asdict(self)


def decide(request: Request) -> Runtime:
    """Choose device and precision, eager for now, and set torch's flags and thread count.

    Ranks of one machine get a GPU each, in turn where there are fewer, and an equal share of the
    cores.

    Raises:
        EnvironmentFault: a device or precision was asked for that is not here.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.set_float32_matmul_precision("highest")
    device, reason = choice.device(request.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams and graphs belong to the current one
    precision = choice.precision(request.precision, device)
    count, too_few = threads.choose(request.threads, device)
    threads.use(count)
    return Runtime(
        device=str(device),
        device_name=machine.device_name(device),
        precision=precision,
        compiled=False,
        threads=count,
        device_reason=reason,
        threads_reason=too_few,
    )


def choose_compile(
    runtime: Runtime,
    request: Request,
    model: nn.Module,
    *,
    images_to_train: int,
    own: bool = False,
    shared: bool = False,
) -> Runtime:
    """Decide on compiled kernels or, on CUDA, a recorded step: `auto` where it pays and works.

    `own` is a network that is not registered, `shared` a run of several ranks. The kernels multiply
    in bf16 where the processor has matrix tiles, else in fp32: on the CPU that becomes the run's
    precision unless another was asked for.

    Raises:
        EnvironmentFault: it was asked for, and no compiler works here.
        UsageError: it was asked for, and can't be done for this network, in this precision or by
            ranks that share the run.
    """
    asked = request.compile
    if asked == "off":
        return runtime
    if runtime.device != "cpu":
        return _choose_recording(runtime, asked, own=own, shared=shared)
    if asked == "auto" and images_to_train < _COMPILE_PAYS_IMAGES:
        return replace(runtime, compile_reason="too short a run for compiling to pay")
    precision = choice.kernel_precision(request.precision)
    reason = lanes.why_not(model)
    if precision == "bf16" and not machine.cpu_has_tiles():
        reason = "the kernels need matrix tiles (AMX) for bf16"
    if reason is not None and asked == "on":
        raise UsageError(f"can't compile: {reason}", hint="--compile auto")
    fault = reason or compile_fault(precision)
    if fault is None:
        best = runtime.precision if runtime.precision != precision else None
        return replace(runtime, compiled=True, compiler=machine.compiler_version(),
                       precision=precision, teacher_precision=best)  # fmt: skip
    if asked == "on":
        raise EnvironmentFault(
            f"can't compile: {fault}", hint="--compile off, or install what is missing"
        )
    return replace(runtime, compile_reason=fault)


def _choose_recording(runtime: Runtime, asked: str, *, own: bool, shared: bool) -> Runtime:
    """Record a step where every step does the same; who wrote an own network knows."""
    if shared and asked == "on":
        what = "ranks that share a run train eagerly on CUDA"
        raise UsageError(what, where="--compile on", hint="--compile auto, or --parallel runs")
    if shared:
        return replace(runtime, compile_reason="ranks share the run")
    if own and asked == "auto":
        what = "an own network may do other things at each step; --compile on if it never does"
        return replace(runtime, compile_reason=what)
    return replace(runtime, compiled=True)


def compile_fault(precision: Precision = "fp32") -> str | None:
    """Return None, or why the CPU's kernels for a precision can't be had here."""
    found = kernels.compiled(_DTYPES[precision])
    return found if isinstance(found, str) else None


def restore(
    saved: dict[str, Any],
    request: Request,
    model: nn.Module,
    *,
    own: bool = False,
    shared: bool = False,
) -> tuple[Runtime, tuple[str, ...]]:
    """Return the runtime of a saved run and, where it can't be had here, what differs.

    Anything but an empty tuple means that the resumed run is not bit-identical.
    """
    kind = saved["device"].split(":")[0]
    device = kind if ranks.launched() else saved["device"]  # a rank has a device of its own
    wanted = Request(
        device=device if request.device == "auto" else request.device,
        precision=_saved_precision(saved) if request.precision == "auto" else request.precision,
        threads=request.threads or saved["threads"],
    )
    try:
        runtime = decide(wanted)
    except EnvironmentFault:  # another machine: as near as it comes
        runtime = decide(replace(request, threads=wanted.threads))
    asked = request.compile
    if asked == "auto":
        moved = runtime.device != "cpu" and (shared or kind == "cpu")
        asked = "off" if not saved["compiled"] else "auto" if moved else "on"
    wanted = replace(wanted, compile=asked)
    try:
        runtime = choose_compile(runtime, wanted, model, images_to_train=0, own=own, shared=shared)
    except (EnvironmentFault, UsageError):
        if request.compile == "on":
            raise
        native = saved["precision"] != "bf16" or machine.cpu_has_bf16()
        if request.precision == "auto" and runtime.device == "cpu" and native:
            runtime = replace(runtime, precision=saved["precision"])
    keys = ["device", "device_name", "precision", "teacher_precision", "compiled", "threads"]
    before, now = ({**r, "device": r["device"].split(":")[0]} for r in (saved, runtime.to_dict()))
    if before.get("compiler") and now["compiler"]:
        keys.append("compiler")
    return runtime, changes(before, now, keys)


def _saved_precision(saved: dict[str, Any]) -> str:
    """Return the precision to ask for: that of a saved run, or where kernels choose it, auto."""
    chosen = saved["compiled"] and saved["device"] == "cpu"
    alike = saved["precision"] == "fp32" and saved.get("teacher_precision") is None
    return "auto" if chosen and not alike else str(saved["precision"])


def changes(before: dict[str, Any], now: dict[str, Any], keys: Iterable[str]) -> tuple[str, ...]:
    """Return `key old → new` for each key whose value changed."""
    return tuple(f"{k} {before.get(k)} → {now[k]}" for k in keys if before.get(k) != now[k])


def wait_for_device(device: torch.device) -> None:
    """Return once the device has nothing left to do; for timing alone."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seed_everything(seed: int, stream: str, epoch: int = 0) -> None:
    """Seed the global generators (weight initialisation, dropout) from (seed, stream, epoch).

    Python's own and NumPy's too, for own networks that draw from them; NumPy takes 32 bits.
    """
    value = stream_seed(seed, stream, epoch)
    torch.manual_seed(value)
    random.seed(value)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(value % 2**32)


def place(model: nn.Module, runtime: Runtime) -> nn.Module:
    """Move a network to the device in channels-last layout."""
    return model.to(runtime.torch_device).to(memory_format=torch.channels_last)


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Let cuDNN choose what may not repeat bit for bit, as it does where nobody asks."""
    torch.backends.cudnn.deterministic = False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = True
