"""Publish figures: `tables` renews README.md beside this file, `runs` makes records of run folders.

    python configs/study/publish.py tables
    python configs/study/publish.py runs checkpoints/v7/… --to checkpoints/records/v7.jsonl
    python configs/study/publish.py weights checkpoints/v7/…-s0 --as v7

Adding a network is so: one file in mnistcli/models, its recipe in configs, and these lines.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mnistcli.files import write_where_named
from mnistcli.results import stored
from mnistcli.results.gather import gather, published
from mnistcli.study.design import open_plan
from mnistcli.study.recorded import recorded
from mnistcli.study.schema import find_study, packaged_studies
from mnistcli.view.report import update
from mnistcli.view.studyreport import kinds_markdown

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_LOCAL = ("run", "origin", "goal", "sessions")  # what tells of a folder, not of a figure


def tables(readme: Path) -> None:
    """Write every study's recorded tables between the markers of a README."""
    runs = list(published())
    parts = []
    for name in packaged_studies():
        plan = open_plan(find_study(Path(name)))
        if kinds := recorded(plan, runs):
            parts.append(kinds_markdown(plan.study.question, name, kinds))
    text = update(readme.read_text(), "\n\n".join(parts), where=str(readme))
    write_where_named(readme, text.encode())


def records(references: list[str], file: Path) -> int:
    """Append the runs' results to a file of records, each once; return how many are new."""
    lines = file.read_text().splitlines() if file.exists() else []
    known = {_identity(json.loads(line)) for line in lines}
    new = [_public(run) for run in gather(references).results]
    fresh = [run for run in new if _identity(run) not in known]
    lines += [json.dumps(run, ensure_ascii=False) for run in fresh]
    write_where_named(file, ("\n".join(lines) + "\n").encode())
    for run in fresh:
        stored.checked(run, file)
    return len(fresh)


def weights(run: Path, name: str, folder: Path) -> None:
    """Make a run's last weights the reference of a network, with the record of how they came."""
    (result,) = gather([str(run)]).results
    write_where_named(folder / f"{name}.pt", (run / "last.pt").read_bytes())
    text = json.dumps(_public(result), ensure_ascii=False) + "\n"
    write_where_named(folder / f"{name}.json", text.encode())


def _public(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in _LOCAL}


def _identity(run: dict[str, Any]) -> tuple[str, int]:
    return run["weights_sha256"], run["seed"]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("tables", help="renew README.md")
    one.add_argument("--readme", type=Path, default=HERE / "README.md")
    one = commands.add_parser("runs", help="append run folders to a file of records")
    one.add_argument("runs", nargs="+")
    one.add_argument("--to", type=Path, required=True, metavar="FILE.jsonl")
    one = commands.add_parser("weights", help="make a run's weights a network's reference")
    one.add_argument("run", type=Path)
    one.add_argument("--as", dest="name", required=True, metavar="MODEL")
    one.add_argument("--folder", type=Path, default=ROOT / "checkpoints" / "reference")
    given = parser.parse_args()
    if given.command == "tables":
        tables(given.readme)
    elif given.command == "runs":
        sys.stdout.write(f"{records(given.runs, given.to)} new records in {given.to}\n")
    else:
        weights(given.run, given.name, given.folder)


if __name__ == "__main__":
    main()
