"""mnistcli: train, audit, evaluate and compare very small MNIST networks.

import mnistcli

network = mnistcli.load("v3")       # or a run's folder
digits = network.predict(pictures)  # uint8 or float, numpy or torch, any number of them
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"
__all__ = ["Network", "TrainResult", "__version__", "load", "networks", "train"]

if TYPE_CHECKING:
    from mnistcli.api import Network, TrainResult, load, networks, train


def __getattr__(name: str) -> Any:
    """Import torch at the first use of what needs it, and not before."""
    if name not in __all__:
        raise AttributeError(f"module 'mnistcli' has no attribute {name!r}")
    from mnistcli import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
