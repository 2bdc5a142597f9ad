"""A trained network in a format, and what is known of it once it has run over the test set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from mnistcli.data import mnist
from mnistcli.engine.evaluate import read
from mnistcli.errors import EnvironmentFault
from mnistcli.export import check, formats
from mnistcli.export.check import Answers
from mnistcli.runs.trained import Trained


@dataclass(frozen=True)
class Export:
    """A file's bytes, what is known of it, and what runs it over pictures, uint8 [N, 28, 28]."""

    data: bytes
    facts: dict[str, Any]
    run: Callable[[Tensor], Answers]


def export(
    trained: Trained, dataset: mnist.Dataset, to: formats.Name, *, raw_input: bool
) -> Export:
    """Return a trained network in a format; c-int8 is calibrated on training pictures.

    Raises:
        UsageError: it uses what the format doesn't know.
        EnvironmentFault: a package is missing.
    """
    module, _, writer = formats.FORMATS[to].writer.partition(":")
    made: Export = getattr(import_module(module), writer)(trained, dataset, raw_input=raw_input)
    return made


def report(
    trained: Trained, dataset: mnist.Dataset, to: formats.Name, made: Export, *, must_check: bool
) -> tuple[dict[str, Any], str | None]:
    """Run an export over the test set; return what is known of it, and why it is not checked.

    Raises:
        EnvironmentFault: `must_check`, and what runs it is not here.
    """
    facts = {
        "model": trained.entry.name,
        "path": str(trained.path),
        "weights_sha256": trained.weights_sha256,
        "parameters": trained.parameters,
        "format": to,
        "bytes": len(made.data),
        **made.facts,
    }
    try:
        answers = made.run(dataset.test.images)
    except EnvironmentFault as fault:
        if must_check:
            raise
        return facts | {"checked_by": None}, str(fault)
    before = read(trained.model, dataset.test.images)
    return facts | check.compare(before, answers, dataset.test.labels), None
