"""What is wrong with a recipe, in words: the dotted path, and what was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mnistcli.errors import nearest
from mnistcli.recipe.schema import SECTIONS, Recipe
from mnistcli.recipe.section import names_of
from mnistcli.recipe.syntax import meant

_TYPES = {
    "int_type": "int", "int_from_float": "int", "float_type": "float", "bool_type": "bool",
    "model_type": "section", "model_attributes_type": "section", "dict_type": "section",
}  # fmt: skip
_MOST_SAID, _MOST_SHOWN = 20, 40


def explain(error: ValidationError, values: dict[str, Any]) -> str:
    """Return all problems of a recipe's plain `values` in one line, the first twenty in words."""
    problems = error.errors(include_url=False)
    said = list(dict.fromkeys(_explain(one, values) for one in problems[:_MOST_SAID]))
    if (more := len(problems) - _MOST_SAID) > 0:
        said.append(f"and {more:,} more")
    return "; ".join(said)


def _explain(problem: ErrorDetails, values: dict[str, Any]) -> str:
    loc = _without_union_tags(problem["loc"], values)
    dotted, kind, got = ".".join(loc), problem["type"], problem["input"]
    if loc[:1] == ["model_args"] and len(loc) > 1:
        return f"{'.'.join(loc[:2])}: should be a number, true, false or a text"
    if kind == "extra_forbidden":
        return f"{dotted}: unknown key, {_nearest_key(loc, values)}"
    if kind == "missing":
        return f"{dotted}: missing"
    if kind == "union_tag_not_found":
        return f"{dotted}.name: missing"
    if kind == "union_tag_invalid":
        name = got["name"]
        return f"{dotted}.name: unknown name {_shown(name)}, {nearest(str(name), _names(dotted))}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if _TYPES.get(kind) == "section":
        message = "should be keys with values"
    return f"{dotted}: {message}{_got(got)}{_meant(kind, loc, got)}" if dotted else message


def _got(value: Any) -> str:
    """Return a plain value as it stands in a recipe, with the words around it."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return f" (got {_shown(value)})" if plain else ""


def _shown(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _meant(kind: str, loc: Sequence[str], value: Any) -> str:
    """Return ", did you mean …?" where a value of another type suggests one."""
    if kind == "list_type" and isinstance(value, int | str):
        return f", did you mean [{value}]?"
    if kind not in _TYPES or not isinstance(value, str | bool | float):
        return ""
    field = Recipe.model_fields[loc[0]].annotation if len(loc) == 1 else None
    nullable = loc == ["augment"] or type(None) in get_args(field)
    text = value if isinstance(value, str) else _shown(value)
    found = meant(text, of=_TYPES[kind], nullable=nullable)
    return "" if found is None else f", did you mean {found}?"


def _nearest_key(loc: Sequence[str], values: dict[str, Any]) -> str:
    """Say which key was meant by an unknown one: one beside it, or any other by its dotted path."""
    wrong, section = loc[-1], loc[0]
    beside = _keys_beside(loc[:-1], values)
    if others := [name for name in _names(section) if wrong in _fields(section, name)]:
        return f"it belongs to {' or '.join(others)}, not to {values[section]['name']}"
    known: dict[str, list[str]] = {}
    for other, kinds in SECTIONS.items():
        for key in {key: None for kind in kinds for key in kind.model_fields}:
            known.setdefault(key, []).append(f"{other}.{key}")
    known |= {key: [key] for key in beside}
    if match := get_close_matches(wrong.lower(), known, n=1, cutoff=0.5):
        return f"did you mean {' or '.join(map(repr, known[match[0]][:3]))}?"
    return nearest(wrong, beside)


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
    return _fields(parents[0], section.get("name") if isinstance(section, dict) else None)


def _names(section: str) -> list[str]:
    """Return what a section's `name` may be; nothing where it has none."""
    return [name for kind in SECTIONS.get(section, ()) for name in names_of(kind)]


def _fields(section: str, name: Any) -> list[str]:
    """Return the keys of a section of this name; nothing of an unknown one."""
    for kind in SECTIONS.get(section, ()):
        if name in names_of(kind) or not names_of(kind):
            return list(kind.model_fields)
    return []
