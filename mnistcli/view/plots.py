"""PNG pictures of a run: its course, its confusion matrix and what it misread.

Owns matplotlib with `scatter`, imported where a picture is drawn; figures without pyplot and by
matplotlib's own defaults, so that no display, file or variable of a user decides how they look.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.errors import EnvironmentFault
from mnistcli.events import EpochMetrics, Mistake, RunRecorded
from mnistcli.files import write_atomically
from mnistcli.view.tables import integer, percent
from mnistcli.view.text import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE, _CELL, _ROW = 28, 34, 41  # pixels of a digit, and of its place on the sheet
_ACROSS, _MOST = 10, 60
_TRAIN, _EVALUATED, _MARK = "#7f7f7f", "#1f77b4", "#d62728"
_RIGHT = "#2e7d32"


def save_run(event: RunRecorded) -> None:
    """Write curves.png, confusion.png and misclassified.png into the run's folder."""
    folder, last = Path(event.run_dir), event.history[-1]
    title = f"{event.model} · seed {event.seed}"
    write_atomically(folder / "curves.png", curves(event.history, label(title), event.target))
    save_evaluation(folder, event.confusion, event.mistakes, f"{title} · {last.split} set")


def save_evaluation(
    folder: Path, matrix: Sequence[Sequence[int]], mistakes: Sequence[Mistake], title: str
) -> None:
    """Write confusion.png and misclassified.png into a folder."""
    write_atomically(folder / "confusion.png", confusion(matrix, label(title)))
    write_atomically(folder / "misclassified.png", misclassified(mistakes, label(title)))


@contextmanager
def own_style() -> Iterator[None]:
    """Draw by matplotlib's own defaults, whatever a matplotlibrc, style or variable asks for.

    Raises:
        EnvironmentFault: matplotlib is missing, or can't be imported.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its font cache is no news to a user
    os.environ.pop("MPLBACKEND", None)  # one that matplotlib does not know ends its import
    try:
        import matplotlib
    except (ImportError, OSError, ValueError) as error:  # a matplotlibrc that is no text, too
        missing = isinstance(error, ImportError)
        hint = (
            "pip install matplotlib" if missing else "let TMPDIR name a folder that can be written"
        )
        raise EnvironmentFault(f"can't draw a picture: {error}", hint=hint) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@own_style()
def curves(history: Sequence[EpochMetrics], title: str, target: str) -> bytes:
    """Draw accuracy, loss and learning rate by epoch; return the PNG.

    Accuracy is spread as its error is on a logarithmic axis: 99 and 99.5 % lie as far apart as
    98 and 99.
    """
    last, split = history[-1], history[-1].split
    best = next(m for m in history if m.eval_correct == last.best_correct)
    figure = new_figure(7.5, 8.5)
    accuracy, loss, lr = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1.4])
    epochs = [m.epoch for m in history]
    least = 50 / last.eval_total  # half a picture: an error of 0 has no place on the axis
    errors = [max(least, 100 - 100 * m.accuracy) for m in history]
    trained = [max(least, 100 - 100 * m.train_correct / m.train_total) for m in history]
    _line(accuracy, epochs, trained, "train")
    _line(accuracy, epochs, errors, split)
    accuracy.axhline(
        max(least, 100 - float(target)), color=_MARK, linestyle=":", label=f"goal: > {target} %"
    )
    accuracy.plot(
        best.epoch, errors[best.epoch - 1], "o", color=_MARK, fillstyle="none", markersize=9,
        label=f"best {percent(best.accuracy)} (picked on {split})",
    )  # fmt: skip
    spread(accuracy)
    _line(loss, epochs, [m.train_loss for m in history], "train")
    _line(loss, epochs, [m.eval_loss for m in history], split)
    loss.set_yscale("log")
    _line(lr, epochs, [m.lr for m in history], "learning rate")
    for axes, name in ((accuracy, "accuracy, %"), (loss, "loss, nats"), (lr, "learning rate")):
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    accuracy.legend(loc="lower right")
    loss.legend(loc="upper right")
    lr.set_ylim(bottom=0)
    lr.set_xlabel("epoch (training figures: on augmented pictures; learning rate: at its end)")
    lr.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f"{title}: last epoch {percent(last.accuracy)} on the {split} set")
    return to_png(figure)


@own_style()
def confusion(matrix: Sequence[Sequence[int]], title: str) -> bytes:
    """Draw the matrix, its errors coloured by their count; return the PNG."""
    size = len(matrix)
    errors = [[0 if i == j else n for j, n in enumerate(row)] for i, row in enumerate(matrix)]
    most = max(map(max, errors)) or 1
    total = sum(map(sum, matrix))
    wrong = sum(map(sum, errors))
    figure = new_figure(7, 6.6)
    axes = figure.subplots()
    image = axes.imshow(errors, cmap="Reds", vmin=0, vmax=most)
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            if count:
                on_dark = "white" if 2 * count > most else "black"
                color = _RIGHT if i == j else on_dark
                axes.text(
                    j, i, integer(count), ha="center", va="center", fontsize=9, color=color,
                    weight="bold" if i == j else "normal",
                )  # fmt: skip
    axes.set_xticks(range(size))
    axes.set_yticks(range(size))
    axes.set_xlabel("read as")
    axes.set_ylabel("true digit")
    axes.set_title(f"{title}: {integer(wrong)} of {integer(total)} misread")
    figure.colorbar(image, ax=axes, label="misread pictures", shrink=0.8)
    return to_png(figure)


@own_style()
def misclassified(mistakes: Sequence[Mistake], title: str) -> bytes:
    """Draw a sheet of the surest mistakes, each with true → read as and confidence."""
    shown = mistakes[:_MOST]
    rows = max(1, -(-len(shown) // _ACROSS))
    figure = new_figure(10, 0.5 + 10 / (_CELL * _ACROSS) * _ROW * rows)
    axes = figure.subplots()
    axes.set_axis_off()
    sheet = [[255] * (_CELL * _ACROSS) for _ in range(_ROW * rows)]
    for place, one in enumerate(shown):
        left, top = place % _ACROSS * _CELL, place // _ACROSS * _ROW
        for y in range(_SIDE):
            ink = one.pixels[y * _SIDE : (y + 1) * _SIDE]
            sheet[top + y][left : left + _SIDE] = [255 - value for value in ink]
        caption = f"{one.label}→{one.prediction}  {100 * one.confidence:.0f} %\n#{one.index}"
        axes.text(left + _SIDE / 2, top + _SIDE + 1, caption, ha="center", va="top", fontsize=8)
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    all_of = "all" if len(shown) == len(mistakes) else f"the {len(shown)} surest of"
    which = f"{all_of} {integer(len(mistakes))} misread, true→read as, confidence"
    axes.set_title(f"{title}: {which if shown else 'no picture misread'}")
    return to_png(figure)


@own_style()
def warped(pictures: Sequence[bytes], title: str) -> bytes:
    """Draw rows of ten: a training picture, then what training sees of it."""
    rows = -(-len(pictures) // _ACROSS)
    figure = new_figure(10, 0.5 + 10 / _ACROSS * rows)
    axes = figure.subplots()
    axes.set_axis_off()
    sheet = [[255] * (_CELL * _ACROSS) for _ in range(_CELL * rows)]
    for place, pixels in enumerate(pictures):
        left, top = place % _ACROSS * _CELL, place // _ACROSS * _CELL
        for y in range(_SIDE):
            ink = pixels[y * _SIDE : (y + 1) * _SIDE]
            sheet[top + y][left : left + _SIDE] = [255 - value for value in ink]
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.axvline(_CELL - 3.5, color=_EVALUATED)
    axes.set_title(f"{title}: each picture, and how training sees it")
    return to_png(figure)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, its size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def spread(axes: Axes) -> None:
    """Turn an axis of errors in percent into one of accuracies."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.invert_yaxis()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, epochs: Sequence[int], values: Sequence[float], name: str) -> None:
    color = _TRAIN if name == "train" else _EVALUATED
    dashes = "--" if name == "train" else "-"
    axes.plot(epochs, values, dashes, color=color, marker=".", label=name)


def to_png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(data, format="png", metadata={"Software": "mnistcli"})
    return data.getvalue()
