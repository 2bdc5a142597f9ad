"""Typer's commands with pages of help that import no rich."""

from __future__ import annotations

import sys
from typing import Any

from typer.core import TyperCommand, TyperGroup

from mnistcli.view import help as view
from mnistcli.view import output


class Command(TyperCommand):
    """A command whose page shows its options in panels."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page past the formatter, which on an ascii stdout would turn to utf-8."""
        output.write(sys.stdout, _page(self, ctx, []))


class Group(TyperGroup):
    """The root, whose page lists the commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, _first(one.help or "")) for name, one in commands if one is not None]
        output.write(sys.stdout, _page(self, ctx, [view.Panel("Commands", rows)]))


def _page(command: Command | Group, ctx: Any, more: list[view.Panel]) -> str:
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    panels = [view.Panel(title, rows) for title, rows in _rows(command, ctx).items()]
    return view.page(
        usage, command.help or "", [*panels, *more], command.epilog or "", view.style()
    )


def _rows(command: Command | Group, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Return names and sentences of each parameter by its panel, arguments first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        is_argument = parameter.param_type_name == "argument"
        default = "Arguments" if is_argument else "Options"
        panel = getattr(parameter, "rich_help_panel", None) or default
        if record is not None:
            found.setdefault(panel, []).append(record)
    return found


def _first(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())
