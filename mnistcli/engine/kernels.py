"""The CPU's kernels, compiled at a run's start for the processor at hand, in two to four seconds.

`lanes.cpp` says how they work, `lanes` what goes through them. Nothing is kept on the disk.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from mnistcli.engine import machine
from mnistcli.engine.scratch import temporary_folder
from mnistcli.errors import EnvironmentFault

# Loops are vectors already: left to vectorise, g++ takes twice as long for nothing.
_FLAGS = (
    "-std=c++20", "-O2", "-march=native", "-fno-tree-vectorize", "-fno-trapping-math",
    "-fno-math-errno", "-pthread", "-shared", "-fPIC",
)  # fmt: skip
_FUNCTIONS = {
    "lanes_create": ctypes.c_void_p, "lanes_destroy": None, "lanes_forward": ctypes.c_bool,
    "lanes_backward": ctypes.c_bool,
}  # fmt: skip


def compiled(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | str:
    """Return the loaded kernels, or why they can't be had here."""
    return _compile().get(dtype, "the kernels need matrix tiles (AMX) for bf16")


@functools.cache
def _compile() -> dict[torch.dtype, ctypes.CDLL | str]:
    """Compile the kernels for fp32 and, at the same time, those for bf16 where there are tiles."""
    kinds: dict[torch.dtype, tuple[str, ...]] = {torch.float32: _FLAGS}
    if machine.cpu_has_tiles():
        kinds[torch.bfloat16] = (*_FLAGS, "-DHALVES")
    source = Path(__file__).with_name("lanes.cpp")
    try:
        with temporary_folder() as folder:
            libraries = {dtype: folder / f"{dtype}.so" for dtype in kinds}
            jobs: list[list[str | Path]] = [
                [*flags, "-o", libraries[dtype]] for dtype, flags in kinds.items()
            ]
            faults = machine.run_compiler(source, *jobs, folder=folder)
            made = zip(libraries.items(), faults, strict=True)
            return {dtype: fault or _load(path) for (dtype, path), fault in made}
    except EnvironmentFault as error:
        return dict.fromkeys(kinds, f"{error}; {error.hint}")


def _load(library: Path) -> ctypes.CDLL | str:
    """Return a library with all of our functions, or why there is none."""
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:  # a folder that forbids execution; a compiler that wrote nothing
        where = "where that folder forbids execution, let TMPDIR name another"
        return f"the compiled kernels can't be loaded: {error}; {where}"
    for name, returned in _FUNCTIONS.items():
        if not hasattr(loaded, name):
            return f"the compiled kernels lack {name}"
        getattr(loaded, name).restype = returned
    return loaded
