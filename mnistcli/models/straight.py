"""Whether a network's own code does the same at every call: known layers, and a straight forward.

What a trace saw is true of later calls only if the code decides, counts and remembers nothing. So
code is read as a list of what it may do; all else may be something else next time.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAYERS = (
    nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Hardswish, nn.Dropout, nn.Dropout2d, nn.MaxPool2d,
    nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear, nn.Identity, nn.Sequential,
    nn.ModuleList, nn.ModuleDict,
)  # fmt: skip
# What the kernels may do, as functions of torch and as methods of what one of these gave.
_METHODS = {
    "add", "add_", "flatten", "hardswish", "mean", "relu", "relu_", "reshape", "size", "view",
}  # fmt: skip
_CALLS = _METHODS | {
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "conv2d", "dropout", "dropout2d", "linear",
    "max_pool2d",
}  # fmt: skip
_FUNCTIONS = [vars(where)[name] for where in (torch, F) for name in _CALLS if name in vars(where)]
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv)
_CONSTANTS = (bool, int, float, str, type(None))
# A class may define these; any other name that torch or Python gives a module is theirs.
_OWN = {
    "__init__", "__doc__", "__module__", "__annotations__", "__dict__", "__weakref__", "forward",
    "training", "__constants__", "__static_attributes__", "__firstlineno__", "extra_repr",
}  # fmt: skip
_COPY = "__deepcopy__"  # the network is traced on a deep copy
_RESERVED = {
    *vars(nn.Module), *vars(object), "__getattribute__", "__get__", "__class__", _COPY,
} - _OWN  # fmt: skip
_HELD = ("_modules", "_parameters", "_buffers")


def why_not(model: nn.Module) -> str | None:
    """Return None, or which part of a network may do something else at another call."""
    for name, module in model.named_modules():
        kind = type(module)
        what = f"{name or 'the network'} ({kind.__name__})"
        own = vars(module)
        if _COPY in own or any(callable(inspect.getattr_static(kind, key, None)) for key in own):
            return f"{what} has a forward or another method of its own"
        if module._compiled_call_impl is not None:
            return f"{what} is compiled already"
        if not (kind in _LAYERS or _is_layer(kind) or _is_straight(module)):
            return f"{what} has code that may do something else at another call"
    return None


def _is_layer(kind: type) -> bool:
    """Return whether a class only builds one of the known layers in its own way."""
    known = next((base for base in kind.__mro__ if base in _LAYERS), None)
    return known is not None and _adds(kind, known) <= _OWN - {"forward", "training"}


def _adds(kind: type, to: type) -> set[str]:
    """Return the names that a class and its bases define beyond those of one of these."""
    return {name for base in kind.__mro__ if base not in to.__mro__ for name in vars(base)}


def _is_straight(module: nn.Module) -> bool:
    """Return whether a module's forward is a sequence of calls of its layers and of torch."""
    kind = type(module)
    foreign = [base for base in kind.__mro__ if base.__module__.startswith("torch.")]
    if type(kind) is not type or foreign != [nn.Module] or _adds(kind, nn.Module) & _RESERVED:
        return False
    function = inspect.getattr_static(kind, "forward")
    tree = _source(function) if isinstance(function, FunctionType) else None
    return tree is not None and _Reader(module, function, tree).is_straight()


def _source(function: FunctionType) -> ast.FunctionDef | None:
    """Return a function's source where it is what runs: it may have been edited since."""
    code = function.__code__
    try:
        tree = ast.parse("".join(inspect.findsource(code)[0]))
        compiled = compile(tree, code.co_filename, "exec", dont_inherit=True)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    found = [node for node in nodes if node.lineno == code.co_firstlineno]
    return found[0] if len(found) == 1 and code in _codes(compiled) else None


def _codes(code: CodeType) -> list[CodeType]:
    """Return the code of all functions within."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return inner + [further for one in inner for further in _codes(one)]


class _Reader:
    """Reads the code of one forward: which names are its own, and what the others stand for."""

    def __init__(self, module: nn.Module, function: FunctionType, tree: ast.FunctionDef) -> None:
        self._module, self._function, self._tree = module, function, tree
        code = function.__code__
        self._self, *arguments = code.co_varnames[: code.co_argcount] or ("self",)
        nodes = [*ast.walk(tree)]
        self._stores = [n.id for n in nodes if isinstance(n, ast.Name) and _is_store(n)]
        targets = [node.target for node in nodes if isinstance(node, ast.For)]
        self._loops = [target.id for target in targets if isinstance(target, ast.Name)]
        self._names = {*arguments, *self._stores}

    def is_straight(self) -> bool:
        """Return whether each call does what the one before did."""
        arguments, function, tree = self._tree.args, self._function, self._tree
        if tree.decorator_list or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            return False
        if function.__code__.co_freevars or not all(map(_is_constant, function.__defaults__ or ())):
            return False
        once = all(self._stores.count(name) == self._loops.count(name) for name in self._loops)
        body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
        return once and self._self not in self._names and self._does(body)

    def _does(self, lines: Iterable[ast.stmt]) -> bool:
        """Return whether these lines only give names to values."""
        for line in lines:
            match line:
                case ast.Assign(targets=targets, value=value):
                    good = all(map(_is_store, targets)) and self._is_value(value)
                case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
                    good = self._is_value(value)
                case ast.AugAssign(target=ast.Name(), op=ast.Add(), value=value):
                    good = self._is_value(value)
                case ast.Return(value=ast.expr() as value):
                    good = self._is_value(value)
                case ast.For(target=ast.Name(), iter=over, body=body, orelse=[]):
                    found = self._find(over)
                    good = type(found) in (nn.ModuleList, nn.Sequential) and self._does(body)
                case _:
                    return False
            if not good:
                return False
        return True

    def _is_value(self, node: ast.expr) -> bool:
        """Return whether an expression gives the same from the same tensors."""
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name) if name in self._names:
                return name not in self._loops  # a layer under another name
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return all(map(self._is_value, parts))
            case ast.BinOp(left=left, op=operator, right=right):
                known = isinstance(operator, _OPERATORS)
                return known and self._is_value(left) and self._is_value(right)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._is_value(operand)
            case ast.Subscript(value=value, slice=index):
                return self._is_value(value) and self._is_value(index)
            case ast.Slice(lower=lower, upper=upper, step=step):
                return all(part is None or self._is_value(part) for part in (lower, upper, step))
            case ast.Attribute(value=value, attr="shape") if self._is_value(value):
                return True
            case ast.Call(func=called, args=arguments, keywords=keywords):
                given = [*arguments, *(keyword.value for keyword in keywords)]
                plain = all(keyword.arg is not None for keyword in keywords)
                return plain and self._is_known(called) and all(map(self._is_value, given))
        found = self._find(node)
        return type(found) in (Tensor, nn.Parameter) or (found is not None and _is_constant(found))

    def _is_known(self, called: ast.expr) -> bool:
        """Return whether a call is one of a layer, a function of torch or a tensor's method."""
        if isinstance(called, ast.Name) and called.id in self._loops:
            return True
        found = self._find(called)
        if isinstance(found, nn.Module) or any(found is one for one in _FUNCTIONS):
            return True
        method = isinstance(called, ast.Attribute) and called.attr in _METHODS
        return method and self._is_value(called.value)  # type: ignore[attr-defined]

    def _find(self, node: ast.expr) -> Any:
        """Return what self.a.b[0], or a name of the file that the code is in, stands for; or None.

        A property is code, so nothing is asked that could be one.
        """
        match node:
            case ast.Name(id=name) if name == self._self:
                return self._module
            case ast.Name(id=name) if name not in self._names:
                found = self._function.__globals__.get(name)
                return None if isinstance(found, nn.Module) else found
            case ast.Attribute(value=value, attr=name):
                return _attribute(self._find(value), name)
            case ast.Subscript(value=value, slice=ast.Constant(value=int() as index)):
                layers = self._find(value)
                if type(layers) in (nn.ModuleList, nn.Sequential) and index < len(layers):
                    return layers[index]
        return None


def _is_store(target: ast.expr) -> bool:
    """Return whether a target of an assignment is a name, or several."""
    if isinstance(target, ast.Tuple):
        return all(map(_is_store, target.elts))
    return isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)


def _attribute(of: Any, name: str) -> Any:
    if isinstance(of, ModuleType):
        return vars(of).get(name)
    if not isinstance(of, nn.Module):
        return None
    defined = inspect.getattr_static(type(of), name, None)
    if defined is not None and not _is_constant(defined):
        return None
    places = [vars(of), *(vars(of)[held] for held in _HELD), {name: defined}]
    return next((place[name] for place in places if name in place), None)


def _is_constant(value: Any) -> bool:
    if type(value) in (tuple, torch.Size):
        return all(map(_is_constant, value))
    return type(value) in _CONSTANTS
