"""Random networks through the kernels, here and under AddressSanitizer: see fuzz_kernels.py."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz_kernels
import pytest

from mnistcli.engine import fused

pytestmark = [
    pytest.mark.skipif(
        not isinstance(fused.compile_kernels(), ctypes.CDLL), reason="no C++ compiler works here"
    ),
    pytest.mark.filterwarnings("ignore"),  # torch's own, about odd networks
]
SCRIPT = Path(fuzz_kernels.__file__)


@pytest.mark.parametrize("count", [150, pytest.param(20_000, marks=pytest.mark.soak)])
def test_random_networks_compute_the_same_or_raise_the_same(count: int) -> None:
    report = fuzz_kernels.fuzz(1, count)
    assert report["failures"] == []
    assert min(report["through_kernels"], report["raised"]) > count / 8


def library(name: str) -> str:
    """Return where GCC's library lies, or its bare name where there is none."""
    command = ["g++", f"-print-file-name={name}"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return name


def test_random_networks_stay_inside_their_memory_and_an_overrun_would_be_seen() -> None:
    sanitizer, runtime = library("libasan.so"), library("libstdc++.so.6")
    if not Path(sanitizer).is_absolute():
        pytest.skip("no AddressSanitizer here")
    environment = os.environ | {
        "CXX": "g++ -fsanitize=address,undefined -fno-sanitize-recover=undefined",
        "LD_PRELOAD": f"{sanitizer} {runtime}",  # the latter for exceptions that cross torch
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "2", "150", "overrun"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["through_kernels"] > 20
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
