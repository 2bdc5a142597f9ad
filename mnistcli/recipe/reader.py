"""Read recipes. Every problem is said at once, with the nearest key."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mnistcli import files
from mnistcli.errors import NotReadable, UsageError, nearest, not_readable
from mnistcli.recipe import kinds
from mnistcli.recipe.problems import explain
from mnistcli.recipe.schema import Recipe
from mnistcli.recipe.syntax import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_BYTES = 64 * 1024
_ABSENT = object()  # None is a value: it switches a section off


def load(
    source: str,
    *,
    settings: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    model: str | None = None,
) -> Recipe:
    """Read a recipe and apply changes; `source` is a path or a packaged name such as `v3`.

    `model` replaces the recipe's network where it is another one: a packaged network comes as its
    own recipe names it, any other without `model_args`, both without `notes`. Then come
    `settings`, `dotted.key=value` strings, and `options`, values by dotted key, as `kinds.apply`
    has it; all go through the same validation as the file.

    Raises:
        UsageError: naming every problem at once, with its dotted path and the nearest valid key.
        NotReadable: this user may not read the file.
    """
    path = find(source)
    values = read_mapping(path, "recipe")
    typed, asked = read_settings(settings), options or {}
    _refuse_twice(typed, [*asked, *(["model"] if model is not None else [])])
    changes = [*typed, *asked.items()]
    changes += [("model", model)] if model is not None else []
    of_the_file = copy.deepcopy(values)
    try:
        return change(values, changes, str(path))
    except UsageError as error:
        if error.where == str(path) and changes and _is_valid(of_the_file):
            error.where = _given(settings)
        raise


def change(values: dict[str, Any], changes: Sequence[tuple[str, Any]], where: str) -> Recipe:
    """Return the recipe of plain values with changes by dotted key, as `kinds.apply` has them.

    Another `model` comes as its own recipe names it, without `notes`.
    """
    model = dict(changes).get("model")
    if isinstance(model, str) and model != values.get("model"):
        values |= {"model": model, "model_args": model_args(model), "notes": None}
    kinds.apply(values, changes)
    return validate(values, where=where)


def read_settings(settings: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the changes that `key=value` strings ask for, as dotted key and plain value."""
    return [change for one in settings for change in kinds.expand(*_parse_setting(one))]


def validate(values: dict[str, Any], *, where: str) -> Recipe:
    """Return the recipe that plain `values` describe, or raise UsageError with all problems."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        what = f"recipe: {explain(error, values)}"
    raise UsageError(what, where=where, hint="mnistcli train --model v3 --print-recipe")


def _is_valid(values: dict[str, Any]) -> bool:
    try:
        Recipe.model_validate(values)
    except ValidationError:
        return False
    return True


def _given(settings: Sequence[str]) -> str:
    """Return where a value came from that the recipe's file does not have."""
    return f"--set {settings[0]}" if len(settings) == 1 else "--set" if settings else "the options"


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of the packaged recipes, `baseline/…` included; studies are none."""
    root = files.packaged("configs")
    found = (str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))
    return tuple(sorted(name for name in found if not name.startswith("study/")))


@functools.cache
def packaged(name: str) -> Recipe:
    """Return a packaged recipe, read once per process."""
    return load(name)


def model_args(model: str) -> dict[str, Any]:
    """Return the arguments that make a packaged network, as its own recipe names them; of any
    other network none."""
    return dict(packaged(model).model_args) if model in names() else {}


def find(source: str) -> Path:
    """Return the file of a recipe: a packaged name, else a path."""
    if source in names():
        return files.packaged("configs", f"{source}.yaml")
    path = Path(source)
    if path.is_file():
        return path
    hint = nearest(source, names(), rest=str(files.packaged("configs")))
    raise UsageError(f"no recipe {source!r}", hint=f"{hint} (or a file)")


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the plain values of a YAML file; `what` it is stands in what is said of it."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        fault = not_readable(error, path)
        if isinstance(fault, NotReadable):
            raise fault from error
        raise UsageError(f"{what} {fault.what}", where=str(path)) from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{what} is larger than {_MAX_BYTES} bytes", where=str(path))
    values = parse_yaml(data, f"{what} is not YAML", where=str(path))
    if not isinstance(values, dict):
        raise UsageError(f"{what} is not a mapping of keys to values", where=str(path))
    return values


def describe(recipe: Recipe) -> tuple[str, tuple[str, ...]]:
    """Return the nearest packaged recipe and what differs from it, seed and network aside."""
    model = recipe.model if recipe.model in names() else "v3"
    own = {"seed": recipe.seed} | (
        {} if model == recipe.model else {"model": recipe.model, "model_args": {}}
    )
    candidates = [
        (name, differences(packaged(name).model_copy(update=own), recipe))
        for name in (model, f"plain/{model}", f"baseline/{model}")
        if name in names()
    ]
    nearest_one = min(candidates, key=lambda candidate: len(candidate[1]))
    if nearest_one[1]:  # perhaps another one, such as a study's, to the letter
        same = (name for name in names() if packaged(name).digest() == recipe.digest())
        return next(((name, ()) for name in same), nearest_one)
    return nearest_one


def differences(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Return `key=new value` for every leaf in which two recipes differ; an empty one is null.

    Where a section is of another kind, all that the new kind has: so `--set` makes `new` of `old`.
    What only the old kind has goes unsaid.
    """
    before, after = dict(_leaves(old.model_dump())), dict(_leaves(new.model_dump()))
    said = {*after, *(key.partition(".")[0] for key in after)}
    gone = [key for key in before if key not in said and key.startswith("model_args.")]
    other_kind = tuple(
        f"{section}."
        for section in kinds.DEFAULTS
        if before[f"{section}.name"] != after[f"{section}.name"]
    )
    return tuple(
        f"{key}={_shown(after.get(key, '(absent)'))}"
        for key in [*after, *gone]
        if key.startswith(other_kind) or before.get(key, _ABSENT) != after.get(key, _ABSENT)
    )


def _shown(value: Any) -> Any:
    return "null" if value is None else value


def _parse_setting(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {setting!r} is not key=value", hint="--set optim.lr=0.1")
    return key.strip(), parse_yaml(text, f"--set {setting!r}", where="")


def _refuse_twice(typed: Sequence[tuple[str, Any]], options: Sequence[str]) -> None:
    """Refuse a key that --set and an option of its own give, or one of them with all below it."""
    twice = {
        key for key, _ in typed for option in options
        if f"{key}.".startswith(f"{option}.") or f"{option}.".startswith(f"{key}.")
    }  # fmt: skip
    if twice:
        raise UsageError(f"{', '.join(sorted(twice))} is given by --set and by its own option")


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
