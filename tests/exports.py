"""Export registered networks in each format: the record behind the table in checkpoints/README.md.

    python tests/exports.py checkpoints/records/export.json [MODEL…]
    python tests/exports.py checkpoints/records/export.json --table

Each export replaces its own row, so that several processes can share out the networks.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mnistcli.models.registry import COMPARED
from mnistcli.results.exports import KEPT, to_lines
from mnistcli.results.figures import environment
from mnistcli.view.export import RECORDED, recorded
from mnistcli.view.tables import Column

NAMES = COMPARED
FORMATS = ("onnx", "pt2", "c", "c-int8")
COLUMNS = [Column("model", "model", left=True), *RECORDED]


def exported(name: str, to: str) -> dict[str, Any]:
    """Return what the command says of one export, and of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["export", name, "--to", to, "--out", str(Path(folder, "out")), "--json"]
        words += ["--max-changed", "10000"]  # one that can't be checked is an error
        command = [sys.executable, "-m", "mnistcli", *words]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout)
    return {key: report[key] for key in KEPT if key in report} | environment()


def keep(path: Path, row: dict[str, Any]) -> None:
    """Put a row in its place among those of the file."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        rows = {(one["model"], one["format"]): one for one in (json.loads(text) if text else [])}
        rows[row["model"], row["format"]] = row
        order = sorted(rows, key=lambda key: (NAMES.index(key[0]), FORMATS.index(key[1])))
        file.truncate(0)
        file.write(to_lines([rows[key] for key in order]))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the README."""
    return recorded(rows, COLUMNS)


def main() -> None:
    """Export the networks named, or all; or print the table of what is there."""
    path, *names = sys.argv[1:]
    if names == ["--table"]:
        sys.stdout.write(table(json.loads(Path(path).read_text())) + "\n")
        return
    for name in names or NAMES:
        for to in FORMATS:
            keep(Path(path), exported(name, to))


if __name__ == "__main__":
    main()
