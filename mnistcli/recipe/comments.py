"""A recipe as YAML with each value's own words beside it, as `--print-recipe` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mnistcli.recipe import syntax
from mnistcli.recipe.section import Section, kinds_in, names_of

_COLUMN, _WIDTH = 27, 100


def to_yaml(values: dict[str, Any], of: type[Section]) -> str:
    """Return a recipe's plain values as YAML; the comments are its fields' descriptions."""
    return "".join(f"{line}\n" for line in _lines(values, of))


def _lines(values: dict[str, Any], of: type[Section]) -> Iterator[str]:
    for key, value in values.items():
        field = of.model_fields[key]
        kinds = tuple(kinds_in(field.annotation))
        if value is None or not kinds:
            yield from _commented(key, value, field.description or "")
            continue
        kind = next(one for one in kinds if value.get("name") in (names_of(one) or (None,)))
        yield _beside(f"{key}:", field.description or "")
        for name, inner in value.items():
            said = kind.model_fields[name].description or ""
            if name == "name":
                said = " | ".join(other for one in kinds for other in names_of(one))
            yield from (f"  {line}" for line in _commented(name, inner, said, indent=2))


def _commented(key: str, value: Any, said: str, *, indent: int = 0) -> Iterator[str]:
    """Yield a value's lines; what is too long for a comment beside it has it above."""
    first, *rest = syntax.to_yaml({key: value}).splitlines()
    beside = _beside(first, said, indent)
    in_one_line = not rest or isinstance(value, dict | list)  # else a comment is part of a text
    if in_one_line and len(beside) + indent <= _WIDTH:
        yield beside
    else:
        yield from ([f"# {said}", first] if said else [first])
    yield from rest


def _beside(line: str, said: str, indent: int = 0) -> str:
    return f"{line:<{_COLUMN - 2 - indent}}  # {said}" if said else line
