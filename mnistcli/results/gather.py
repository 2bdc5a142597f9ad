"""Find recorded results: published ones, run folders, files of records, and globs of these."""

from __future__ import annotations

import functools
import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnistcli import recipe as recipes
from mnistcli.errors import ArtifactError, UsageError, nearest
from mnistcli.files import packaged
from mnistcli.models.registry import COMPARED, file_name, known_names
from mnistcli.results.runlog import read_json, run_folders
from mnistcli.results.unfinished import Unfinished, never_started, why_unfinished

Result = dict[str, Any]

PUBLISHED = "published"
_NEEDED = {
    "model", "recipe", "changes", "recipe_digest", "seed", "epochs", "epochs_done", "split", "data",
    "last", "best", "correct_by_epoch", "parameters", "mult_adds", "receptive_field",
    "follows_test", "images_per_second", "seconds_per_epoch", "runtime", "versions",
}  # fmt: skip


class Found(NamedTuple):
    """Finished runs, runs without a result beside them, and what was said of a reference."""

    results: list[Result]
    unfinished: list[Unfinished]
    notices: list[str]


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
        if recorded and (found[0] or found[1]):
            notices.append(f"{reference} is the folder here, not the packaged {reference}")
        if not (found[0] or found[1]):
            found = (recorded, []) if recorded else _runs_of(reference)
        if not found[0]:
            raise _nothing(reference, records, found[1])
        for result in found[0]:
            _keep_outermost(results, result.get("run") or json.dumps(result), result)
        for one in found[1]:
            _keep_outermost(unfinished, f"{one['run']} {one['seed']}", one)
    return Found(list(results.values()), list(unfinished.values()), notices)


def published() -> Iterator[Result]:
    """Yield the committed records."""
    for path in sorted(packaged("checkpoints", "records").glob("*.jsonl")):
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


def _nothing(
    reference: str, records: Sequence[Result], unfinished: Sequence[Unfinished]
) -> ArtifactError:
    """Return why a reference means no row."""
    if unfinished:
        first = unfinished[0]
        what = f"no run is finished in {reference!r}; seed {first['seed']}: {first['why']}"
        return ArtifactError(what, where=first["run"], hint=first["resume"])
    names = {name for record in records for name in (record["model"], record["recipe"])}
    hint = f"{nearest(reference, names)} (or a run folder)"
    return ArtifactError(
        f"no finished run or record for {reference!r}",
        hint="compare … --train" if ":" in reference else hint,
    )


def _lines(path: Path, origin: str) -> Iterator[Result]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield _complete(json.loads(line), path) | {"origin": origin}
        except ValueError as error:
            raise ArtifactError(f"line {number} is not JSON: {error}", where=str(path)) from error


def _on_disk(reference: str) -> tuple[list[Result], list[Unfinished]]:
    """Return the results below a path or glob, and the runs without one."""
    names = [reference] if Path(reference).exists() else sorted(glob.glob(reference))
    results: list[Result] = []
    unfinished: list[Unfinished] = []
    for path in map(Path, names):
        if path.suffix == ".jsonl":
            results += _lines(path, str(path.resolve()))
            continue
        found = _folders([_run_of(path)] if path.suffix == ".pt" else [path])
        results += found[0]
        unfinished += found[1]
    return results, unfinished


def _runs_of(reference: str) -> tuple[list[Result], list[Unfinished]]:
    """Return a network's runs from where `train` puts them."""
    if ":" not in reference and reference not in known_names():
        return [], []
    # a name of a folder that several networks may share
    results, unfinished = _folders([Path("checkpoints", file_name(reference))])
    return (
        [run for run in results if run["model"] == reference],
        [run for run in unfinished if run["model"] == reference],
    )


def _run_of(checkpoint: Path) -> Path:
    """Return the run that a checkpoint is the last epoch of; a picked epoch is no row's figure."""
    if checkpoint.name != "last.pt" or not checkpoint.with_name("result.json").exists():
        raise ArtifactError(
            "a row is a finished run, by its last epoch; this is a checkpoint alone",
            where=str(checkpoint),
            hint=f"name the run folder, or mnistcli evaluate {checkpoint}",
        )
    return checkpoint.parent


def _folders(paths: Iterable[Path]) -> tuple[list[Result], list[Unfinished]]:
    """Return the results of run folders and of those inside folders, and the runs without one.

    A run folder's origin is the folder around it, that of a run inside a named folder the latter.
    """
    results: list[Result] = []
    unfinished: list[Unfinished] = []
    for path in paths:
        is_run = any((path / name).is_file() for name in ("result.json", "recipe.yaml"))
        origin = str((path.parent if is_run else path).resolve())
        for folder in [path] if is_run else run_folders(path):
            file = folder / "result.json"
            if file.exists():
                results.append(_of_folder(file) | {"origin": origin})
            else:
                unfinished.append(why_unfinished(folder, origin))
        if not is_run:
            unfinished += never_started(path, origin)
    return results, unfinished


def _of_folder(file: Path) -> Result:
    result = read_json(file)
    stored = file.with_name("recipe.yaml")
    if result is not None and "recipe_values" not in result and stored.is_file():
        result["recipe_values"] = recipes.load(str(stored)).model_dump()  # written by 0.1
    return _complete(result, file) | {"run": str(file.parent)}


def _complete(result: Any, path: Path) -> Result:
    """Return a result as it is known today, or raise ArtifactError where it lacks what a row needs.

    What is `corrected` stands in place of what the run wrote, and the recipe is known by today's
    digest of its values.
    """
    corrected = result.get("corrected", {}) if isinstance(result, dict) else None
    if not isinstance(corrected, dict) or not result.keys() >= _NEEDED:
        raise ArtifactError("damaged or incomplete result", where=str(path))
    result |= corrected
    if (values := result.get("recipe_values")) is not None:
        try:
            result["recipe_digest"] = _digest(json.dumps(values | {"seed": 0}))
        except (UsageError, TypeError) as error:
            raise ArtifactError(f"the result's recipe is none: {error}", where=str(path)) from error
    return result  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=1024)
def _digest(values: str) -> str:
    """Return today's digest of a recipe's values; the runs of a set have all but the seed alike."""
    return recipes.validate(json.loads(values), where="").digest()
