"""The arms of a study: each a whole recipe, judged on the validation split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistcli import recipe as recipes
from mnistcli.errors import UsageError
from mnistcli.models.registry import MODELS
from mnistcli.recipe import Recipe, kinds, reader
from mnistcli.study.schema import MOST_ARMS, Study, is_name

BASE = "base"


@dataclass(frozen=True)
class Arm:
    """A name and a recipe; `typed` are its changes as the file has them, for people.

    `searched` arms were sampled, not written by a person.
    """

    name: str
    recipe: Recipe
    typed: tuple[str, ...] = ()
    searched: bool = False


@dataclass(frozen=True)
class Arms:
    """All arms of a study, the base first."""

    base: Arm
    challengers: tuple[Arm, ...]

    @property
    def all(self) -> tuple[Arm, ...]:
        """The base and the challengers."""
        return self.base, *self.challengers

    def named(self, name: str) -> Arm:
        """Return an arm by its name."""
        return next(arm for arm in self.all if arm.name == name)


def resolve_arms(study: Study, path: Path, *, taught: bool = True) -> Arms:
    """Return the arms, each with the base's values, the common ones and its own.

    The base arm is the one whose recipe is that of the base with the common values; without one it
    is added. With `taught` off, teachers of the packaged MNIST are left out.

    Raises:
        UsageError: a value is wrong, or two arms resolve to the same recipe.
    """
    where = str(path)
    values = _base_values(study, where)

    def build(changes: dict[str, Any], name: str) -> Recipe:
        said = [*_expanded(study.common), *_expanded(changes), ("validation", True)]
        try:
            found = reader.change(_copy(values), said, where)
        except UsageError as error:
            what = f"arm {name!r}: {error.what.removeprefix('recipe: ')}"
            raise UsageError(what, where=where, hint=error.hint) from error
        return found.model_copy(update={"notes": None, "seed": 0} | _untaught(found, taught))

    plain = build({}, BASE)
    found = [Arm(n, build(c or {}, n), _typed(c or {})) for n, c in study.arms.items()]
    points = [Arm(name, build(c, name), _typed(c)) for name, c in _grid(study)]
    if any(arm.recipe == plain for arm in found):  # the grid's own point of the base is that arm
        points = [arm for arm in points if arm.recipe != plain]
    found += points
    found += _searched(study, build)
    return _sorted(found, plain, where)


def _sorted(found: list[Arm], plain: Recipe, where: str) -> Arms:
    known: dict[str, Arm] = {}
    names: set[str] = set()
    for arm in found:
        if (twin := known.get(arm.recipe.digest())) is not None:
            what = f"arms {twin.name!r} and {arm.name!r} are the same recipe"
            raise UsageError(what, where=where, hint="leave one of them out")
        if arm.name in names:
            raise UsageError(f"two arms are named {arm.name!r}", where=where)
        names.add(arm.name)
        known[arm.recipe.digest()] = arm
    base = known.pop(plain.digest(), None)
    if base is None and BASE in names:
        what = f"the arm {BASE!r} changes something, and the base itself needs that name"
        raise UsageError(what, where=where, hint=f"another name, and {BASE}: {{}}")
    if not known:
        raise UsageError("a study needs an arm beside the base", where=where, hint="arms: or grid:")
    if len(known) >= MOST_ARMS:
        raise UsageError(f"{len(known) + 1} arms, at most {MOST_ARMS}", where=where)
    return Arms(base or Arm(BASE, plain), tuple(known.values()))


def own_networks(arms: Arms) -> list[str]:
    """Return the networks that are not registered."""
    return list(dict.fromkeys(a.recipe.model for a in arms.all if a.recipe.model not in MODELS))


def _typed(changes: dict[str, Any]) -> tuple[str, ...]:
    """Return changes as `--set` takes them."""
    return tuple(f"{key}={_word(value)}" for key, value in _expanded(changes))


def _base_values(study: Study, where: str) -> dict[str, Any]:
    """Return the base's plain values, complete."""
    if isinstance(study.base, dict):
        return reader.validate(study.base, where=f"{where}, base").model_dump()
    beside = Path(where).parent / study.base
    named = study.base in recipes.names() or Path(study.base).is_file()
    source = str(beside) if not named and beside.is_file() else study.base
    return recipes.load(source).model_dump()


def _expanded(changes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        yield from kinds.expand(key, value)


def _grid(study: Study) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the points of the grid, named by their values."""
    if not study.grid:
        return
    for point in itertools.product(*study.grid.values()):
        changes = dict(zip(study.grid, point, strict=True))
        yield name_of(changes), changes


def name_of(changes: dict[str, Any]) -> str:
    """Return an arm's name made of its values: `muon_lr=0.02,batch_size=64`."""
    last = [key.rpartition(".")[2] for key in changes]
    keys = last if len({*last}) == len(last) else [key.replace(".", "-") for key in changes]
    name = ",".join(f"{key}={_word(value)}" for key, value in zip(keys, changes.values(),
                                                                   strict=True))  # fmt: skip
    if not is_name(name):
        raise UsageError(f"grid: {name!r} is no name for an arm", hint="write it below arms:")
    return name


def _word(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _searched(study: Study, build: Callable[[dict[str, Any], str], Recipe]) -> list[Arm]:
    if study.search is None:
        return []
    from mnistcli.study.search import sample

    return [Arm(n, build(c, n), _typed(c), searched=True) for n, c in sample(study.search)]


def _untaught(recipe: Recipe, taught: bool) -> dict[str, Any]:
    registered = recipe.distillation is not None and recipe.distillation.teacher in MODELS
    return {"distillation": None} if registered and not taught else {}


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: dict(one) if isinstance(one, dict) else one for key, one in values.items()}
