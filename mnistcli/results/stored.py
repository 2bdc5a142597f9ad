"""Read what runs have written: bounded, never waiting, and believed only where it is consistent.

The checkpoint is the truth; a run's other files are derived from it, and anybody may edit them.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from math import isclose
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnistcli import recipe as recipes
from mnistcli.engine.history import MOST_PICTURES, first_problem
from mnistcli.errors import ArtifactError, UsageError, not_readable
from mnistcli.events import Split
from mnistcli.recipe import Recipe
from mnistcli.results.figures import follows_test
from mnistcli.results.stats import wilson

MOST_BYTES = 16 * 2**20  # a set of 10,000 runs, or a run of 10,000 epochs, takes a third of it
_STRICT = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
_MOST_PARAMETERS, _MOST_MULT_ADDS = 10**12, 10**15


class Counts(BaseModel):
    """How many of how many are right, the share of it, and its interval."""

    model_config = _STRICT

    correct: int = Field(ge=0)
    total: int = Field(gt=0, le=MOST_PICTURES)
    accuracy: float
    interval: list[float] = Field(min_length=2, max_length=2)

    @model_validator(mode="after")
    def _follow_from_the_counts(self) -> Counts:
        if self.correct > self.total or self.accuracy != self.correct / self.total:
            raise ValueError("accuracy is not the share of correct in total")
        expected = wilson(self.correct, self.total)
        if not all(isclose(*pair, abs_tol=1e-9) for pair in zip(self.interval, expected)):  # noqa: B905
            raise ValueError("interval is not that of the counts")
        return self


class _Best(Counts):
    epoch: int = Field(ge=1)
    picked_on: Split


class _Runtime(BaseModel):
    model_config = _STRICT

    device: str = Field(pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$")
    device_name: str
    precision: Literal["fp32", "bf16", "fp16"]
    compiled: bool
    threads: int = Field(ge=1, le=4096)


class _Versions(BaseModel):
    model_config = _STRICT

    mnistcli: str
    torch: str
    python: str


class _Environment(BaseModel):
    model_config = _STRICT

    platform: str = ""
    commit: str | None = None


class _Result(BaseModel):
    """What a row, the gates and a report rely on; the rest is kept as it is."""

    model_config = _STRICT

    model: str = Field(min_length=1)
    recipe: str = Field(min_length=1)
    changes: list[str] = Field(max_length=1000)
    recipe_digest: str
    recipe_values: dict[str, Any] | None = Field(default=None, max_length=100)
    seed: int = Field(ge=0, lt=2**31)
    epochs: int = Field(ge=1, le=10_000)
    epochs_done: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1)
    split: Split
    data: str
    last: Counts
    best: _Best
    correct_by_epoch: list[int] = Field(min_length=1, max_length=10_000)
    train_accuracy: float = Field(ge=0, le=1)
    images_per_second: float = Field(ge=0)
    seconds_per_epoch: float = Field(ge=0)
    parameters: int = Field(ge=0, le=_MOST_PARAMETERS)
    mult_adds: int | None = Field(ge=0, le=_MOST_MULT_ADDS)
    receptive_field: int | None = Field(ge=1, le=10**6)
    follows_test: bool
    weights_sha256: str = ""
    network: str | None = None
    teacher_sha256: str | None = None
    code_path: str | None = None
    run: str | None = None
    runtime: _Runtime
    versions: _Versions
    environment: _Environment = _Environment()

    @model_validator(mode="after")
    def _epochs_agree(self) -> _Result:
        courses, most = self.correct_by_epoch, max(self.correct_by_epoch)
        if len(courses) != self.epochs_done or self.epochs_done > self.epochs:
            raise ValueError("correct_by_epoch: not the epochs of this run")
        if min(courses) < 0 or most > self.last.total or courses[-1] != self.last.correct:
            raise ValueError("correct_by_epoch: not the counts of this run")
        best = (self.best.correct, self.best.total, self.best.epoch, self.best.picked_on)
        if best != (most, self.last.total, courses.index(most) + 1, self.split):
            raise ValueError("best: not the best of correct_by_epoch")
        return self


def read_bytes(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the bytes of a regular file; a pipe is not waited for, a device not read.

    Raises:
        ArtifactError: missing, no regular file, or too large.
        NotReadable: this user may not read it.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                refuse("not a regular file", path)
            data = b"" if found.st_size > most_bytes else file.read(most_bytes + 1)
    except OSError as error:
        raise not_readable(error, path) from None
    except ValueError as error:  # a NUL in the name
        refuse(str(error), path)
    if max(found.st_size, len(data)) > most_bytes:
        refuse(f"larger than {most_bytes} bytes", path)
    return data


def read_object(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Return the JSON object that is a file.

    Raises:
        ArtifactError: it can't be read, or is none.
    """
    return parse_object(read_bytes(path, most_bytes=most_bytes), path)


def parse_object(data: bytes, path: Path, *, place: str = "") -> dict[str, Any]:
    """Return the JSON object that bytes of a file are; `place` says which of them."""
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        refuse(f"{place}not JSON: {str(error)[:200]}", path)
    if not isinstance(document, dict):
        refuse(f"{place}not a JSON object", path)
    return document


def of_folder(folder: Path) -> dict[str, Any]:
    """Return the result of a run's folder.

    Raises:
        ArtifactError: it can't be read, or is not what a run writes.
    """
    file = folder / "result.json"
    result = read_object(file)
    if "recipe_values" not in result and (folder / "recipe.yaml").is_file():
        result["recipe_values"] = recipe_of(folder).model_dump()  # written by 0.1
    return checked(result, file)


def recipe_of(folder: Path) -> Recipe:
    """Return the recipe that a run stored.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    file = folder / "recipe.yaml"
    try:
        return recipes.load(str(file))
    except UsageError as error:
        raise ArtifactError(error.what, where=str(file)) from error


def checked(result: dict[str, Any], path: Path, *, place: str = "") -> dict[str, Any]:
    """Return a result as it is known today, its figures consistent.

    What is `corrected` stands in place of what the run wrote, and the recipe is known by today's
    digest of its values.

    Raises:
        ArtifactError: naming the first field that no run writes.
    """
    try:
        result = result | (result.get("corrected") or {})
        _Result.model_validate(result)
        values = result.get("recipe_values")
        return result if values is None else result | _of_recipe(result, values)
    except ValidationError as error:
        problem = first_problem(error)
    except (UsageError, TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    refuse(f"{place}{problem}", path)


def refuse(problem: str, path: Path) -> NoReturn:
    """Raise ArtifactError naming a file and what is wrong with it."""
    raise ArtifactError(f"damaged, incomplete or edited: {problem}", where=str(path)) from None


def _of_recipe(result: dict[str, Any], values: dict[str, Any]) -> dict[str, str]:
    """Return today's digest of a result's recipe, which must be the recipe of its figures."""
    seed = values.get("seed")
    recipe, digest = _recipe(json.dumps(values | {"seed": 0}))
    said = {
        "model": recipe.model,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "seed": seed,
        "split": "validation" if recipe.validation else "test",
        "follows_test": follows_test(recipe),
    }
    for key, value in said.items():
        if result[key] != value:
            raise ValueError(f"{key}: {result[key]!r}, and {value!r} by recipe_values")
    if (result.get("teacher_sha256") is None) != (recipe.teacher is None):
        raise ValueError("teacher_sha256: not as recipe_values have it")
    return {"recipe_digest": digest}


@functools.lru_cache(maxsize=1024)
def _recipe(values: str) -> tuple[Recipe, str]:
    """Return a recipe's values validated, with their digest; the runs of a set share them."""
    recipe = recipes.validate(json.loads(values), where="")
    return recipe, recipe.digest()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
