"""The typed recipe: what decides a run's figures.

Its parts are imported at first use: pydantic and YAML would triple the start of `--help`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnistcli.recipe.reader import (
        describe,
        differences,
        find,
        load,
        model_args,
        names,
        packaged,
        read_settings,
        validate,
    )
    from mnistcli.recipe.schema import (
        Augment,
        Distillation,
        Notes,
        Recipe,
    )

__all__ = [
    "Augment",
    "Distillation",
    "Notes",
    "Recipe",
    "describe",
    "differences",
    "find",
    "load",
    "model_args",
    "names",
    "packaged",
    "read_settings",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    part = "reader" if name.islower() else "schema"
    return getattr(import_module(f"{__name__}.{part}"), name)
