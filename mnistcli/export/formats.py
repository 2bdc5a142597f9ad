"""The formats that a trained network leaves in, each with what runs it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from mnistcli.data import mnist
from mnistcli.engine.evaluate import read
from mnistcli.errors import EnvironmentFault
from mnistcli.export import check
from mnistcli.export.c import write_c
from mnistcli.export.check import Answers
from mnistcli.export.fold import fold
from mnistcli.export.int8 import in_integers
from mnistcli.runs.trained import Trained

Format = Literal["onnx", "pt2", "c", "c-int8"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "pt2": ".pt2", "c": ".c", "c-int8": "-int8.c"}


@dataclass(frozen=True)
class Export:
    """A file's bytes, what is known of it, and what runs it over pictures, uint8 [N, 28, 28]."""

    data: bytes
    facts: dict[str, Any]
    run: Callable[[Tensor], Answers]


def export(trained: Trained, dataset: mnist.Dataset, to: Format, *, raw_input: bool) -> Export:
    """Return a trained network in a format; c-int8 is calibrated on training pictures.

    Raises:
        UsageError: it uses what the format doesn't know.
        EnvironmentFault: a package is missing.
    """
    if to in ("c", "c-int8"):
        return _to_c(trained, dataset, integers=to == "c-int8")
    from mnistcli.export import programs

    if to == "onnx":
        programs.check_packages()
        data = programs.to_onnx(trained, raw_input=raw_input)
        run, facts = programs.run_onnx, {"opset": programs.OPSET}
    else:
        data = programs.to_pt2(trained, raw_input=raw_input)
        run, facts = programs.run_pt2, {}
    about = {"metadata": programs.about(trained, raw_input=raw_input)}
    return Export(data, facts | about, lambda pictures: run(data, pictures, raw_input=raw_input))


def _to_c(trained: Trained, dataset: mnist.Dataset, *, integers: bool) -> Export:
    graph = fold(trained)
    calibrated = in_integers(trained, dataset) if integers else None
    about = f"weights {trained.weights_sha256[:12]}: reads a digit of 28x28 pixels."
    about = f"{_in_comment(trained.entry.name)}, {about}"
    source = write_c(graph, about, calibrated)
    facts = {
        "weights_bytes": source.weights,
        "constants_bytes": source.constants,
        "memory_bytes": source.memory,
        "arm": check.arm_sizes(source.text),
    }
    return Export(
        source.text.encode(), facts,
        lambda pictures: check.run_c(source.text, pictures, integers=integers),
    )  # fmt: skip


def _in_comment(name: str) -> str:
    """Return a name that ends no comment of C, and opens none in it."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    return plain.replace("*/", "* /").replace("/*", "/ *")


def report(
    trained: Trained, dataset: mnist.Dataset, to: Format, made: Export, *, must_check: bool
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
