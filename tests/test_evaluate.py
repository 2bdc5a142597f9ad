"""Evaluation: every picture once, whatever the batch divides, and the same classes when quick."""

from __future__ import annotations

import pytest
import torch
from conftest import network
from torch import Tensor, nn

from mnistcli.data import mnist
from mnistcli.engine import lanes, runtime, state
from mnistcli.engine.evaluate import evaluate, read, read_quickly
from mnistcli.engine.runtime import Request
from mnistcli.models.registry import MODELS
from mnistcli.recipe import load


@pytest.mark.slow
def test_evaluation_counts_each_picture_once(dataset: mnist.Dataset) -> None:
    chosen = runtime.decide(Request(device="cpu"))
    model = state.create(MODELS["v3"], load("v3"), chosen).evaluated
    part = mnist.Labelled(dataset.test.images[:1234], dataset.test.labels[:1234])
    result = evaluate(model, part)
    assert (result.total, len(result.predictions)) == (1234, 1234)
    assert result.correct == int((result.predictions.long() == part.labels).sum())
    halves = [mnist.Labelled(*(t[s] for t in part)) for s in (slice(0, 700), slice(700, None))]
    assert sum(evaluate(model, half).correct for half in halves) == result.correct


@pytest.mark.parametrize("name", ["v3", "v4", "v7"])
@pytest.mark.usefixtures("kernels")
@pytest.mark.slow
def test_through_the_kernels_the_classes_are_the_same(name: str, dataset: mnist.Dataset) -> None:
    model, images = network(name).eval(), dataset.test.images[:1100]
    quick = lanes.through(model, torch.float32, threads=1)
    found, exact = read_quickly(quick, model, images), read(model, images)
    assert torch.equal(found.argmax(dim=1), exact.argmax(dim=1))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, exact)  # the kernels round in another order


class _Off:
    """The network's own logits with an error, relative to each picture's largest; counts calls."""

    def __init__(self, model: nn.Module, error: float) -> None:
        self.model, self.error = model, error

    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        signs = torch.tensor([1.0, -1.0]).repeat(5)
        return logits + self.error * logits.abs().amax(dim=1, keepdim=True) * signs


@pytest.mark.parametrize(("error", "all_exact"), [(3e-5, False), (1e-3, True), (torch.nan, True)])
@pytest.mark.slow
def test_a_reader_that_is_off_by_more_than_rounding_is_not_believed(
    error: float, all_exact: bool, dataset: mnist.Dataset
) -> None:
    model, images = network("v3").eval(), dataset.test.images[:500]
    found, exact = read_quickly(_Off(model, error), model, images), read(model, images)
    assert torch.equal(found, exact) == all_exact
    assert torch.equal(found.argmax(dim=1), exact.argmax(dim=1))


@pytest.mark.usefixtures("kernels")
@pytest.mark.slow
def test_a_compiled_training_evaluates_through_the_kernels(dataset: mnist.Dataset) -> None:
    chosen = runtime.decide(Request("cpu", "fp32", threads=1))
    asked = Request("cpu", "fp32", "on", threads=1)
    compiled = runtime.choose_compile(chosen, asked, network("v3"), images_to_train=0)
    eager, quick = (state.create(MODELS["v3"], load("v3"), one) for one in (chosen, compiled))
    assert (eager.quick is None, quick.quick is None) == (True, False)
    part = mnist.Labelled(dataset.test.images[:700], dataset.test.labels[:700])
    slow, fast = eager.evaluate(part, chosen), quick.evaluate(part, compiled)
    assert torch.equal(slow.predictions, fast.predictions)
    assert slow.loss == pytest.approx(fast.loss, rel=1e-6)
    quick.evaluated.register_forward_hook(lambda module, given, found: found * 0)
    assert quick.evaluate(part, compiled).loss == pytest.approx(2.302585, rel=1e-6)  # ln 10
