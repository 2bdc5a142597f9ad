"""A study in Markdown: its question, its table, what it comes to, how it was planned."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnistcli.view.study import COLUMNS, sentences, to_rows
from mnistcli.view.studyplan import points
from mnistcli.view.studyplots import NAMES
from mnistcli.view.tables import Column, markdown
from mnistcli.view.text import escaped

_SHOWN = [column for column in COLUMNS if column.key != "stage"]
_OF_RECORDS = [
    Column("arm", "arm", left=True),
    Column("changed", "changes of the base", left=True),
    *(column for column in _SHOWN if column.key != "arm"),
]


def kinds_markdown(question: str, name: str, kinds: Sequence[dict[str, Any]]) -> str:
    """Return what records say of a study's arms, a table for each kind of machine."""
    parts = [f"### {escaped(question)}", f"`configs/{name}.yaml`"]
    for kind in kinds:
        rows = [row | {"changed": " ".join(row["changes"])} for row in to_rows(kind["table"])]
        parts.append(f"On {escaped('; '.join(kind['machines']))}:")
        parts.append(markdown(_OF_RECORDS, rows))
    return "\n\n".join(parts)


def study_markdown(record: dict[str, Any], place: Path) -> str:
    """Return the write-up of a study that has been answered: target, result, analysis.

    Links to its pictures are relative to the folder `place`.
    """
    parts = [
        "# " + escaped(record["question"]),
        "## Target",
        _target(record),
        "## Result",
        *(part for table in record["stages"] for part in _stage(table, record["stages"])),
        *_pictures(Path(record["folder"]), place),
        "## Analysis",
        "\n".join(f"- {escaped(one)}" for one in sentences(record)),
        "## How it was planned",
        "\n".join(f"- {escaped(one)}" for one in _plan(record)),
    ]
    return "\n\n".join(parts)


def _target(record: dict[str, Any]) -> str:
    last = record["registrations"][-1]
    changes = ", ".join(f"`{escaped(arm)}`" for arm in last["arms"] if arm != last["base"])
    return (
        f"Is one of {changes} better than `{escaped(last['base'])}` by {points(last['detect'], 2)} "
        "points or more, on pictures held out of the training set?"
    )


def _pictures(folder: Path, place: Path) -> list[str]:
    drawn = [folder / name for name in NAMES if (folder / name).is_file()]
    return [f"![{path.stem}](<{os.path.relpath(path, place)}>)" for path in drawn]


def _stage(table: Sequence[dict[str, Any]], stages: Sequence[Any]) -> list[str]:
    heading = [f"### {escaped(table[0]['stage'])}"] if len(stages) > 1 else []
    return [*heading, markdown(_SHOWN, to_rows(table))]


def _plan(record: dict[str, Any]) -> list[str]:
    """Return what was registered and when, the rule, and which claims were."""
    said = []
    for one in record["registrations"]:
        seen = f"after {one['runs_before']} runs" if one["runs_before"] else "before the first run"
        code = one["code"]
        commit = f", commit {code['commit']}" if code["commit"] else ""
        said.append(
            f"registration {one['number']}, {one['made']}, {seen}: SHA-256 {one['sha256'][:16]}…, "
            f"mnistcli {code['version']}{commit}"
        )
    last = record["registrations"][-1]
    said.append(last["rule"])
    said.append(f"sd taken as {points(last['sd'])} points: {last['sd_source']}")
    said += [f"{arm}: {text}" for arm, text in record["claims"].items()]
    return said
