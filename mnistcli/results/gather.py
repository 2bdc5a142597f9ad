"""Find recorded results: published ones, run folders, files of records, and globs of these."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnistcli.errors import ArtifactError, NotReadable, nearest, not_readable
from mnistcli.files import packaged
from mnistcli.models.registry import COMPARED, file_name, known_names
from mnistcli.results.runlog import run_folders

if TYPE_CHECKING:
    from mnistcli.results.unfinished import Unfinished

Result = dict[str, Any]

PUBLISHED = "published"
_MOST_BYTES = 64 * 2**20  # of a file of records: some 20,000


class Found(NamedTuple):
    """Finished runs, runs without a result beside them, and what was said of a reference."""

    results: list[Result]
    unfinished: list[Unfinished]
    notices: list[str]

    def __bool__(self) -> bool:
        """Return whether there is any run."""
        return bool(self.results or self.unfinished)


def gather(references: Sequence[str]) -> Found:
    """Return the results that the references mean; without any, the published records.

    A reference is a run folder or its `last.pt`, a folder of runs, a file of records (.jsonl), a
    glob of these, a registered model, a recipe's name (`baseline/v3`), a folder of recipes
    (`study`), or a network whose runs lie below ./checkpoints. What lies on the disk comes before
    a packaged name. A model means its figures on the test set: what was tried on the validation
    split goes by the recipe's name.

    Raises:
        ArtifactError: a reference means no finished run.
    """
    records = [record for record in published() if not record["changes"]]
    if not references:
        tested = [r for r in records if r["split"] == "test" and r["model"] in COMPARED]
        return Found(tested, [], [])
    results: dict[str, Result] = {}  # a run that two references mean counts once
    unfinished: dict[str, Unfinished] = {}
    notices = []
    for reference in references:
        recorded = _recorded(reference, records)
        found = _on_disk(reference)
        if recorded and found:
            notices.append(f"{reference} is the folder here, not the packaged {reference}")
        if not found and not found.notices:
            found = Found(recorded, [], []) if recorded else _runs_of(reference)
        if not found.results:
            raise _nothing(reference, records, found)
        notices += found.notices
        for result in found.results:
            _keep_outermost(results, result.get("run") or json.dumps(result), result)
        for one in found.unfinished:
            _keep_outermost(unfinished, f"{one['run']} {one['seed']}", one)
    return Found(list(results.values()), list(unfinished.values()), notices)


def published() -> Iterator[Result]:
    """Yield the records behind published rows, and in a checkout those of our studies."""
    for part in ("records", "study"):
        for path in sorted(packaged("checkpoints", part).glob("*.jsonl")):
            yield from _lines(path, PUBLISHED)


def _recorded(reference: str, records: Sequence[Result]) -> list[Result]:
    tested = [r for r in records if r["split"] == "test"]
    found = [r for r in tested if reference in (r["model"], r["recipe"])]
    return found or [r for r in records if f"{r['recipe']}/".startswith(f"{reference}/")]


def _keep_outermost(known: dict[str, Any], name: str, one: dict[str, Any]) -> None:
    """Keep a run once; of two folders that were named for it the outer one is its origin."""
    before = known.get(name)
    if before is None or len(one["origin"]) < len(before["origin"]):
        known[name] = one


def _nothing(reference: str, records: Sequence[Result], found: Found) -> ArtifactError:
    """Return why a reference means no row."""
    if found.unfinished:
        first = found.unfinished[0]
        what = f"no run is finished in {reference!r}; seed {first['seed']}: {first['why']}"
        return ArtifactError(what, where=first["run"], hint=first["resume"])
    if found.notices:
        return ArtifactError(f"no record is left of {reference!r}; {found.notices[0]}")
    names = {name for record in records for name in (record["model"], record["recipe"])}
    hint = f"{nearest(reference, names)} (or a run folder)"
    return ArtifactError(
        f"no finished run or record for {reference!r}",
        hint="compare … --train" if ":" in reference else hint,
    )


def _lines(path: Path, origin: str, skipped: list[str] | None = None) -> Iterator[Result]:
    """Yield a file's records; a bad one is told in `skipped`, or raised where that is None."""
    from mnistcli.results import stored  # pydantic, which --help does without

    try:
        lines = stored.read_bytes(path, most_bytes=_MOST_BYTES).splitlines()
        for number, line in enumerate(lines, start=1):
            place = f"line {number}: "
            try:
                record = stored.parse_object(line, path, place=place)
                yield stored.checked(record, path, place=place) | {"origin": origin}
            except ArtifactError as fault:
                if skipped is None:
                    raise
                skipped.append(f"skipped: {fault}")
    except ArtifactError as fault:
        if skipped is None:
            raise
        skipped.append(f"skipped: {fault}")


def _on_disk(reference: str) -> Found:
    """Return the results below a path or glob, and the runs without one."""
    named = Path(reference).exists()
    found = Found([], [], [])
    for path in map(Path, [reference] if named else sorted(glob.glob(reference))):
        if path.suffix == ".jsonl":
            found.results.extend(
                _lines(path, str(path.resolve()), None if named else found.notices)
            )
            continue
        try:
            inside = _folders([_run_of(path)] if path.suffix == ".pt" else [path])
        except (OSError, ArtifactError) as error:
            fault = error if isinstance(error, ArtifactError) else not_readable(error, path)
            if named:
                raise fault from error
            found.notices.append(f"skipped: {fault}")
            continue
        found.results.extend(inside.results)
        found.unfinished.extend(inside.unfinished)
        found.notices.extend(inside.notices)
    return found


def _out_of_sight(folder: Path) -> list[str]:
    """Return a note for each folder inside one that this user may not look into."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        closed = sorted(one.path for one in entries
                        if one.is_dir() and not os.access(one.path, os.R_OK | os.X_OK))  # fmt: skip
    return [f"skipped: not readable, {path}" for path in closed]


def _runs_of(reference: str) -> Found:
    """Return a network's runs from where `train` puts them."""
    if ":" not in reference and reference not in known_names():
        return Found([], [], [])
    # a name of a folder that several networks may share
    found = _folders([Path("checkpoints", file_name(reference))])
    return Found(
        [run for run in found.results if run["model"] == reference],
        [run for run in found.unfinished if run["model"] == reference],
        [],
    )


def _run_of(checkpoint: Path) -> Path:
    """Return the run that a checkpoint is the last epoch of; a picked epoch is no row's figure."""
    if checkpoint.name != "last.pt" or not checkpoint.with_name("result.json").exists():
        raise ArtifactError(
            "a row needs a finished run; this is only a checkpoint",
            where=str(checkpoint),
            hint=f"name the run folder, or mnistcli evaluate {checkpoint}",
        )
    return checkpoint.parent


def _folders(paths: Iterable[Path]) -> Found:
    """Return the results of run folders and of those inside folders, and the runs without one.

    A run folder's origin is the folder around it, that of a run inside a named folder the latter.
    A result that is not believed is none.
    """
    from mnistcli.results import stored
    from mnistcli.results.unfinished import never_started, why_unfinished

    found = Found([], [], [])
    for path in paths:
        is_run = any((path / name).is_file() for name in ("result.json", "recipe.yaml"))
        origin = str((path.parent if is_run else path).resolve())
        for folder in [path] if is_run else run_folders(path):
            try:
                result = stored.of_folder(folder)
                found.results.append(result | {"run": str(folder), "origin": origin})
            except NotReadable as fault:
                if is_run:
                    raise
                found.notices.append(f"skipped: {fault}")
            except ArtifactError as fault:
                known = os.path.lexists(folder / "result.json")
                found.unfinished.append(why_unfinished(folder, origin, fault if known else None))
        if not is_run:
            found.notices.extend(_out_of_sight(path))
            found.unfinished.extend(never_started(path, origin))
    return found
