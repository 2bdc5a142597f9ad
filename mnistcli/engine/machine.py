"""What this machine is and can do: names, memory, a kernel that runs, a compiler that works."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

_COMPILE_SECONDS = 120  # of which it needs two
# The variable that names a compiler, and the programs that are looked for without it.
_COMPILERS = {"C++": ("CXX", ("g++", "clang++")), "C": ("CC", ("gcc", "clang", "cc"))}


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
    return {"allocated_mib": None, "reserved_mib": None, "rss_mib": peak_rss_mib()}


def peak_rss_mib() -> float:
    """Return the process's peak resident MiB."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux; there getrusage would count the parent's peak before exec
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else KiB
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def run_compiler(
    source: Path, *jobs: Sequence[str | Path], folder: Path, language: str = "C++"
) -> list[str | None]:
    """Compile a C++ file with CXX, g++ or clang++, or a C file with CC, gcc, clang or cc.

    Once for each job's arguments, all at a time. Return for each None, or why it failed. What they
    make on the way goes to `folder`.
    """
    try:
        compiler = _compiler(language)
    except ValueError as error:
        return [f"{_COMPILERS[language][0]} is no command: {error}"] * len(jobs)
    if not compiler:
        return [f"no {language} compiler found"] * len(jobs)
    name = " ".join(compiler)
    commands = [(*compiler, *arguments, source) for arguments in jobs]
    try:
        runs = call(*commands, seconds=_COMPILE_SECONDS, folder=folder)
    except subprocess.TimeoutExpired:
        return [f"{name} does not end in {_COMPILE_SECONDS} seconds"] * len(jobs)
    except OSError as error:
        return [f"{name} does not run: {error}"] * len(jobs)
    said = [run.stderr.strip().splitlines() or ["no message"] for run in runs]
    first = [next((line for line in lines if "error" in line), lines[0]) for lines in said]
    return [
        f"{name} fails: {line.replace(str(source), source.name)}" if run.returncode else None
        for run, line in zip(runs, first, strict=True)
    ]


def compiler_version(language: str = "C++") -> str | None:
    """Return the first line that the compiler says of itself, or None where it says nothing."""
    try:
        (run,) = call([*_compiler(language), "--version"], seconds=10)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return next(iter(run.stdout.strip().splitlines()), None)


def call(
    *commands: Sequence[str | Path], seconds: float, folder: Path | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """Run programs side by side to their ends.

    Where they take longer together, all are killed with all that they started.
    """
    end = time.monotonic() + seconds
    environment = os.environ | ({} if folder is None else {"TMPDIR": str(folder)})
    with contextlib.ExitStack() as ends:
        running = [ends.enter_context(_started(command, environment)) for command in commands]
        found = []
        for process in running:
            output, errors = process.communicate(timeout=max(0, end - time.monotonic()))
            done = process.args, process.returncode, output, errors
            found.append(subprocess.CompletedProcess(*done))
        return found


@contextlib.contextmanager
def _started(
    command: Sequence[str | Path], environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace",
        process_group=0, env=environment,
    ) as process:  # fmt: skip
        try:
            yield process
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _compiler(language: str) -> list[str]:
    """Return the words that call a compiler, of CXX or CC first; none where there is none.

    Raises:
        ValueError: the variable has a quotation mark that nothing closes.
    """
    variable, names = _COMPILERS[language]
    found = next(filter(None, map(shutil.which, names)), None)
    return shlex.split(os.environ.get(variable, "")) or ([found] if found else [])


def cuda_fault(device: torch.device) -> str | None:
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


def cpu_has_bf16() -> bool:
    """Read the processor's flags: x86 `avx512_bf16` / `amx_bf16`, Arm `bf16`."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


@functools.cache
def cpu_has_tiles() -> bool:
    """Return whether this process may use Intel's AMX for bf16, and what turns numbers into bf16.

    Linux gives the right to a process that asks for it (ARCH_REQ_XCOMP_PERM).
    """
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    if not words >= {"amx_bf16", "avx512_bf16"}:
        return False
    arch_prctl, request, tile_data = (ctypes.c_long(number) for number in (158, 0x1023, 18))
    refused: int = ctypes.CDLL(None).syscall(arch_prctl, request, tile_data)
    return refused == 0


def cuda_devices() -> list[str]:
    """Return each NVIDIA device's name, compute capability and memory, in words."""
    found = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    return [f"{p.name} ({p.major}.{p.minor}, {p.total_memory / 2**30:.1f} GiB)" for p in found]


def nvidia_driver() -> str | None:
    """Return the kernel driver's version, or None where none is loaded."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split("\n")[0].split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")
