"""A network as ONNX or as torch's own pt2: any layer, any number of pictures at once."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.data import mnist
from mnistcli.data.augment import MEAN, STD, normalise, to_input
from mnistcli.errors import EnvironmentFault
from mnistcli.export.check import Answers
from mnistcli.export.exported import Export
from mnistcli.models import own
from mnistcli.runs.trained import Trained

OPSET = 18
_TIMED = 200  # pictures, one at a time; in processor time, so that neighbours do not count
_BATCH = 125
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_Call = Callable[[Tensor], tuple[Tensor, Tensor]]


class Raw(nn.Module):
    """Grey levels in, digit and logits out: what normalises the picture is part of the network."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return digits int64 [N] and logits [N, 10] for uint8 [N, 28, 28]."""
        logits = self.model(normalise(to_input(images)))
        return logits.argmax(dim=1), logits


def export_onnx(trained: Trained, dataset: mnist.Dataset, *, raw_input: bool) -> Export:
    """Return the network as ONNX.

    Raises:
        EnvironmentFault: a package is missing.
    """
    check_packages()
    data = to_onnx(trained, raw_input=raw_input)
    facts = {"opset": OPSET, "metadata": about(trained, raw_input=raw_input)}
    return Export(data, facts, lambda pictures: run_onnx(data, pictures, raw_input=raw_input))


def export_pt2(trained: Trained, dataset: mnist.Dataset, *, raw_input: bool) -> Export:
    """Return the network as torch's own pt2."""
    data = to_pt2(trained, raw_input=raw_input)
    facts = {"metadata": about(trained, raw_input=raw_input)}
    return Export(data, facts, lambda pictures: run_pt2(data, pictures, raw_input=raw_input))


def check_packages() -> None:
    """Raise EnvironmentFault unless what writes and runs ONNX is installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        what = f"--to onnx needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'}"
        raise EnvironmentFault(f"{what} not installed", hint=f"pip install {' '.join(missing)}")


def about(trained: Trained, *, raw_input: bool) -> dict[str, str]:
    """Return what a file says of itself: whose weights, what goes in and what comes out."""
    inside = "images: uint8 [N, 28, 28], 0 to 255, the digit light on dark"
    outside = f"images: float32 [N, 1, 28, 28], (grey / 255 - {MEAN}) / {STD}, digit light on dark"
    return {
        "model": trained.entry.name,
        "weights_sha256": trained.weights_sha256,
        "input": inside if raw_input else outside,
        "output": "digit: int64 [N]; logits: float32 [N, 10]" if raw_input
        else "logits: float32 [N, 10]; the digit is the place of the greatest",
    }  # fmt: skip


def to_onnx(trained: Trained, *, raw_input: bool) -> bytes:
    """Return the network as ONNX, opset 18, by torch's exporter.

    Raises:
        UsageError: an own network's code can't be followed.
    """
    names = ["digit", "logits"] if raw_input else ["logits"]
    model, example = _subject(trained, raw_input)
    with _quiet(), own.faults(trained.entry, "can't be exported to ONNX"):
        program = torch.onnx.export(
            model, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["images"], output_names=names, dynamic_shapes=({0: _batch()},),
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    for key, value in about(trained, raw_input=raw_input).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    data: bytes = proto.SerializeToString()
    return data


def to_pt2(trained: Trained, *, raw_input: bool) -> bytes:
    """Return the network as torch.export saves it, for `torch.export.load`.

    Raises:
        UsageError: an own network's code can't be followed.
    """
    model, example = _subject(trained, raw_input)
    with _quiet(), own.faults(trained.entry, "can't be exported by torch.export"):
        program = torch.export.export(model, (example,), dynamic_shapes=({0: _batch()},))
    buffer = io.BytesIO()
    words = json.dumps(about(trained, raw_input=raw_input))
    with _quiet():
        torch.export.save(program, buffer, extra_files={"mnistcli.json": words})
    return buffer.getvalue()


def run_onnx(data: bytes, pictures: Tensor, *, raw_input: bool) -> Answers:
    """Run an ONNX file by onnxruntime on one thread over pictures, uint8 [N, 28, 28]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def call(images: Tensor) -> tuple[Tensor, Tensor]:
        found = [torch.from_numpy(one) for one in session.run(None, {"images": images.numpy()})]
        return _both(found)

    return _answers(call, pictures, raw_input, f"onnxruntime {onnxruntime.__version__}")


def run_pt2(data: bytes, pictures: Tensor, *, raw_input: bool) -> Answers:
    """Run a pt2 file by torch over pictures, uint8 [N, 28, 28]."""
    with _quiet():
        module = torch.export.load(io.BytesIO(data)).module()

    def call(images: Tensor) -> tuple[Tensor, Tensor]:
        found = module(images)
        return _both(list(found) if raw_input else [found])

    return _answers(call, pictures, raw_input, f"torch {torch.__version__}")


def _subject(trained: Trained, raw_input: bool) -> tuple[nn.Module, Tensor]:
    """Return what is exported, and two pictures."""
    model = trained.model.cpu()
    if raw_input:
        return Raw(model).eval(), torch.zeros(2, 28, 28, dtype=torch.uint8)
    return model, torch.zeros(2, 1, 28, 28)


def _batch() -> Any:
    return torch.export.Dim("batch", min=1)


def _both(found: list[Tensor]) -> tuple[Tensor, Tensor]:
    return (found[-1].argmax(dim=1) if len(found) == 1 else found[0]), found[-1]


def _answers(call: _Call, pictures: Tensor, raw_input: bool, by: str) -> Answers:
    images = pictures if raw_input else normalise(to_input(pictures))
    with torch.inference_mode():
        parts = [call(part) for part in images.split(_BATCH)]
        singles = images[:_TIMED].split(1)
        start = time.process_time()
        for single in singles:
            call(single)
        seconds = (time.process_time() - start) / len(singles)
    digits, logits = (torch.cat(one) for one in zip(*parts, strict=True))
    return Answers(digits, logits.double(), seconds, by)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporters say for developers off the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
