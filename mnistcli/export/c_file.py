"""A trained network's C file as an export: what it takes, and what runs it."""

from __future__ import annotations

from mnistcli.data import mnist
from mnistcli.export import check
from mnistcli.export.c import write_c
from mnistcli.export.exported import Export
from mnistcli.export.fold import fold
from mnistcli.export.int8 import in_integers
from mnistcli.export.integer import IntegerGraph
from mnistcli.runs.trained import Trained


def export_c(trained: Trained, dataset: mnist.Dataset, *, raw_input: bool) -> Export:
    """Return the network in float32; it reads grey levels always."""
    return _export(trained, None)


def export_int8(trained: Trained, dataset: mnist.Dataset, *, raw_input: bool) -> Export:
    """Return the network in integers only, calibrated on training pictures."""
    return _export(trained, in_integers(trained, dataset))


def _export(trained: Trained, integers: IntegerGraph | None) -> Export:
    about = f"weights {trained.weights_sha256[:12]}: reads a digit of 28x28 pixels."
    source = write_c(fold(trained), f"{_in_comment(trained.entry.name)}, {about}", integers)
    facts = {
        "weights_bytes": source.weights,
        "constants_bytes": source.constants,
        "memory_bytes": source.memory,
        "arm": check.arm_sizes(source.text),
    }
    return Export(
        source.text.encode(), facts,
        lambda pictures: check.run_c(source.text, pictures, integers=integers is not None),
    )  # fmt: skip


def _in_comment(name: str) -> str:
    """Return a name that ends no comment of C, and opens none in it."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    return plain.replace("*/", "* /").replace("/*", "/ *")
