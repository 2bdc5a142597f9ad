"""Run a network once and list its operations in order: functions, and calls of modules.

What reads the list learns what the network computes, however its code is written.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

_Leaf = TypeVar("_Leaf")


@dataclass(frozen=True)
class Value:
    """A tensor at one moment. The pictures have number 0 and each result gets the next one.

    What the network holds (a parameter, a buffer, a tensor as an attribute) has a name instead.
    A tensor of unseen origin has neither: TorchScript or inference mode made it, or a view of it
    was written to.
    """

    number: int | None
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Operation:
    """A function that gave or changed tensors, or the call of a module.

    In `arguments` and `keywords` each tensor is a `Value`. A tensor that is written in place is an
    output too, under a new number. `inside` marks what ran within a layer that torch defines.
    """

    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: tuple[Value, ...]
    module: nn.Module | None = None
    inside: bool = False


def is_torch_layer(module: nn.Module) -> bool:
    """Return whether torch defines this module and it has no modules of its own."""
    return type(module).__module__.startswith("torch.nn") and not any(module.children())


def trace(model: nn.Module, pictures: Tensor) -> tuple[list[Operation], tuple[Value, ...]]:
    """Run the model on pictures [N, 1, 28, 28] in its present mode; return what it did and gave.

    What its forward raises passes through.
    """
    tracer = _Tracer(model, pictures)
    # TorchScript takes no hooks: only its results are seen, and as of unseen origin.
    modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    enter, leave = tracer.enter, tracer.leave
    hooks: list[Any] = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in modules]
    # Directly behind forward: what a person's own hooks compute is no part of the layer.
    hooks += [m.register_forward_hook(leave, with_kwargs=True, prepend=True) for m in modules]
    try:
        with as_written(), tracer:
            result = model(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    return tracer.operations, tuple(map(tracer.read, leaves(result, Tensor)))


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Let a network run step by step, where torch would fuse attention or compile a part."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # Its import takes a second; where nothing has imported it, nothing is compiled.
    compiles = "torch._dynamo" in sys.modules
    try:
        with torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class _Tracer(TorchFunctionMode):
    """Numbers the tensors of one forward pass. It keeps them alive, so that ids stay unique."""

    def __init__(self, model: nn.Module, pictures: Tensor) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._named = _named(model)
        self._held: dict[int, tuple[Tensor, int | None, Value]] = {}
        self._count = 0
        self._calls: list[Any] = []  # arguments of the modules that are running
        self._layers = 0  # how many of these are torch's
        self._give(pictures)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        before = [(tensor, _version(tensor)) for tensor in leaves((args, kwargs), Tensor)]
        arguments, keywords = replaced((args, kwargs), Tensor, self.read)
        result = func(*args, **kwargs)
        written = [tensor for tensor, version in before if _version(tensor) != version]
        given = {id(tensor): tensor for tensor in (*leaves(result, Tensor), *written)}
        if given:
            outputs = tuple(self._give(tensor) for tensor in given.values())
            inside = self._layers > 0
            operation = Operation(_name(func), arguments, keywords, outputs, inside=inside)
            self.operations.append(operation)
        return result

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note what a module is called with."""
        self._calls.append(replaced((args, kwargs), Tensor, self.read))
        self._layers += is_torch_layer(module)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """Add a module's call, whose outputs its functions have numbered already."""
        self._layers -= is_torch_layer(module)
        arguments, keywords = self._calls.pop()
        outputs = tuple(map(self.read, leaves(result, Tensor)))
        name, inside = type(module).__name__, self._layers > 0
        self.operations.append(Operation(name, arguments, keywords, outputs, module, inside))

    def _give(self, tensor: Tensor) -> Value:
        """Return a tensor's new value; what the network holds keeps its name."""
        if id(tensor) in self._named:
            return self.read(tensor)
        value = Value(self._count, "", tuple(tensor.shape), tensor.dtype)
        self._count += 1
        self._held[id(tensor)] = (tensor, _version(tensor), value)
        return value

    def read(self, tensor: Tensor) -> Value:
        """Return a tensor's present value."""
        if id(tensor) in self._named:
            return Value(None, self._named[id(tensor)][0], tuple(tensor.shape), tensor.dtype)
        _, version, value = self._held.get(id(tensor), (None, None, None))
        if value is None or version is None or version != _version(tensor):
            return Value(None, "", tuple(tensor.shape), tensor.dtype)
        return value


def leaves(tree: Any, kind: type[_Leaf]) -> Iterator[_Leaf]:
    """Yield what is of this type in nested tuples, lists and dictionaries."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, tuple | list):
        for branch in tree:
            yield from leaves(branch, kind)
    elif isinstance(tree, dict):
        yield from leaves(list(tree.values()), kind)


def replaced(tree: Any, kind: type[_Leaf], change: Callable[[_Leaf], Any]) -> Any:
    """Return nested tuples, lists and dictionaries with each value of this type changed."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, tuple | list):
        branches = [replaced(branch, kind, change) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    if isinstance(tree, dict):
        return {key: replaced(branch, kind, change) for key, branch in tree.items()}
    return tree


def _named(model: nn.Module) -> dict[int, tuple[str, Tensor]]:
    """Return each tensor that the network holds, by its id; a shared one has its first name."""
    held = [*model.named_parameters(), *model.named_buffers()]
    for prefix, module in model.named_modules():
        held += [(f"{prefix}.{key}".lstrip("."), value) for key, value in vars(module).items()
                 if isinstance(value, Tensor)]  # fmt: skip
    return {id(tensor): (name, tensor) for name, tensor in reversed(held)}


def _version(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to; torch does not count it in inference mode."""
    return None if tensor.is_inference() else tensor._version


def _name(func: Callable[..., Any]) -> str:
    return resolve_name(func) or str(getattr(func, "__qualname__", type(func).__name__))
