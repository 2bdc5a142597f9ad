"""Random networks through the kernels, here and under GCC's sanitizers: see fuzz_kernels.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz_kernels
import pytest
from torch import nn
from twins import needs_compiler, settled

from mnistcli.engine import lanes, program, stages

pytestmark = [
    needs_compiler,
    pytest.mark.filterwarnings("ignore"),  # torch's own, about odd networks
]
SCRIPT = Path(fuzz_kernels.__file__)


@pytest.mark.slow
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.soak)])
def test_random_networks_compute_the_same_or_raise_the_same(count: int) -> None:
    report = fuzz_kernels.fuzz(1, count)
    assert report["failures"] == []
    assert report["through_kernels"] > count / 3
    assert report["raised"] > 0


def library(name: str) -> str:
    """Return where GCC's library lies, or its bare name where there is none."""
    command = ["g++", f"-print-file-name={name}"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return name


# -O1 comes last and wins: at -O2 both sanitizers take three times as long to compile.
SANITIZED = 'g++ -fsanitize=address,undefined -fno-sanitize-recover=undefined "$@" -O1'


@pytest.mark.slow
def test_random_networks_stay_inside_their_memory_and_an_overrun_would_be_seen() -> None:
    sanitizer, runtime = library("libasan.so"), library("libstdc++.so.6")
    if not Path(sanitizer).is_absolute():
        pytest.skip("no AddressSanitizer here")
    environment = os.environ | {
        "CXX": f"sh -c '{SANITIZED}' c++",
        "LD_PRELOAD": f"{sanitizer} {runtime}",  # the latter for exceptions that cross torch
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "2", "20", "overrun"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["through_kernels"] > 5
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


RACE = """
#include "{source}"
#include <cstdio>
#include <cstring>

int main() {{
  int64_t words[] = {{{words}}}, sizes[] = {{{sizes}}};
  double numbers[] = {{{numbers}, 0}};
  std::vector<std::vector<float>> data, gradients;
  std::vector<float*> at, to;
  for (int64_t size : sizes) data.emplace_back(size, 0.25f), gradients.emplace_back(size);
  for (auto& one : data) at.push_back(one.data());
  for (auto& one : gradients) to.push_back(one.data());
  std::vector<float> images(100 * 784, 0.5f), logits(1000), first;
  for (size_t i = 0; i < images.size(); i++) images[i] = float(i % 91) / 91;
  for (int threads : {{1, 2, 3, 4, 2, 4}}) {{
    Network* network = lanes_create(words, numbers);
    bool good = lanes_forward(network, at.data(), images.data(), 100, true, threads,
                              logits.data());
    good = good && lanes_backward(network, to.data(), logits.data());
    std::vector<float> found = logits;
    for (auto& one : gradients) found.insert(found.end(), one.begin(), one.end());
    if (!good || (!first.empty() && std::memcmp(found.data(), first.data(), 4 * found.size())))
      std::puts("another result");
    if (first.empty()) first = found;
    lanes_destroy(network);
  }}
  std::puts("done");
}}
"""


@pytest.mark.slow
def test_threads_never_race(tmp_path: Path) -> None:
    if not Path(library("libtsan.so")).is_absolute():
        pytest.skip("no ThreadSanitizer here")
    norm = nn.BatchNorm2d(5, momentum=0.0)
    net = settled(nn.Conv2d(1, 5, 3, 2), norm, nn.ReLU(), nn.Conv2d(5, 4, 3))
    read, tensors = program.read(net, training=True), net.state_dict()
    words, numbers = stages.encode(read, tensors)
    source, sizes = tmp_path / "race.cpp", [tensors[name].numel() for name in read.tensors]
    filled = {"words": words, "numbers": numbers, "sizes": sizes}
    texts = {name: ", ".join(map(str, values)) for name, values in filled.items()}
    source.write_text(RACE.format(source=Path(lanes.__file__).with_name("lanes.cpp"), **texts))
    flags = ["-std=c++20", "-O1", "-g", "-march=native", "-pthread", "-fsanitize=thread"]
    subprocess.run(["g++", *flags, str(source), "-o", str(tmp_path / "race")], check=True)
    done = subprocess.run([str(tmp_path / "race")], capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run in this system's memory")
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
