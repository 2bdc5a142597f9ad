"""YAML to plain values, strictly: the only reader of YAML."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mnistcli.errors import UsageError


def parse_yaml(text: bytes | str, what: str, *, where: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        UsageError: beginning with `what`; it is no YAML, or uses what no recipe needs.
    """
    try:  # _Loader derives from SafeLoader: plain values only
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML: also KeyError on !!bool 3, AttributeError on !!timestamp x
        raise UsageError(f"{what}: {' '.join(str(error).split())}", where=where) from error


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
