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

from mnistcli.results.figures import environment
from mnistcli.view.tables import Column, integer, markdown

NAMES = ["v1", "v2", "v3", "v4", "v5", "v6"]
FORMATS = ("onnx", "pt2", "c", "c-int8")
KEPT = ("model", "format", "parameters", "weights_sha256", "bytes", "weights_bytes",
        "constants_bytes", "memory_bytes", "arm", "opset", "changed", "total",
        "largest_difference", "before", "after", "microseconds", "checked_by")  # fmt: skip
COLUMNS = [
    Column("model", "model", left=True),
    Column("format", "format", left=True),
    Column("bytes", "file", integer),
    Column("weights_bytes", "weights", integer),
    Column("memory_bytes", "RAM", integer),
    Column("flash", "flash, Cortex-M4", integer),
    Column("changed", "answers changed", integer),
    Column("largest_difference", "logit difference", "{:.1g}".format),
    Column("answer", "right of 10,000"),
    Column("microseconds", "µs a picture", "{:,.0f}".format),
]


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
        order = sorted(rows, key=lambda key: (key[0], FORMATS.index(key[1])))
        file.truncate(0)
        lines = (json.dumps(rows[key], ensure_ascii=False) for key in order)
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Return that table; bytes throughout, accuracy before where it differs."""
    flat = [
        row
        | {
            "answer": f"{row['after']['correct']:,}",
            "flash": (row.get("arm") or {}).get("flash"),
        }
        for row in rows
    ]
    return markdown(COLUMNS, flat)


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
