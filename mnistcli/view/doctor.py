"""Show what this machine offers a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnistcli.view.output import Output, stdout, why_plain
from mnistcli.view.tables import Column, Row, plain_line

if TYPE_CHECKING:
    from mnistcli.diagnosis import Finding

_WORDS = {True: "ok", False: "FAULT", None: "absent"}
_STYLES = {True: "green", False: "bold red", None: "dim"}


def terminal(output: Output) -> str:
    """Return how a run with these options would show its progress, and why."""
    if output.progress != "auto":
        return f"{output.progress}, asked for by --progress or MNISTCLI_PROGRESS"
    reason = why_plain(stdout())
    if reason is not None:
        return f"plain lines: {reason}"
    colour = "without colour: NO_COLOR is set" if os.environ.get("NO_COLOR") else "in colour"
    columns = shutil.get_terminal_size().columns
    return f"drawn {colour}; {os.environ.get('TERM', 'TERM unset')}, {columns} columns"


def show_findings(
    output: Output, findings: Sequence[Finding], versions: Mapping[str, str | None]
) -> None:
    """Show one line per check, the versions, and last the names of the faults."""
    faults = ",".join(one.name for one in findings if one.ok is False) or "none"
    if output.live and not output.quiet:
        _draw(output, findings, versions)
    elif not output.json:
        for one in findings:
            row = {"name": one.name, "status": _WORDS[one.ok], "found": one.found}
            output.product(_line("check", row))
        installed = {name.replace(" ", "_"): found for name, found in versions.items()}
        output.product(_line("versions", installed))
    output.result(_line("result", {"faults": faults}))


def _line(kind: str, row: Row) -> str:
    return plain_line(kind, [Column(key, key) for key in row], row)


def _draw(output: Output, findings: Sequence[Finding], versions: Mapping[str, str | None]) -> None:
    """Draw without a table: the terminal wraps a long reason, nothing is cut."""
    from rich.text import Text

    console = output.console()
    for one in findings:
        line = Text(f"{one.name:<10}").append(f"{_WORDS[one.ok]:<8}", style=_STYLES[one.ok])
        console.print(line.append(one.found), soft_wrap=True)
    known = " · ".join(f"{name} {found}" for name, found in versions.items() if found)
    console.print(Text(f"\n{known}", style="dim"))
