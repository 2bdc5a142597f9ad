"""Export registered networks in each format: the record behind the README's table.

    python tests/exports.py checkpoints/records/export.json [MODEL…]

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

from mnistcli.results.result import environment

NAMES = ["v1", "v2", "v3", "v4", "v5", "v6"]
FORMATS = ("onnx", "pt2", "c", "c-int8")
KEPT = ("model", "format", "parameters", "weights_sha256", "bytes", "weights_bytes",
        "constants_bytes", "memory_bytes", "arm", "opset", "changed", "total",
        "largest_difference", "before", "after", "microseconds", "checked_by")  # fmt: skip


def exported(name: str, to: str) -> dict[str, Any]:
    """Return what the command says of one export, and of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["export", name, "--to", to, "--out", str(Path(folder, "out")), "--json"]
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


def main() -> None:
    """Export the networks named, or all."""
    path, *names = sys.argv[1:]
    for name in names or NAMES:
        for to in FORMATS:
            keep(Path(path), exported(name, to))


if __name__ == "__main__":
    main()
