"""The typed recipe: what decides a run's figures."""

from mnistcli.recipe.reader import describe, differences, find, load, names, validate
from mnistcli.recipe.schema import (
    Adam,
    Augment,
    Muon,
    Notes,
    OneCycle,
    Optimizer,
    Plateau,
    Recipe,
    Sgd,
)

__all__ = [
    "Adam",
    "Augment",
    "Muon",
    "Notes",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "Recipe",
    "Sgd",
    "describe",
    "differences",
    "find",
    "load",
    "names",
    "validate",
]
