"""What is decided at a run's start on the CPU: kernels or none, and the precision either gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Cli, network
from torch import nn
from twins import needs_compiler

from mnistcli.engine import kernels, machine, runtime
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.errors import EnvironmentFault, UsageError

NETS = Path(__file__).with_name("nets.py")
PROCESSORS = {  # has it bf16, and matrix tiles: what kernels multiply in, what a teacher else
    "none": (False, False, "fp32", None),
    "bf16 alone": (True, False, "fp32", "bf16"),
    "tiles": (True, True, "bf16", None),
}


def pretend(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, tiles: bool) -> None:
    """Let the processor seem to have these; what needs tiles is not run."""
    monkeypatch.setattr(machine, "cpu_has_bf16", lambda: bf16)
    monkeypatch.setattr(machine, "cpu_has_tiles", lambda: tiles)
    monkeypatch.setattr(kernels, "compiled", lambda dtype=torch.float32: object())


def chosen(request: Request, model: nn.Module | None = None, images: int = 10**6) -> Runtime:
    here = runtime.decide(replace(request, device="cpu", threads=1))
    model = model or network("v1")
    return runtime.choose_compile(here, request, model, images_to_train=images)


@pytest.mark.parametrize("kind", PROCESSORS)
def test_auto_takes_the_precision_in_which_the_kernels_multiply(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bf16, tiles, precision, teachers = PROCESSORS[kind]
    pretend(monkeypatch, bf16=bf16, tiles=tiles)
    found = chosen(Request())
    assert (found.compiled, found.precision, found.teacher_precision) == (True, precision, teachers)
    eager = chosen(Request(compile="off"))
    assert (eager.compiled, eager.precision) == (False, "bf16" if bf16 else "fp32")
    assert eager.teacher_precision is None


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_precision_that_is_asked_for_stays(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bf16, tiles, *_ = PROCESSORS[kind]
    pretend(monkeypatch, bf16=bf16, tiles=tiles)
    full = chosen(Request(precision="fp32"))
    assert (full.compiled, full.precision, full.teacher_precision) == (True, "fp32", None)
    if bf16:
        half = chosen(Request(precision="bf16"))
        assert (half.compiled, half.precision) == (tiles, "bf16")
        assert (half.compile_reason is None) == tiles


def test_bf16_through_kernels_that_have_no_tiles_is_refused(
    monkeypatch: pytest.MonkeyPatch, train_small: Cli
) -> None:
    pretend(monkeypatch, bf16=True, tiles=False)
    with pytest.raises(UsageError, match="matrix tiles"):
        chosen(Request(precision="bf16", compile="on"))
    done = train_small("--device", "cpu", "--precision", "bf16", "--compile", "on")
    assert (done.returncode, "matrix tiles" in done.stderr) == (2, True)


def test_a_network_that_the_kernels_do_not_know_trains_eagerly_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, bf16=True, tiles=True)
    net = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten(), nn.Sigmoid())
    found = chosen(Request(), net)
    assert (found.compiled, found.precision) == (False, "bf16")
    assert "sigmoid" in (found.compile_reason or "")
    with pytest.raises(UsageError, match="sigmoid"):
        chosen(Request(compile="on"), net)
    assert chosen(Request(), images=100).compile_reason == "too short a run for compiling to pay"


def test_without_a_compiler_auto_is_eager_and_on_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, bf16=True, tiles=True)
    monkeypatch.setattr(kernels, "compiled", lambda dtype: "no compiler")
    found = chosen(Request())
    assert (found.compiled, found.compile_reason) == (False, "no compiler")
    with pytest.raises(EnvironmentFault, match="no compiler"):
        chosen(Request(compile="on"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_saved_runtime_comes_back_as_it_was(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bf16, tiles, *_ = PROCESSORS[kind]
    pretend(monkeypatch, bf16=bf16, tiles=tiles)
    for asked in ("auto", "fp32", *["bf16"] * bf16):
        for compiled in ("auto", "off"):
            saved = chosen(Request(precision=asked, compile=compiled))
            found, unlike = runtime.restore(saved.to_dict(), Request(), network("v1"))
            kept = replace(saved, compile_reason=None, threads_reason=found.threads_reason)
            assert (replace(found, compile_reason=None), unlike) == (kept, ())


def test_a_run_of_the_kernels_before_goes_on_in_fp32_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They took bf16 on any processor that has it, and stored no precision of the teacher."""
    pretend(monkeypatch, bf16=True, tiles=False)
    saved = replace(chosen(Request()), precision="bf16").to_dict()
    del saved["teacher_precision"]
    found, unlike = runtime.restore(saved, Request(), network("v1"))
    assert (found.compiled, found.precision) == (True, "fp32")
    assert unlike == ("precision bf16 → fp32", "teacher_precision None → bf16")


def test_a_compiled_run_on_a_machine_that_has_less_goes_on_as_near_as_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, bf16=True, tiles=True)
    saved = chosen(Request()).to_dict()
    pretend(monkeypatch, bf16=False, tiles=False)
    found, unlike = runtime.restore(saved, Request(), network("v1"))
    assert (found.compiled, found.precision) == (True, "fp32")
    assert unlike == ("precision bf16 → fp32",)
    monkeypatch.setattr(kernels, "compiled", lambda dtype: "no compiler")
    found, unlike = runtime.restore(saved, Request(), network("v1"))
    assert (found.compiled, found.precision) == (False, "fp32")
    assert unlike == ("precision bf16 → fp32", "compiled True → False")


@needs_compiler
def test_a_compiled_run_says_what_it_computes_in(train_small: Cli) -> None:
    done = train_small("--device", "cpu", "--compile", "on", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert ("bf16" if machine.cpu_has_tiles() else "fp32") in done.stdout
