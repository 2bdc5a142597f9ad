"""`--log tensorboard`: each epoch's figures, the confusion matrix and the misread digits."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnistcli.errors import EnvironmentFault
from mnistcli.events import Emit, EpochFinished, EpochMetrics, Event, RunRecorded, RunStarted

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_FOLDER = "tensorboard"  # in the run's own
_SIDE, _ACROSS, _MOST = 28, 10, 60
_CELL = 16  # pixels a side of a number of the confusion matrix


def sink() -> Emit:
    """Return a sink that writes event files into RUN/tensorboard.

    Raises:
        EnvironmentFault: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        what = "--log tensorboard: tensorboard is not installed"
        raise EnvironmentFault(what, hint="pip install tensorboard")
    writers: dict[str, SummaryWriter] = {}

    def emit(event: Event) -> None:
        if isinstance(event, RunStarted):
            writers[event.run_dir] = _writer(event.run_dir, len(event.history) + 1)
        elif isinstance(event, EpochFinished):
            _scalars(writers[event.run_dir], event.metrics)
        elif isinstance(event, RunRecorded) and event.run_dir in writers:
            writer, last = writers.pop(event.run_dir), len(event.history)
            writer.add_image("confusion", _confusion(event.confusion), last, dataformats="HW")
            pixels = [one.pixels for one in event.mistakes[:_MOST]]
            if pixels:
                writer.add_image("misread", _sheet(pixels), last, dataformats="HW")
            writer.close()

    return emit


def _writer(run_dir: str, epoch: int) -> SummaryWriter:
    """Return a writer; what an earlier session wrote from this epoch on is not shown."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(Path(run_dir, _FOLDER)), purge_step=epoch)


def _scalars(writer: SummaryWriter, metrics: EpochMetrics) -> None:
    figures = {
        "loss/train": metrics.train_loss,
        f"loss/{metrics.split}": metrics.eval_loss,
        "accuracy/train": metrics.train_correct / metrics.train_total,
        f"accuracy/{metrics.split}": metrics.accuracy,
        "lr": metrics.lr,
        "images_per_second": metrics.images_per_second,
    }
    for name, value in figures.items():
        writer.add_scalar(name, value, metrics.epoch)
    writer.flush()


def _confusion(matrix: list[list[int]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return errors alone, true digits down and read ones across, the most frequent white."""
    counts = np.array(matrix, dtype=np.float64)
    np.fill_diagonal(counts, 0)
    grey = (255 * counts / max(1.0, counts.max())).astype(np.uint8)
    sheet: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = grey.repeat(_CELL, 0).repeat(_CELL, 1)
    return sheet


def _sheet(pictures: list[bytes]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return pictures side by side, ten in a row."""
    rows = -(-len(pictures) // _ACROSS)
    sheet = np.zeros((rows * _SIDE, _ACROSS * _SIDE), np.uint8)
    for place, pixels in enumerate(pictures):
        top, left = place // _ACROSS * _SIDE, place % _ACROSS * _SIDE
        digit = np.frombuffer(pixels, np.uint8).reshape(_SIDE, _SIDE)
        sheet[top : top + _SIDE, left : left + _SIDE] = digit
    return sheet
