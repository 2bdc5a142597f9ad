"""From a network's trace to its graph: batch norms folded, what changes nothing left out."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from mnistcli.errors import UsageError
from mnistcli.export.building import Building, Unknown
from mnistcli.export.graph import Graph
from mnistcli.export.layers import RULES
from mnistcli.models.trace import Operation, Value, is_torch_layer, leaves, trace
from mnistcli.runs.trained import Trained


def fold(trained: Trained) -> Graph:
    """Return the graph of a trained network.

    Raises:
        UsageError: it uses a layer, or a setting of one, that is not known here; which.
    """
    try:
        return graph_of(trained.model)
    except Unknown as unknown:
        known = "convolution, linear, batch norm, ReLU, ReLU6, Hardswish, pooling and sums"
        raise UsageError(
            f"{trained.entry.name} uses {unknown}, which C and int8 don't support",
            where=trained.entry.factory,
            hint=f"known are {known}; --to onnx and --to pt2 take any layer",
        ) from None


def graph_of(model: nn.Module) -> Graph:
    """Return the graph of a network in eval mode, or raise Unknown."""
    device = next(model.parameters()).device
    with torch.no_grad():
        operations, outputs = trace(model, torch.zeros(1, 1, 28, 28, device=device))
        listed = [operation for operation in operations if _is_listed(operation)]
        building = Building(_reads(listed, outputs))
        for operation in listed:
            _add(building, operation)
        graph = building.finish(outputs[0])
    cpu = [replace(layer, **{name: getattr(layer, name).cpu() for name in ("weight", "bias")
                             if hasattr(layer, name)}) for layer in graph.layers]  # fmt: skip
    return Graph(tuple(cpu))


def _is_listed(operation: Operation) -> bool:
    """Return whether it is a layer of torch's, or a function outside one."""
    if operation.module is not None:
        return is_torch_layer(operation.module) and not operation.inside
    return not operation.inside


def _reads(operations: Sequence[Operation], outputs: Sequence[Value]) -> Counter[int | None]:
    """Return how often each value is read."""
    words = [(operation.arguments, operation.keywords) for operation in operations]
    return Counter(value.number for value in leaves([words, outputs], Value))


def _add(building: Building, operation: Operation) -> None:
    name = operation.name.removesuffix(".__get__").rsplit(".", 1)[-1].strip("_")
    read = list(leaves((operation.arguments, operation.keywords), Value))
    if operation.module is None and not any(map(building.knows, read)):
        return  # of the network's own tensors: a layer that reads the result is refused
    rule = RULES.get(name)
    if rule is None or any(value.number is None for value in operation.outputs):
        raise Unknown(name)
    call = (building, operation.module or name, *operation.arguments)
    try:
        inspect.signature(rule).bind(*call, **operation.keywords)
    except TypeError:
        raise Unknown(f"{name} with other arguments") from None
    number = rule(*call, **operation.keywords)
    for value in operation.outputs:
        building.name(value, number)
