"""What integers cost: the networks of finished runs in fp32 and in int8.

    python tests/int8.py checkpoints/records/int8.json RUN…
    python tests/int8.py checkpoints/records/int8.json        says what the record comes to

Each is judged on the split that its run was judged on; a run's row replaces its earlier one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mnistcli.data import mnist
from mnistcli.engine import runtime
from mnistcli.engine.evaluate import read
from mnistcli.export.int8 import integer_logits
from mnistcli.results import stored
from mnistcli.results.exports import to_lines
from mnistcli.results.stats import LEAST_RUNS, paired
from mnistcli.runs.trained import open_trained

FROM_RESULT = ("model", "recipe_digest", "seed", "epochs", "split", "weights_sha256", "parameters")


def measured(run: Path, dataset: mnist.Dataset) -> dict[str, Any]:
    """Return how many pictures one network has right in fp32 and in int8."""
    trained = open_trained(str(run), None, runtime.decide(runtime.Request("cpu", "fp32", "off")))
    result = stored.of_folder(run)
    judged = dataset.test
    if result["split"] == "validation":
        _, judged = mnist.validation_parts(dataset)
    before = read(trained.model, judged.images).argmax(dim=1)
    after = integer_logits(trained, dataset, judged.images).argmax(dim=1)
    return {key: result[key] for key in FROM_RESULT} | {
        "fp32": int((before == judged.labels).sum()),
        "int8": int((after == judged.labels).sum()),
        "changed": int((before != after).sum()),
        "total": len(judged.labels),
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return means and the mean difference with its 95 % interval, in points."""
    said = []
    for split in sorted({row["split"] for row in rows}):
        part = [row for row in rows if row["split"] == split]
        before, after = (
            [100 * row[key] / row["total"] for row in part] for key in ("fp32", "int8")
        )
        text = f"{split}, {len(part)} networks: fp32 {fmean(before):.4f}, int8 {fmean(after):.4f}"
        if len(part) >= LEAST_RUNS and (lost := paired(after, before)).interval:
            low, high = lost.interval
            text += f"; difference {lost.mean:+.4f} ({low:+.4f} to {high:+.4f}) points"
        said.append(text)
    return "\n".join(said)


def main() -> None:
    """Measure the runs named, and say what the record comes to."""
    path, dataset = Path(sys.argv[1]), mnist.load(None)
    rows = (
        {one["weights_sha256"]: one for one in json.loads(path.read_text())}
        if path.exists()
        else {}
    )
    for run in sys.argv[2:]:
        row = measured(Path(run), dataset)
        rows[row["weights_sha256"]] = row
        path.write_text(to_lines(list(rows.values())))
    sys.stdout.write(summary(list(rows.values())) + "\n")


if __name__ == "__main__":
    main()
