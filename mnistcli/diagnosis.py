"""What this machine offers a run: versions, devices, compiler, data, disk. Names no user or host.

Data only; nothing is written.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mnistcli.data import mnist
from mnistcli.engine import choice, machine, runtime
from mnistcli.engine.runtime import Request
from mnistcli.errors import MnistcliError

_PACKAGES = (
    "mnistcli", "torch", "torchvision", "typer", "rich", "torchinfo", "pydantic", "pyyaml",
    "matplotlib", "numpy",
)  # fmt: skip
_ROOM_MIB = 100  # a run folder takes less than one


@dataclass(frozen=True)
class Finding:
    """One check in words; `ok` is None where something is absent and nothing misses it."""

    name: str
    ok: bool | None
    found: str


def diagnose(device: str, data_dir: Path | None) -> list[Finding]:
    """Check all that a run needs; a fault is a finding and never an error."""
    findings = [
        _device(device),
        Finding("cpu", True, machine.device_name(torch.device("cpu"))),
        _cuda(),
        *_precisions(device),
        Finding("threads", True, f"{torch.get_num_threads()} of {os.cpu_count()} processors"),
        _compiler(device),
        _data(data_dir),
        _disk(Path("checkpoints")),
    ]
    return [Finding(one.name, one.ok, shorten(one.found)) for one in findings]


def versions() -> dict[str, str | None]:
    """Return the installed version of each package that a figure or a screen depends on."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    found["torch"] = str(torch.__version__)  # with the build's local part
    return found | {"cuda": torch.version.cuda, "nvidia driver": machine.nvidia_driver()}


def shorten(text: str) -> str:
    """Return the text with the home folder as ~."""
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def _device(asked: str) -> Finding:
    """Say what a run would use here, or why it would end at once."""
    try:
        chosen = runtime.decide(Request(device=asked))
    except MnistcliError as error:
        return Finding("device", False, str(error))
    why = f"; the NVIDIA device is not used: {chosen.device_reason}" if chosen.device_reason else ""
    kernels = choice.kernel_precision("auto")
    compiles = chosen.device == "cpu" and runtime.compile_fault(kernels) is None
    found = f"{asked} chooses {chosen.device} with {kernels if compiles else chosen.precision}{why}"
    return Finding("device", not chosen.device_reason, found)


def _cuda() -> Finding:
    """Run a kernel on each NVIDIA device."""
    devices = machine.cuda_devices() if torch.cuda.is_available() else []
    faults = [machine.cuda_fault(torch.device("cuda", i)) for i in range(len(devices) or 1)]
    driver = machine.nvidia_driver() is not None
    if any(faults):
        words = [*devices, *(fault for fault in faults if fault)]
        return Finding("cuda", False if driver else None, "; ".join(words))
    return Finding("cuda", True, f"{', '.join(devices)}: a kernel ran")


def _precisions(asked: str) -> list[Finding]:
    """Say which arithmetic the chosen device has by itself."""
    findings = []
    for precision in ("bf16", "fp16"):
        try:
            chosen = runtime.decide(Request(device=asked, precision=precision))
            findings.append(Finding(precision, True, f"native on {chosen.device}"))
        except MnistcliError as error:
            findings.append(Finding(precision, None, str(error)))
    return findings


def _compiler(asked: str) -> Finding:
    """Say whether the kernels that training on the CPU runs through compile; CUDA needs none."""
    try:
        chosen = runtime.decide(Request(device=asked))
    except MnistcliError as error:
        return Finding("compiler", None, str(error))
    fault = runtime.compile_fault(choice.kernel_precision("auto"))
    if fault is not None and chosen.device != "cpu":
        return Finding("compiler", None, f"{fault}; training on {chosen.device} needs none")
    return Finding("compiler", fault is None, fault or "builds what the CPU trains through")


def _data(data_dir: Path | None) -> Finding:
    try:
        dataset = mnist.load(data_dir)
    except MnistcliError as error:
        return Finding("data", False, str(error))
    counts = f"{len(dataset.train.labels):,} + {len(dataset.test.labels):,} pictures"
    same = dataset.hashes == mnist.FILES
    kind = "MNIST by its SHA-256" if same else f"not MNIST, digest {dataset.digest}"
    where = f", in {data_dir}" if data_dir is not None else ", packaged"
    return Finding("data", True, f"{counts}, {kind}{where}")


def _disk(folder: Path) -> Finding:
    """Look at the folder, or at the nearest one above that exists."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**20
    allowed = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    words = f"./{folder}: {'writable' if allowed else 'not writable'}, {free / 1024:.1f} GiB free"
    return Finding("disk", allowed and free > _ROOM_MIB, words)
