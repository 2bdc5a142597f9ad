"""Whether a network's own code does the same at every call: known layers, and a straight forward.

What a trace saw once holds for each call only where nothing decides anew, counts or remembers.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor, nn

_LAYERS = (
    nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Hardswish, nn.Dropout, nn.Dropout2d, nn.MaxPool2d,
    nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear, nn.Identity, nn.Sequential,
    nn.ModuleList, nn.ModuleDict,
)  # fmt: skip
_NODES = (
    ast.Assign, ast.AugAssign, ast.Return, ast.For, ast.Name, ast.Constant, ast.Attribute,
    ast.Call, ast.keyword, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv,
    ast.UnaryOp, ast.USub, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Load, ast.Store,
)  # fmt: skip


def why_not(model: nn.Module) -> str | None:
    """Return None, or which part of a network may do something else at another call."""
    for name, module in model.named_modules():
        kind = type(module)
        what = f"{name or 'the network'} ({kind.__name__})"
        if "forward" in vars(module):
            return f"{what} has a forward of its own"
        if kind in _LAYERS or kind.__module__.startswith("mnistcli.models."):
            continue
        if not _is_straight(module):
            return f"{what} has code that may do something else at another call"
    return None


def _is_straight(module: nn.Module) -> bool:
    """Return whether a module's forward is a sequence of calls of its layers and of torch."""
    kind = type(module)
    if kind.__module__.startswith("torch.") or kind.__call__ is not nn.Module.__call__:
        return False
    if kind.__getattr__ is not nn.Module.__getattr__ or "__getattribute__" in _defined(kind):
        return False
    try:
        source = textwrap.dedent(inspect.getsource(kind.forward))
        (function,) = ast.parse(source).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return False
    if not isinstance(function, ast.FunctionDef) or function.decorator_list:
        return False
    body = function.body[1:] if ast.get_docstring(function) else function.body
    names = {node.id for node in ast.walk(function)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}  # fmt: skip
    names |= {argument.arg for argument in function.args.args}
    return all(_is_plain(node, module, names) for line in body for node in ast.walk(line))


def _defined(kind: type) -> set[str]:
    return {name for base in kind.__mro__ if base not in (nn.Module, object) for name in vars(base)}


def _is_plain(node: ast.AST, module: nn.Module, names: set[str]) -> bool:
    """Return whether one part of the code neither decides nor writes to anything but a name."""
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Attribute | ast.Subscript):
        return isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.For):
        return not node.orelse and isinstance(_value(node.iter, module, names), nn.Module)
    if isinstance(node, ast.Call):
        return _is_known(node.func, module, names)
    return True


def _is_known(called: ast.expr, module: nn.Module, names: set[str]) -> bool:
    """Return whether a call is one of a layer, a function of torch or a tensor's method."""
    if isinstance(called, ast.Name) and called.id in names:
        return called.id != "self"  # the variable of a loop over layers
    target = _value(called, module, names)
    if isinstance(target, nn.Module):
        return True
    if target is None and isinstance(called, ast.Attribute):  # of what an expression gives
        return hasattr(Tensor, called.attr)
    return _is_torch(target)


def _is_torch(target: Callable[..., Any] | None) -> bool:
    where = getattr(target, "__module__", None) or ""
    return callable(target) and (where == "torch" or where.startswith(("torch.", "torch._C")))


def _value(node: ast.expr, module: nn.Module, names: set[str]) -> Any:
    """Return what self.a.b, or a name of the module that the code is in, stands for; or None."""
    if isinstance(node, ast.Name):
        if node.id == "self":
            return module
        known = vars(inspect.getmodule(type(module)) or ModuleType(""))
        return None if node.id in names else known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, module, names), node.attr, None)
    return None
