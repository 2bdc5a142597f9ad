"""What a study file may say: a question, arms that differ in recipe values, seeds and stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mnistcli import files
from mnistcli.errors import UsageError, nearest
from mnistcli.recipe.reader import read_mapping
from mnistcli.recipe.section import MOST_EPOCHS, Section
from mnistcli.recipe.seeds import parse_seeds

MOST_ARMS = 200
_EXAMPLE = "mnistcli study --help has an example"
Changes = dict[str, Any]
Points = Annotated[float, Field(gt=0, le=100)]  # per cent of the pictures


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("should be seeds, such as 0-4 or [0, 3, 7]")
    try:
        return parse_seeds(str(value).replace(" ", ""))
    except UsageError as error:
        raise ValueError(error.what) from error


class Stage(Section):
    """Runs of all arms that are left on seeds of the stage's own.

    `keep` challengers, those with the highest means, go on to the next stage, beside the base.
    """

    seeds: tuple[int, ...]
    keep: int | None = Field(default=None, ge=1, le=MOST_ARMS)
    epochs: int | None = Field(default=None, ge=1, le=MOST_EPOCHS)

    _read = field_validator("seeds", mode="before")(_seeds)


class Search(Section):
    """Arms that Optuna samples: `ranges` by dotted key, `arms` so many, by its own `seed`."""

    ranges: dict[str, Any] = Field(min_length=1, max_length=20)
    arms: int = Field(ge=1, le=MOST_ARMS)
    sampler: Literal["random", "qmc"] = "random"
    seed: int = Field(default=0, ge=0, lt=2**31)


class Study(Section):
    """One question. `detect` is the difference worth knowing about, in points; it decides the
    seeds, unless `seeds` or `stages` name them. `sd` is that of a run's accuracy, in points, where
    no record tells it. `confirm` are the seeds on which the leader is measured again."""

    question: str = Field(min_length=1, max_length=2000)
    base: str | dict[str, Any]
    common: Changes = Field(default={})
    arms: dict[str, Changes | None] = Field(default={}, max_length=MOST_ARMS)
    grid: dict[str, list[Any]] = Field(default={}, max_length=10)
    search: Search | None = None
    detect: Points = 0.05
    sd: Points | None = None
    seeds: tuple[int, ...] | None = None
    stages: list[Stage] | None = Field(default=None, min_length=1, max_length=10)
    confirm: tuple[int, ...] | bool | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _read_seeds(cls, value: Any) -> Any:
        return None if value is None else _seeds(value)

    @field_validator("confirm", mode="before")
    @classmethod
    def _read_confirm(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, bool) else _seeds(value)

    @field_validator("arms")
    @classmethod
    def _names_are_folders(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in arms:
            if not is_name(name):
                raise ValueError(f"{name!r}: an arm is named by letters, digits and . _ + - =")
        return arms

    @field_validator("grid")
    @classmethod
    def _grid_has_values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            if not values:
                raise ValueError(f"{key}: no value is given")
        return grid

    @model_validator(mode="after")
    def _seeds_once(self) -> Study:
        if self.seeds is not None and self.stages is not None:
            raise ValueError("give either seeds or stages")
        stages = self.stages or []
        if any(stage.keep is None for stage in stages[:-1]):
            raise ValueError("stages: all but the last one say how many arms to keep")
        if stages and stages[-1].keep is not None:
            raise ValueError("stages: the last one keeps no arms; `confirm` measures its leader")
        return self

    @model_validator(mode="after")
    def _later_seeds_are_fresh(self) -> Study:
        named = [stage.seeds for stage in self.stages or []] or [self.seeds or ()]
        if isinstance(self.confirm, tuple):
            named.append(self.confirm)
        used: set[int] = set()
        for seeds in named:
            if again := used.intersection(seeds):
                raise ValueError(
                    f"seed {min(again)} is used in two stages: what was picked on a seed looks "
                    "better on it"
                )
            used.update(seeds)
        return self


def is_name(text: str) -> bool:
    """Return whether a text is a folder's name anywhere, and no option."""
    plain = text.isascii() and text[:1] not in (".", "-", "") and len(text) <= 120
    return plain and all(one.isalnum() or one in "._+-=," for one in text)


def packaged_studies() -> list[str]:
    """Return the names of our own studies, `study/v3`."""
    return sorted(
        f"study/{path.stem}" for path in files.packaged("configs", "study").glob("*.yaml")
    )


def find_study(reference: Path) -> Path:
    """Return the file that is meant: a path, else one of our own studies by its name."""
    own = files.packaged("configs", f"{reference}.yaml")
    return own if not reference.exists() and str(reference) in packaged_studies() else reference


def read_study(path: Path) -> Study:
    """Return the study of a file.

    Raises:
        UsageError: naming every problem at once, and the nearest valid key.
    """
    if not path.is_file():
        hint = f"{nearest(str(path), packaged_studies())} ({_EXAMPLE})"
        raise UsageError(f"no study file {str(path)!r}", hint=hint)
    values = read_mapping(path, "study")
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(dict(one)) for one in error.errors(include_url=False))
        what = f"study: {'; '.join(list(problems)[:20])}"
    raise UsageError(what, where=str(path), hint=_EXAMPLE)


def _explain(problem: dict[str, Any]) -> str:
    loc = [str(part) for part in problem["loc"]]
    dotted = ".".join(part for part in loc if "[" not in part and part != "function-before")
    if problem["type"] == "missing":
        return f"{dotted}: missing"
    if problem["type"] == "extra_forbidden":
        inner: dict[str, type[Section]] = {"stages": Stage, "search": Search}
        kind = inner.get(loc[0], Study) if len(loc) > 1 else Study
        return f"{dotted}: unknown key, {nearest(loc[-1], kind.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    got = problem["input"]
    plain = got is None or isinstance(got, bool | int | float | str)
    shown = f" (got {str(got)[:40]!r})" if plain and dotted else ""
    return f"{dotted}: {message}{shown}" if dotted else message
