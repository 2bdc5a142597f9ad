"""The bits are unchanged: the weights of a tiny training, held against those of the commit before.

They depend on the processor's kind, on torch, and through the kernels on the compiler; a machine of
which `golden/bits.json` holds nothing is skipped. `pytest tests/test_bits.py --overwrite` records.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import HERE, network
from engine_run import go, weights_hash

from mnistcli.data import mnist
from mnistcli.engine import machine, runtime
from mnistcli.engine.runtime import Request
from mnistcli.recipe import load

GOLDEN = HERE / "golden" / "bits.json"
WAYS = [("off", "fp32"), ("off", "bf16"), ("on", "fp32"), ("on", "bf16")]


def here(compiled: str) -> str:
    """Return what decides the bits beside the code: processor, torch and, for kernels, compiler."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    said = dict(reversed([map(str.strip, line.split(":", 1)) for line in lines if ":" in line]))
    kind = [said.get(name, "?") for name in ("vendor_id", "cpu family", "model")]
    tiles = ["tiles"] * machine.cpu_has_tiles()
    parts = [" ".join([*kind, torch.backends.cpu.get_cpu_capability(), *tiles])]
    parts += [f"torch {torch.__version__}"]
    return ", ".join([*parts, *([str(machine.compiler_version())] * (compiled == "on"))])


@pytest.mark.parametrize(("compiled", "precision"), WAYS)
@pytest.mark.slow
def test_a_training_gives_the_bits_that_it_gave(
    compiled: str,
    precision: str,
    dataset: mnist.Dataset,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    request = Request("cpu", precision, compiled, threads=1)
    if precision == "bf16" and not (machine.cpu_has_tiles() or compiled == "off"):
        pytest.skip("this processor has no matrix tiles")
    if compiled == "on" and (fault := runtime.compile_fault()) is not None:
        pytest.skip(fault)
    known = json.loads(GOLDEN.read_text())
    key = f"kernels {compiled}, {precision}, {here(compiled)}"
    overwrite = pytestconfig.getoption("--overwrite")
    if key not in known and not overwrite:
        pytest.skip(f"nothing is recorded of {key}")
    recipe = load("v3", settings=["epochs=2", "batch_size=64", "distillation=null"])
    part = mnist.Labelled(dataset.train.images[:200], dataset.train.labels[:200])
    chosen = runtime.decide(request)
    chosen = runtime.choose_compile(chosen, request, network("v3"), images_to_train=0)
    found = weights_hash(go(tmp_path / "run", part, recipe, chosen=chosen)[0])
    if overwrite:
        known = json.loads(GOLDEN.read_text()) | {key: found}
        GOLDEN.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    assert found == json.loads(GOLDEN.read_text())[key], "other bits: is it meant so? --overwrite"
