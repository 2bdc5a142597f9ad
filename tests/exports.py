"""Export each registered network in each format; the record behind the README's table.

python tests/exports.py checkpoints/records/export.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("v1", "v2", "v3", "v4", "v5", "v6")
FORMATS = ("onnx", "pt2", "c", "c-int8")
KEPT = ("model", "parameters", "weights_sha256", "format", "bytes", "weights_bytes",
        "constants_bytes", "memory_bytes", "arm", "opset", "changed", "total",
        "largest_difference", "before", "after", "microseconds", "checked_by")  # fmt: skip


def exported(name: str, to: str, folder: Path) -> dict[str, Any]:
    """Return what the command says of one export."""
    words = ["export", name, "--to", to, "--out", str(folder / "out"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "mnistcli", *words], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout)
    return {key: report[key] for key in KEPT if key in report}


def main() -> None:
    """Write a document with one row an export, and the machine's own words for itself."""
    from mnistcli.results.result import environment

    (path,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        rows = [exported(name, to, Path(folder)) for name in NAMES for to in FORMATS]
    document = {"environment": environment(), "exports": rows}
    Path(path).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
