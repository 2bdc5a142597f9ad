"""Device, precision, compilation and threads: decided once at a run's start, then obeyed.

Owns torch's global flags, the thread count and the global generator.
"""

from __future__ import annotations

import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mnistcli.data.order import stream_seed
from mnistcli.errors import EnvironmentFault, UsageError

Precision = Literal["fp32", "bf16", "fp16"]

# Below this many pictures in the whole run, compiling costs a CPU more than it saves: about 15 s
# once against 6 s for each 60,000 pictures (2 cores, v3, bf16).
_COMPILE_PAYS_IMAGES = 180_000


@dataclass(frozen=True)
class Request:
    """What the user asked for; `auto` and None leave the choice to the machine."""

    device: str = "auto"
    precision: str = "auto"
    compile: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Runtime:
    """What was decided. `device_reason` says why a present NVIDIA device is not used."""

    device: str
    device_name: str
    precision: Precision
    compiled: bool
    threads: int
    device_reason: str | None = None
    compile_reason: str | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that autocast computes in."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            self.precision
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint stores them."""
        return asdict(self)


def decide(request: Request) -> Runtime:
    """Choose device and precision, eager for now, and set torch's flags and thread count.

    Raises:
        EnvironmentFault: a device or precision was asked for that is not here.
    """
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    device, reason = _choose_device(request.device)
    precision = _choose_precision(request.precision, device)
    return Runtime(
        device=str(device),
        device_name=device_name(device),
        precision=precision,
        compiled=False,
        threads=torch.get_num_threads(),
        device_reason=reason,
    )


def choose_compile(runtime: Runtime, asked: str, *, images_to_train: int) -> Runtime:
    """Decide on compilation: `auto` where it pays and a compiler works, `on` or an error.

    Raises:
        EnvironmentFault: it was asked for, and no compiler works here.
    """
    if asked == "off":
        return runtime
    if asked == "auto" and runtime.device == "cpu" and images_to_train < _COMPILE_PAYS_IMAGES:
        return replace(runtime, compile_reason="too short a run for compiling to pay")
    fault = probe_compiler()
    if fault is None:
        return replace(runtime, compiled=True)
    if asked == "on":
        raise EnvironmentFault(
            f"can't compile: {fault}", hint="install g++ and Python's headers, or --compile off"
        )
    return replace(runtime, compile_reason=fault)


def restore(saved: dict[str, Any], request: Request) -> tuple[Runtime, tuple[str, ...]]:
    """Return the runtime of a saved run and, where it can't be had here, what differs.

    Anything but an empty tuple means that the resumed run is not bit-identical.
    """
    wanted = Request(
        device=saved["device"] if request.device == "auto" else request.device,
        precision=saved["precision"] if request.precision == "auto" else request.precision,
        compile=("on" if saved["compiled"] else "off")
        if request.compile == "auto"
        else request.compile,
        threads=request.threads or saved["threads"],
    )
    try:
        runtime = choose_compile(decide(wanted), wanted.compile, images_to_train=0)
    except EnvironmentFault:
        wanted = replace(request, threads=wanted.threads)
        runtime = choose_compile(decide(wanted), wanted.compile, images_to_train=0)
    keys = ("device", "device_name", "precision", "compiled", "threads")
    now = runtime.to_dict()
    return runtime, tuple(f"{k} {saved[k]} → {now[k]}" for k in keys if saved[k] != now[k])


def seed_everything(seed: int, stream: str, epoch: int = 0) -> None:
    """Seed the global generators (weight initialisation, dropout) from (seed, stream, epoch)."""
    torch.manual_seed(stream_seed(seed, stream, epoch))


def place(model: nn.Module, runtime: Runtime) -> nn.Module:
    """Move a network to the device in channels-last layout."""
    return model.to(runtime.torch_device).to(memory_format=torch.channels_last)


def compile_in_place(model: nn.Module, runtime: Runtime) -> None:
    """Compile where decided; on CUDA with CUDA graphs. State-dict keys stay as they are."""
    if runtime.compiled:
        # Its warning about an absent CUDA toolkit means nothing to a user without a GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        mode = "reduce-overhead" if runtime.torch_device.type == "cuda" else None
        model.compile(mode=mode, dynamic=False)


def device_name(device: torch.device) -> str:
    """Return the processor's or GPU's marketing name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Start a new epoch's peak on CUDA; the CPU's peak is the process's and can't be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib(device: torch.device) -> dict[str, float | None]:
    """Return peak allocated and reserved MiB on CUDA, or the process's peak resident MiB."""
    if device.type == "cuda":
        return {
            "allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20,
            "reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20,
            "rss_mib": None,
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    rss = peak / (2**20 if sys.platform == "darwin" else 2**10)
    return {"allocated_mib": None, "reserved_mib": None, "rss_mib": rss}


def probe_compiler() -> str | None:
    """Build a tiny C++ file against Python's headers; return None, or why it failed."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return "no C++ compiler found"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("#include <Python.h>\n#include <vector>\nint main() { return 0; }\n")
        command = [compiler, "-fsyntax-only", "-fopenmp", f"-I{sysconfig.get_paths()['include']}"]
        try:
            run = subprocess.run([*command, source], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{compiler} does not run: {error}"
    if run.returncode:
        first = (
            (run.stderr.strip() or "no message").splitlines()[0].replace(str(source), "probe.cpp")
        )
        return f"{compiler} fails: {first}"
    return None


def _choose_device(asked: str) -> tuple[torch.device, str | None]:
    kind, _, index = asked.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise UsageError(f"unknown device {asked!r}", hint="--device auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu"), None
    device = torch.device("cuda", int(index or 0))
    fault = _cuda_fault(device)
    if fault is None:
        return device, None
    if kind == "cuda":
        raise EnvironmentFault(f"{asked} can't be used: {fault}", hint="--device cpu")
    return torch.device("cpu"), fault if Path("/proc/driver/nvidia/version").exists() else None


def _cuda_fault(device: torch.device) -> str | None:
    """Run a real kernel; return None, or why it can't run."""
    if not torch.backends.cuda.is_built():
        return "this PyTorch is built without CUDA"
    if not torch.cuda.is_available():
        return "no usable NVIDIA device or driver"
    if (device.index or 0) >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} devices"
    try:
        torch.ones(8, device=device).sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def _choose_precision(asked: str, device: torch.device) -> Precision:
    if device.type == "cuda":
        native_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        best: Precision = "bf16" if native_bf16 else "fp16"
    else:
        native_bf16 = _cpu_has_bf16()
        best = "bf16" if native_bf16 else "fp32"
    if asked == "auto":
        return best
    if asked == "fp16" and device.type == "cpu":
        raise EnvironmentFault("fp16 is not supported on the CPU", hint="--precision bf16 or fp32")
    if asked == "bf16" and not native_bf16:
        raise EnvironmentFault(f"{device} has no native bf16", hint=f"--precision {best}")
    return asked  # type: ignore[return-value]


def _cpu_has_bf16() -> bool:
    """Read the processor's flags: x86 `avx512_bf16` / `amx_bf16`, Arm `bf16`."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
