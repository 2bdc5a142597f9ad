"""PNG pictures of a study: its arms with their intervals, and their mean accuracy by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnistcli.files import write_atomically
from mnistcli.view.plots import new_figure, own_style, spread, to_png
from mnistcli.view.text import label

NAMES = ("arms.png", "curves.png")
Course = Sequence[Mapping[str, Any]]
_BASE, _OTHER, _BAND = "#7f7f7f", "#1f77b4", "#2e7d32"


def draw_study(folder: Path, record: dict[str, Any], courses: Mapping[str, Course]) -> str | None:
    """Write arms.png and curves.png into a study's folder; return why that failed."""
    try:
        write_atomically(folder / NAMES[0], arms(record))
        write_atomically(folder / NAMES[1], curves(courses))
    except Exception as error:  # a missing or broken matplotlib, a full disk; the figures are safe
        return f"pictures not drawn: {error}"
    return None


@own_style()
def arms(record: dict[str, Any]) -> bytes:
    """Draw each arm's difference to the base, in points, a panel for each stage; return the PNG.

    The band is the margin; an interval outside 0 tells an arm apart.
    """
    stages = record["stages"]
    rows = [max(2, len(table)) for table in stages]
    figure = new_figure(7.5, 0.9 * len(stages) + 0.38 * sum(rows))
    panels = figure.subplots(len(stages), 1, squeeze=False, height_ratios=rows)
    margin = 100 * record["registrations"][-1]["detect"]
    for axes, table in zip(panels[:, 0], stages, strict=True):
        axes.axvspan(-margin, margin, color=_BAND, alpha=0.12, linewidth=0)
        axes.axvline(0, color=_BASE, linewidth=1)
        for place, row in enumerate(table):
            if row["difference"] is None:
                axes.plot(0, place, "s", color=_BASE)
                continue
            middle = 100 * row["difference"]
            low, high = row["difference_interval"] or (row["difference"], row["difference"])
            reach = [[middle - 100 * low], [100 * high - middle]]
            axes.errorbar(middle, place, xerr=reach, fmt="o", color=_OTHER, capsize=3)
        axes.set_yticks(range(len(table)), [label(row["arm"]) for row in table])
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.set_title(f"{table[0]['stage']}: difference to the base, points", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    return to_png(figure)


@own_style()
def curves(courses: Mapping[str, Course]) -> bytes:
    """Draw the mean error of each arm by epoch on a logarithmic axis; return the PNG."""
    figure = new_figure(7.5, 4.5)
    axes = figure.subplots()
    for index, (name, course) in enumerate(courses.items()):
        errors = [max(0.005, 100 - 100 * point["mean"]) for point in course]
        line = ("-", "--", ":")[index // 10 % 3]
        axes.plot([p["epoch"] for p in course], errors, line, marker=".", label=label(name))
    spread(axes)
    axes.set_xticks(range(1, 1 + max(map(len, courses.values()))))
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy, %, mean over seeds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=1 + len(courses) // 12)
    return to_png(figure)
