"""A finished run shown again, as the terminal showed it, into an SVG picture."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnistcli.events import EpochFinished, EpochMetrics, RunStarted
from mnistcli.results.figures import goal
from mnistcli.results.goal import Limits, judge_result
from mnistcli.view.live import LiveView
from mnistcli.view.output import Output
from mnistcli.view.text import escaped, new_console
from mnistcli.view.verdict import show_result

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Recording(Output):
    """An output that draws on a recording console, whatever stdout is."""

    screen: Console | None = None

    @property
    def live(self) -> bool:
        return True

    def console(self) -> Console:
        assert self.screen is not None
        return self.screen

    def talk(self, line: str) -> None:
        self.console().print(escaped(line), soft_wrap=True)


def terminal_svg(
    result: dict[str, Any],
    history: Sequence[EpochMetrics],
    limits: Limits,
    *,
    command: str,
    folder: str,
    width: int = 100,
) -> str:
    """Return the terminal of a finished run as SVG: its command, epochs and verdict.

    `result` is its result.json, `history` its epochs, `folder` what is shown as its place. Every
    figure is the run's own; nothing is trained. Rich's web fonts are left out, so that whoever
    looks at the picture asks no other host.
    """
    from rich import terminal_theme

    screen = new_console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        legacy_windows=False,
    )  # fmt: skip
    output = Recording("train", screen=screen)
    screen.print(f"$ {command}", soft_wrap=True)
    view = LiveView(output)
    view(_started(result, history, folder))
    for metrics in history:
        done = tuple(history[: metrics.epoch])
        view(EpochFinished(metrics, result["epochs"], folder, done))
    checks = judge_result(result, limits)
    shown = result | {"run": folder, "goal": goal(checks)}
    show_result(output, shown, checks)
    svg = screen.export_svg(title="mnistcli", theme=terminal_theme.MONOKAI)
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def _started(result: dict[str, Any], history: Sequence[EpochMetrics], folder: str) -> RunStarted:
    values = result["recipe_values"]
    return RunStarted(
        model=result["model"],
        parameters=result["parameters"],
        recipe=result["recipe"],
        changes=tuple(result["changes"]),
        optimizer=values["optim"]["name"],
        teacher=values["distillation"] and values["distillation"]["teacher"],
        seed=result["seed"],
        epochs=result["epochs"],
        split=result["split"],
        train_images=history[-1].train_total,
        runtime=result["runtime"],
        run_dir=folder,
    )
