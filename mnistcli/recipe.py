"""The typed recipe: the only reader of YAML, and the only judge of what a recipe may say."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnistcli.errors import UsageError, nearest
from mnistcli.files import packaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_BYTES = 64 * 1024


class Section(BaseModel):
    """A part of a recipe: no unknown key, no NaN, no silent conversion, no change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sgd(Section):
    """SGD with momentum, Nesterov's form unless switched off."""

    name: Literal["sgd"]
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    nesterov: bool
    weight_decay: float = Field(ge=0)
    decay_norm_and_bias: bool


class Adam(Section):
    """Adam with L2 weight decay inside the gradient, or AdamW with decoupled decay."""

    name: Literal["adam", "adamw"]
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    decay_norm_and_bias: bool


class OneCycle(Section):
    """Linear from 0 to the peak over `warmup_fraction` of all steps, then a cosine to 0."""

    name: Literal["onecycle"]
    warmup_fraction: float = Field(ge=0, lt=1)


class Cosine(Section):
    """A cosine from the peak to 0 over all steps."""

    name: Literal["cosine"]


class Constant(Section):
    """The same learning rate at every step."""

    name: Literal["constant"]


class Plateau(Section):
    """torch's ReduceLROnPlateau in mode max: follow the accuracy on `split`."""

    name: Literal["plateau"]
    split: Literal["validation", "test"]
    factor: float = Field(gt=0, lt=1)
    patience_epochs: int = Field(ge=0)
    min_lr: float = Field(ge=0)


class Augment(Section):
    """Ranges of the random geometry, each drawn uniformly in ± its value; 0 switches one off."""

    rotation_degrees: float = Field(ge=0, le=180)
    shift_fraction: float = Field(ge=0, lt=1)
    scale_fraction: float = Field(ge=0, lt=1)
    scale_axes: Literal["joint", "separate"]
    shear_degrees: float = Field(ge=0, lt=90)
    elastic_alpha: float = Field(ge=0, le=1000)
    elastic_sigma_pixels: float = Field(ge=1, le=28)


Optimizer = Annotated[Sgd | Adam, Field(discriminator="name")]
Schedule = Annotated[OneCycle | Cosine | Constant | Plateau, Field(discriminator="name")]


class Recipe(Section):
    """Everything that decides a run's figures, except the data, the seed's luck and the machine."""

    model: str = Field(min_length=1)
    model_args: dict[str, bool | int | float | str]
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1, le=60_000)
    seed: int = Field(ge=0, lt=2**31)
    label_smoothing: float = Field(ge=0, lt=1)
    optim: Optimizer
    schedule: Schedule
    ema_decay: float | None = Field(ge=0, lt=1)
    augment: Augment
    validation: bool = False
    patience_epochs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _choices_need_validation(self) -> Recipe:
        if self.patience_epochs is not None and not self.validation:
            raise ValueError("patience_epochs reads validation accuracy: add --val")
        if isinstance(self.schedule, Plateau):
            wanted = "validation" if self.validation else "test"
            if self.schedule.split != wanted:
                mend = "--set schedule.split=validation" if self.validation else "--val"
                raise ValueError(
                    f"schedule.split is {self.schedule.split!r}, but the run reads {wanted}: {mend}"
                )
        return self

    def digest(self) -> str:
        """Return a short hash of all values except the seed: equal recipes, equal digest."""
        text = json.dumps(self.model_dump(exclude={"seed"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """Return the recipe as YAML that `load` reads back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a float and refuses duplicate keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in seen:
                problem = f"duplicate key {key!r}" if isinstance(key, str) else f"key {key!r}"
                raise yaml.constructor.ConstructorError(
                    None, None, f"{problem} is not allowed", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load(
    source: str, *, settings: Sequence[str] = (), options: dict[str, Any] | None = None
) -> Recipe:
    """Read a recipe and apply changes; `source` is a path or a packaged name such as `v3`.

    `settings` are `dotted.key=value` strings and `options` maps dotted keys to values; both go
    through the same validation as the file.

    Raises:
        UsageError: naming every problem at once, with its dotted path and the nearest valid key.
    """
    path = find(source)
    values = _parse(path)
    changes = dict(_parse_setting(setting) for setting in settings) | (options or {})
    for key, value in changes.items():
        _assign(values, key, value)
    return validate(values, where=str(path))


def validate(values: dict[str, Any], *, where: str) -> Recipe:
    """Return the recipe that plain `values` describe, or raise UsageError with all problems."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem, values) for problem in error.errors(include_url=False)]
    what = problems[0] if len(problems) == 1 else "; ".join(problems)
    raise UsageError(
        f"recipe: {what}", where=where, hint="mnistcli train --model v3 --print-recipe"
    )


def names() -> list[str]:
    """Return the names of the packaged recipes, `baseline/…` included."""
    root = packaged("configs")
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def find(source: str) -> Path:
    """Return the file of a recipe: a packaged name, else a path."""
    if source in names():
        return packaged("configs", f"{source}.yaml")
    path = Path(source)
    if path.is_file():
        return path
    raise UsageError(f"no recipe {source!r}", hint=f"{nearest(source, names())} or give a file")


def differences(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Return `key=new value` for every leaf in which two recipes differ."""
    before, after = dict(_leaves(old.model_dump())), dict(_leaves(new.model_dump()))
    keys = [*after, *(key for key in before if key not in after)]
    return tuple(
        f"{key}={after.get(key, '(absent)')}" for key in keys if before.get(key) != after.get(key)
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"recipe is larger than {_MAX_BYTES} bytes", where=str(path))
        # _Loader derives from SafeLoader: plain values only.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"recipe is not YAML: {_one_line(error)}", where=str(path)) from error
    except OSError as error:
        raise UsageError(f"can't read recipe: {error.strerror}", where=str(path)) from error
    if not isinstance(values, dict):
        raise UsageError("recipe is not a mapping of keys to values", where=str(path))
    return values


def _parse_setting(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {setting!r} is not key=value", hint="--set optim.lr=0.1")
    try:
        return key.strip(), yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {setting!r}: {_one_line(error)}") from error


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UsageError(f"recipe: {dotted}: {parent!r} has no keys below it")
        values = child
    values[last] = value


def _explain(problem: Any, values: dict[str, Any]) -> str:
    """Say one validation problem in one phrase: dotted path, what is wrong, the nearest key."""
    loc = _without_union_tags(problem["loc"], values)
    dotted = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        return f"{dotted}: unknown key, {nearest(loc[-1], _keys_beside(loc[:-1], values))}"
    if problem["type"] == "missing":
        return f"{dotted}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    got = problem["input"]
    shown = f" (got {got!r})" if isinstance(got, bool | int | float | str) else ""
    return f"{dotted}: {message}{shown}" if dotted else message


def _without_union_tags(loc: Sequence[Any], values: Any) -> list[str]:
    """Drop the variant's name that pydantic puts into the path of a tagged union."""
    kept: list[str] = []
    for part in loc:
        tag = values.get("name") if isinstance(values, dict) else None
        if kept and part == tag and not (isinstance(values, dict) and part in values):
            continue
        kept.append(str(part))
        values = values.get(part) if isinstance(values, dict) else None
    return kept


def _keys_beside(parents: Sequence[str], values: dict[str, Any]) -> list[str]:
    """Return the keys that are valid below `parents`, given the variant that `values` name."""
    if not parents:
        return list(Recipe.model_fields)
    section = values.get(parents[0])
    name = section.get("name") if isinstance(section, dict) else None
    variants: dict[str, tuple[type[Section], ...]] = {
        "optim": (Sgd, Adam),
        "schedule": (OneCycle, Cosine, Constant, Plateau),
        "augment": (Augment,),
    }
    for variant in variants.get(parents[0], ()):
        field = variant.model_fields.get("name")
        if field is None or name in field.annotation.__args__:  # type: ignore[union-attr]
            return list(variant.model_fields)
    return []


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
