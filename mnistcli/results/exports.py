"""Records of exports: those of the packaged weights, and a run's own in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mnistcli.engine.history import first_problem
from mnistcli.files import packaged, write_atomically
from mnistcli.results import stored

Export = dict[str, Any]
IN_RUN = "exports.json"
KEPT = (
    "model", "format", "parameters", "weights_sha256", "bytes", "weights_bytes", "constants_bytes",
    "memory_bytes", "arm", "opset", "changed", "total", "largest_difference", "before", "after",
    "microseconds", "checked_by",
)  # fmt: skip


class _Arm(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    flash: int = Field(ge=0)


class _Export(BaseModel):
    """What a table of exports relies on; the rest is kept as it is."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    model: str
    format: str
    weights_sha256: str
    bytes: int = Field(ge=0)
    weights_bytes: int | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)
    arm: _Arm | None = None
    changed: int = Field(ge=0)
    total: int = Field(ge=0)
    largest_difference: float = Field(ge=0)
    after: stored.Counts
    microseconds: float = Field(ge=0)


_EXPORTS = TypeAdapter(list[_Export])


def of_results(results: Sequence[dict[str, Any]]) -> dict[str, list[Export]]:
    """Return the exports of the networks behind a row by whose weights they are of.

    A run's are those of its last weights; for published results, whose weights are not kept, those
    of the packaged weights of that network and recipe.
    """
    found = {}
    for result in results:
        if "run" in result:
            rows = _read(Path(result["run"], IN_RUN))
            name, sha256 = f"seed {result['seed']}", result.get("weights_sha256")
            found[name] = [row for row in rows if row["weights_sha256"] == sha256]
    first = results[0]
    if "run" not in first and first["recipe"] == first["model"] and first["split"] == "test":
        rows = _read(packaged("checkpoints", "records", "export.json"))
        found["the packaged weights"] = [row for row in rows if row["model"] == first["model"]]
    return {name: rows for name, rows in found.items() if rows}


def keep(folder: Path, report: dict[str, Any]) -> None:
    """Put an export's report into a run's record, in place of an earlier one of that format.

    Raises:
        ArtifactError: what is there is not such a record.
        EnvironmentFault: the folder can't be written.
    """
    path = folder / IN_RUN
    row = {key: report[key] for key in KEPT if key in report}
    place = row["weights_sha256"], row["format"]
    rows = [one for one in _read(path) if (one["weights_sha256"], one["format"]) != place]
    write_atomically(path, to_lines([*rows, row]).encode())


def to_lines(rows: Sequence[Export]) -> str:
    """Return records as a JSON list, one a line."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _read(path: Path) -> list[Export]:
    """Return a file's records; there are none where it is missing.

    Raises:
        ArtifactError: it can't be read, or is not what `export` writes.
    """
    if not path.exists():
        return []
    data = stored.read_bytes(path)
    try:
        rows = _EXPORTS.validate_json(data)
    except ValidationError as error:
        stored.refuse(first_problem(error), path)
    return [row.model_dump(exclude_unset=True) for row in rows]
