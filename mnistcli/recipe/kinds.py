"""Changes typed on a command line, and what a section brings when one of them changes its kind.

A recipe file stays complete: no figure of this module enters one that was read without a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mnistcli.errors import UsageError
from mnistcli.recipe.schema import SECTIONS, Augment

# What each kind needs beside its name, as it stands beside the kind.
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    section: {name: values for kind in kinds for name, values in kind.DEFAULTS.items()}
    for section, kinds in SECTIONS.items()
    if len(kinds) > 1
}
# configs/v3.yaml; what `--teacher` and `distillation.…` bring to a recipe without a teacher.
TAUGHT = {"teacher": "teacher", "weight": 0.7, "temperature": 2.0}
_OFF = dict.fromkeys(Augment.RANGES, 0)
_NEVER_KEPT = ("lr", "weight_decay")  # their size means another thing to another optimizer
_EITHER = {"schedule.milestones": "every_epochs", "schedule.every_epochs": "milestones"}


def expand(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a change as changes of leaves: `optim={lr: 1}` is `optim.lr=1`, `optim=sgd` its name.

    What the braces do not name stays as it is. `model_args` alone are replaced as a whole.
    """
    if key in DEFAULTS and isinstance(value, str):
        yield f"{key}.name", value
    elif key in SECTIONS and isinstance(value, dict) and value:
        yield from ((f"{key}.{name}", inner) for name, inner in value.items())
    else:
        yield key, value


def apply(values: dict[str, Any], changes: Sequence[tuple[str, Any]]) -> None:
    """Write changes by dotted key into a recipe's plain values; of equal keys the last one wins.

    A new optim.name or schedule.name keeps the values that both kinds have, except lr and
    weight_decay; the rest are DEFAULTS. `augment=null` sets all ranges to 0. Kinds and whole
    sections come first, so that what is given beside them wins.

    Raises:
        UsageError: a key goes below a value that has no keys.
    """
    typed = {key for key, _ in changes}
    for key, value in sorted(changes, key=lambda change: not _is_first(change[0])):
        section, _, name = key.partition(".")
        if section in DEFAULTS and name == "name" and isinstance(values.get(section), dict):
            values[section] = _of_kind(section, values[section], value)
        elif key == "augment" and value is None and isinstance(values.get("augment"), dict):
            values["augment"] = values["augment"] | _OFF
        else:
            if section == "distillation" and name and values.get(section) is None:
                values[section] = dict(TAUGHT)
            _assign(values, key, value)
        if (other := _EITHER.get(key)) and value is not None and f"schedule.{other}" not in typed:
            values[section].pop(other, None)


def _is_first(key: str) -> bool:
    return "." not in key or key in ("optim.name", "schedule.name")


def _of_kind(section: str, old: dict[str, Any], name: Any) -> dict[str, Any]:
    """Return a section's values as another kind; an unknown one is left to validation."""
    fields = DEFAULTS[section].get(name) if isinstance(name, str) else None
    if fields is None or old.get("name") == name:
        return old | {"name": name}
    kept = {key: old[key] for key in fields if key in old and key not in _NEVER_KEPT}
    return {"name": name} | fields | kept


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise UsageError(f"recipe: {dotted}: {parent!r} has no keys below it")
    values[last] = value
