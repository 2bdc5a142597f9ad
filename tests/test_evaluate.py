"""Evaluation: every picture once, whatever the batch divides."""

from __future__ import annotations

from mnistcli.data import mnist
from mnistcli.engine import runtime, state
from mnistcli.engine.evaluate import evaluate
from mnistcli.engine.runtime import Request
from mnistcli.models.registry import MODELS
from mnistcli.recipe import load


def test_evaluation_counts_each_picture_once(dataset: mnist.Dataset) -> None:
    chosen = runtime.decide(Request(device="cpu"))
    model = state.create(MODELS["v3"], load("v3"), chosen).evaluated
    part = mnist.Labelled(dataset.test.images[:1234], dataset.test.labels[:1234])
    result = evaluate(model, part)
    assert (result.total, len(result.predictions)) == (1234, 1234)
    assert result.correct == int((result.predictions.long() == part.labels).sum())
    halves = [mnist.Labelled(*(t[s] for t in part)) for s in (slice(0, 700), slice(700, None))]
    assert sum(evaluate(model, half).correct for half in halves) == result.correct
