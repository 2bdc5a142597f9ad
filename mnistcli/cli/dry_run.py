"""`mnistcli train --dry-run`: what would be trained, from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnistcli.cli import options
from mnistcli.results.goal import to_dicts
from mnistcli.view.dry_run import show_dry_run
from mnistcli.view.progress import live_or_plain

if TYPE_CHECKING:
    from mnistcli.runs.plan import Plan
    from mnistcli.view.output import Output


def rehearse(plan: Plan, output: Output) -> None:
    """Check the plan and show it; it decides the gates of parameters and epochs."""
    from mnistcli.runs import dry_run

    report, checks = dry_run.rehearse(plan, live_or_plain(output))
    show_dry_run(output, report, checks)
    options.conclude(output, report | {"checks": to_dicts(checks)}, list(plan.require), [checks])
