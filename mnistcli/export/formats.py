"""The formats of an export: frozen records, read without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal["onnx", "pt2", "c", "c-int8"]


@dataclass(frozen=True)
class Format:
    """A format: how its file's name ends, its words for the help, and what writes it.

    `writer` is a `module:function` of (trained, dataset, raw_input) that returns an `Export`; it
    is imported only where it is asked for. `takes_raw`: whether `--raw-input` changes it.
    """

    suffix: str
    words: str
    writer: str
    takes_raw: bool = False


FORMATS: dict[Name, Format] = {
    "onnx": Format(
        ".onnx", "ONNX, any layer", "mnistcli.export.programs:export_onnx", takes_raw=True
    ),
    "pt2": Format(
        ".pt2", "torch's own, any layer", "mnistcli.export.programs:export_pt2", takes_raw=True
    ),
    "c": Format(".c", "one C99 file", "mnistcli.export.c_file:export_c"),
    "c-int8": Format("-int8.c", "the same in integers only", "mnistcli.export.c_file:export_int8"),
}
