"""Draw a comparison: accuracy against parameters, and accuracy by epoch. Owns no pyplot state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mnistcli.results import writeup
from mnistcli.results.goal import Limits
from mnistcli.results.literature import LABEL, POINTS
from mnistcli.view.plots import new_figure, own_style, to_png
from mnistcli.view.tables import Row
from mnistcli.view.text import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = (10, 50, 75, 90, 95, 98, 99, 99.2, 99.4, 99.5, 99.6, 99.7, 99.8)
_COLOURS = 10  # of the cycle; who comes after the tenth gets another mark and line
_MARKERS, _LINES = "oD^", ("-", "--", ":")
_LEAST_ERROR = 1e-4  # a run without an error still has a place on a logarithmic axis


@own_style()
def scatter_png(rows: Sequence[Row]) -> bytes:
    """Return a PNG: left the rows among published networks, right their mean by epoch.

    Published networks and the goal are drawn only beside rows of MNIST's test pictures.
    """
    figure = new_figure(12, 5.5)
    left, right = figure.subplots(1, 2)
    _draw_sizes(left, rows)
    _draw_course(right, rows)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return to_png(figure)


def _draw_sizes(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw each row with its interval at its number of parameters."""
    if any(row["reported"] is not None for row in rows):
        _draw_others(axes, rows)
    for index, row in enumerate(rows):
        low, high = row["interval"] or (row["mean"], row["mean"])
        middle = _error(row["mean"])
        reach = [[middle - _error(high)], [_error(low) - middle]]
        axes.errorbar(
            row["parameters"], middle, yerr=reach, fmt=_marker(index), color=f"C{index}", capsize=3,
            markersize=6, zorder=3, label=label(_name(row)),
        )  # fmt: skip
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(_two_and_five))
    axes.set_xlabel("parameters")
    axes.set_title("last epoch, 95 % interval", fontsize=10)
    _scale(axes)


def _draw_others(axes: Axes, rows: Sequence[Row]) -> None:
    limits = Limits()
    axes.scatter(
        [point.parameters for point in POINTS], [1 - point.accuracy / 100 for point in POINTS],
        facecolors="none", edgecolors="0.5", marker="s", label=LABEL, zorder=2,
    )  # fmt: skip
    reported = {(row["parameters"], row["reported"]) for row in rows if row["reported"] is not None}
    axes.scatter(
        [size for size, _ in reported], [1 - share / 100 for _, share in reported],
        color="black", marker="x", label="reference project: best epoch, picked on test", zorder=4,
    )  # fmt: skip
    axes.axhline(1 - float(limits.target) / 100, color="0.7", linestyle="--", linewidth=1)
    axes.axvline(limits.max_params, color="0.7", linestyle="--", linewidth=1)
    axes.text(
        0.02, 1 - float(limits.target) / 100, f"goal: > {limits.target} %, < {limits.max_params:,}",
        transform=axes.get_yaxis_transform(), va="bottom", fontsize=8, color="0.4",
    )  # fmt: skip


def _draw_course(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the mean accuracy of each row at each epoch, its least and most as a band."""
    from matplotlib.ticker import MaxNLocator

    for index, row in enumerate(rows):
        course = writeup.course(row["results"])
        epochs = [point["epoch"] for point in course]
        mean, least, most = (
            [_error(point[key]) for point in course] for key in ("mean", "least", "most")
        )
        axes.plot(
            epochs,
            mean,
            color=f"C{index}",
            marker=".",
            linestyle=_LINES[index // _COLOURS % len(_LINES)],
        )
        if row["n"] > 1:
            axes.fill_between(epochs, least, most, color=f"C{index}", alpha=0.2, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_title("accuracy by epoch: mean over seeds, least to most", fontsize=10)
    _scale(axes)


def _scale(axes: Axes) -> None:
    """Show errors on a logarithmic axis as accuracies, the better the higher."""
    from matplotlib.ticker import FuncFormatter

    axes.set_yscale("log")
    axes.set_ylim(*axes.get_ylim()[::-1])
    bottom, top = axes.get_ylim()
    ticks = [1 - share / 100 for share in _TICKS if top <= 1 - share / 100 <= bottom]
    axes.set_yticks(ticks or [bottom, top])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * (1 - error):.4g} %"))
    axes.set_yticks([], minor=True)
    axes.set_ylabel("accuracy")
    axes.grid(True, axis="y", color="0.92")


def _marker(index: int) -> str:
    return _MARKERS[index // _COLOURS % len(_MARKERS)]


def _error(share: float) -> float:
    return max(1 - share, _LEAST_ERROR)


def _two_and_five(value: float, _: int) -> str:
    return f"{value:,.0f}" if f"{value:.0e}"[0] in "25" else ""


def _name(row: Row) -> str:
    recipe = "" if row["recipe"] == row["model"] else f", {row['recipe']}"
    which = f", {row['which']}" if row["which"] else ""
    distilled = ", distilled" if row["distilled"] else ""
    return f"{row['model']}{recipe}{which} (n = {row['n']}{distilled})"
