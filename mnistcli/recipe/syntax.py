"""YAML to plain values and back, strictly: the only owner of YAML.

What is not plainly a number, true, false or null is text; `meant` guesses what such a text was for.
"""

from __future__ import annotations

import re
from contextlib import suppress
from math import isfinite
from typing import Any

import yaml

from mnistcli.errors import UsageError

_NO, _YES = ("off", "no", "n", "false"), ("on", "yes", "y", "true")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
_NOTHING = ("none", "nil", "nothing", "undefined", "n/a", "null", "~")


def parse_yaml(text: bytes | str, what: str, *, where: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        UsageError: beginning with `what`; it is no YAML, or uses what no recipe needs.
    """
    try:  # _Loader derives from SafeLoader: plain values only
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML: also KeyError on !!bool 3, AttributeError on !!timestamp x
        raise UsageError(f"{what}: {' '.join(str(error).split())}", where=where) from error


def to_yaml(values: dict[str, Any]) -> str:
    """Return plain values as YAML that `parse_yaml`, and any reader of YAML 1.1, reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def meant(text: str, *, of: str, nullable: bool) -> str | None:
    """Return what was probably meant by a text where a number, boolean or section belongs.

    `of` is "int", "float", "bool" or "section"; None where nothing suggests itself.
    """
    word = text.strip().lower()
    if word in _NOTHING or word in _NO or word in _YES:
        return _word_meant(word, of, nullable=nullable)
    number = _number(word)
    if of not in ("int", "float") or number is None:
        return None
    if of == "int":
        return str(int(number)) if number == int(number) else None
    return repr(number)


def _word_meant(word: str, of: str, *, nullable: bool) -> str | None:
    if of == "bool":
        return "true" if word in _YES else "false"
    if word in _YES:
        return None
    if nullable:
        return "null"
    return "0" if of in ("int", "float") else None


def _number(word: str) -> int | float | None:
    """Read what Python or C writes, with a decimal comma, thousands, a percent sign, a bare e."""
    plain = word.replace("_", "")
    plain = plain.replace(",", "" if _THOUSANDS.fullmatch(plain) else ".")
    share = plain.endswith("%")
    if not plain.startswith("0x"):
        plain = plain.rstrip(" %").rstrip("ef")
    for read in (int, float, lambda digits: int(digits, 0)):
        with suppress(ValueError):
            number: int | float = read(plain)
            return None if not isfinite(number) else number / 100 if share else number
    return None


class _Loader(yaml.SafeLoader):
    """SafeLoader with the plain scalars of YAML 1.2; it refuses duplicate keys and aliases.

    YAML 1.1, PyYAML's own, reads 010 as 8, 1:30 as 90, `off` as false and 1e-3 as text.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, the superclass's own shape

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


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes a text such as 1e3, which the loader would read as a number."""


# https://yaml.org/spec/1.2.2/#1032-tag-resolution, but for octal, hexadecimal and leading zeros of
# integers. Possessive (++): the time is linear in the length also where there is no match.
for _tag, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)", [*"~nN", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9]\d*+)", [*"-+0123456789"]),
    ("float", r"[-+]?(\d++\.\d*+|\.\d++)([eE][-+]?\d++)?", [*"-+.0123456789"]),
    ("float", r"[-+]?\d++[eE][-+]?\d++", [*"-+0123456789"]),
    ("float", r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))", [*"-+."]),
):
    for _reads_or_writes in (_Loader, _Dumper):
        _reads_or_writes.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"{_pattern}\Z", re.ASCII), _first
        )
