"""Choose the sink that shows a run: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
