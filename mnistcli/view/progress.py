"""Choose the sink that shows a run, live on a terminal, plain elsewhere; draw its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnistcli.events import RunRecorded
from mnistcli.view.output import Output
from mnistcli.view.plain import PlainView

if TYPE_CHECKING:
    from mnistcli.view.live import LiveView


def live_or_plain(output: Output) -> LiveView | PlainView:
    """Return the event sink that fits the output, a context manager."""
    if output.quiet or not output.live:
        return PlainView(output, epoch_lines=output.progress != "none")
    from mnistcli.view.live import LiveView

    return LiveView(output)


def draw_run(event: RunRecorded) -> str | None:
    """Draw a run's pictures into its folder; return why it failed. The run itself is safe."""
    try:
        from mnistcli.view import plots

        plots.save_run(event)
    except Exception as error:  # a missing or broken matplotlib, a full disk
        return f"pictures not drawn: {error} (--no-plots leaves them out)"
    return None
