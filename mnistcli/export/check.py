"""An export run over the test set: its answers beside those of the network."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnistcli.engine import machine
from mnistcli.engine.scratch import temporary_folder
from mnistcli.errors import EnvironmentFault
from mnistcli.export.integer import LOGIT_BITS
from mnistcli.files import write_atomically
from mnistcli.results.figures import accuracy_dict

C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O2")
_RUN_SECONDS = 600
_ARM = ("-mcpu=cortex-m4", "-mthumb", *C_FLAGS[:-1], "-Os")
_CALLER = """\
#include <stdint.h>
#include <stdio.h>
#include <time.h>

int mnist_predict(const uint8_t image[784], {kind} scores[10]);

int main(void)
{{
    static uint8_t image[784];
    {kind} scores[10];
    clock_t spent = 0;

    while (fread(image, 1, sizeof image, stdin) == sizeof image) {{
        const clock_t start = clock();
        const int32_t digit = mnist_predict(image, scores);
        spent += clock() - start;
        fwrite(&digit, sizeof digit, 1, stdout);
        fwrite(scores, sizeof scores, 1, stdout);
    }}
    fprintf(stderr, "%.9f", (double)spent / CLOCKS_PER_SEC);
    return 0;
}}
"""


@dataclass(frozen=True)
class Answers:
    """What an export makes of pictures: digits [N], logits float64 [N, 10], seconds per picture."""

    digits: Tensor
    logits: Tensor
    seconds: float
    by: str


def compare(before: Tensor, after: Answers, labels: Tensor) -> dict[str, Any]:
    """Return what has changed from a network's logits [N, 10] to an export's answers."""
    digits, total = before.argmax(dim=1), len(labels)
    return {
        "changed": int((digits != after.digits).sum()),
        "total": total,
        "largest_difference": float((before.double() - after.logits).abs().max()),
        "before": accuracy_dict(int((digits == labels).sum()), total),
        "after": accuracy_dict(int((after.digits == labels).sum()), total),
        "checked_by": after.by,
        "microseconds": after.seconds * 1e6,
    }


def run_c(text: str, pictures: Tensor, *, integers: bool, flags: tuple[str, ...] = ()) -> Answers:
    """Compile a C file without a warning, and run it over pictures, uint8 [N, 28, 28].

    Raises:
        EnvironmentFault: no compiler is here, it fails, or the program does.
    """
    kind = "int32_t" if integers else "float"
    with temporary_folder() as folder:
        write_atomically(folder / "network.c", text.encode())
        write_atomically(folder / "main.c", _CALLER.format(kind=kind).encode())
        words = *C_FLAGS, *flags, str(folder / "main.c"), "-o", str(folder / "run")
        (fault,) = machine.run_compiler(folder / "network.c", words, folder=folder, language="C")
        if fault is not None:
            raise EnvironmentFault(f"the C file is not checked: {fault}", hint="let CC name one")
        raw, seconds = _run(folder / "run", pictures)
    table = torch.frombuffer(bytearray(raw), dtype=torch.int32).reshape(len(pictures), 11)
    scores = table[:, 1:]
    logits = scores.double() / 2**LOGIT_BITS if integers else scores.view(torch.float32).double()
    by = machine.compiler_version("C") or "the C compiler"
    return Answers(table[:, 0].long(), logits, seconds / max(1, len(pictures)), by)


def _run(program: Path, pictures: Tensor) -> tuple[bytes, float]:
    data = pictures.contiguous().numpy().tobytes()
    try:
        run = subprocess.run([program], input=data, capture_output=True, timeout=_RUN_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"the compiled file does not run: {error}") from error
    if run.returncode or len(run.stdout) != 44 * len(pictures):
        said = run.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise EnvironmentFault(f"the compiled file fails with {run.returncode}: {said}")
    return run.stdout, float(run.stderr)


def arm_sizes(text: str) -> dict[str, Any] | None:
    """Return flash and static RAM in bytes on a Cortex-M4, built for size (-Os), or None where no
    compiler for it is."""
    with temporary_folder() as folder:
        write_atomically(folder / "network.c", text.encode())
        built, made = folder / "network.c", folder / "network.o"
        try:
            machine.call(["arm-none-eabi-gcc", *_ARM, "-c", built, "-o", made], seconds=60)
            (sizes,) = machine.call(["arm-none-eabi-size", made], seconds=60)
            code, data, memory = map(int, sizes.stdout.splitlines()[1].split()[:3])
        except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
            return None
    return {"cpu": "cortex-m4", "flash": code + data, "ram": data + memory}
