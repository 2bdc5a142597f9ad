"""Own code that may do something else at another call goes torch's way; straight code is taken."""

from __future__ import annotations

import importlib.util
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from mnistcli.models import straight

START = """
import functools
import random
import torch
import torch.nn.functional as F
from torch import Tensor, nn, relu as act

P = 0.0
LAYER = nn.ReLU()
table = {"p": 0.0}

def helper(x):
    return x.relu()

class Net(nn.Module):
    scale = 2
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3), nn.ReLU()])
        self.head = nn.Linear(4 * 24 * 24, 10)
        self.calls, self.sizes, self.p, self.fixed = 0, [4 * 24 * 24], 0.0, torch.ones(4)
    @property
    def drawn(self):
        return random.random() < 0.5
    def other(self, x):
        return x
"""
STRAIGHT = {
    "layers and functions": "x = act(self.b(self.a(x))); return self.head(x.flatten(1))",
    "a docstring": "'''Say.'''; return self.head(F.relu(self.a(x)).view(x.size(0), -1))",
    "sizes": "n, c = x.size(0), x.shape[1]; return self.head(self.a(x).reshape(n, -1))",
    "a loop": "x = self.a(x)\nfor layer in self.layers: x = layer(x)\nreturn x.flatten(1)",
    "two loops": "for one in self.layers: x = one(x)\nfor one in self.layers: x = one(x)\nreturn x",
    "an item": "y: Tensor = self.layers[0](self.a(x)); return self.layers[1](y)",
    "a sum in place": "y = self.a(x); y += self.b(y); return torch.add(y, x)",
    "a mean": "return self.a(x).mean((2, 3))",
    "every second": "return self.a(x) + x[:, :, ::2, ::2]",
    "a file's constant": "return F.dropout(x, P)",
    "a class's constant": "return F.max_pool2d(x, self.scale, stride=self.scale)",
    "an own constant": "return F.dropout(x, p=self.p, training=self.training)",
    "a bare parameter": "return F.conv2d(x, self.a.weight, None, 1, -(-1))",
}
CROOKED = {
    "a branch": "return self.a(x) if self.training else x",
    "a branch on data": "y = self.a(x)\nif y.sum() > 0: y = self.b(y)\nreturn y",
    "a counter": "self.calls += 1; return self.a(x)",
    "a written attribute": "self.last = x; return self.a(x)",
    "a written item": "self.sizes[0] = 1; return self.a(x)",
    "a list under a name": "sizes = self.sizes; sizes += [1]; return x.view(-1, sizes[-1])",
    "a list read": "return F.dropout(x, self.sizes[0])",
    "a dictionary read": "return F.dropout(x, table['p'])",
    "a property": "return F.dropout(x, self.drawn)",
    "a method": "return self.other(self.a(x))",
    "a method under a name": "do = self.other; return do(x)",
    "a layer under a name": "do = self.a; return do(x)",
    "an assigned loop name": "for one in self.layers: one = x\nreturn one(x)",
    "a loop over numbers": "for i in range(2): x = self.a(x)\nreturn x",
    "a loop over methods": "for do in [self.other]: x = do(x)\nreturn x",
    "a helper of the file": "return helper(self.a(x))",
    "a layer of the file": "return LAYER(self.a(x))",
    "a partial": "return functools.partial(F.relu)(x)",
    "a lambda": "return (lambda y: y.relu())(x)",
    "a comprehension": "return [layer(x) for layer in self.layers][0]",
    "print": "print(x.shape); return x",
    "an assertion": "assert x.sum() > 0; return x",
    "a layer's mode": "y = self.a(x); z = self.b.eval(); return y",
    "a layer's gradient": "z = self.a.requires_grad_(False); return self.a(x)",
    "a layer's statistics": "z = self.b.reset_running_stats(); return self.a(x)",
    "a tensor's hook": "y = self.a(x); z = y.register_hook(helper); return y",
    "a kept gradient": "y = self.a(x); z = y.retain_grad(); return y",
    "a generator": "z = torch.manual_seed(0); return self.a(x)",
    "grad mode": "z = torch.set_grad_enabled(False); return self.a(x)",
    "random numbers": "return self.a(x) + torch.rand(1)",
    "a with": "with torch.no_grad(): return self.a(x)",
    "a try": "try: return self.a(x)\nexcept ValueError: return x",
    "an own import": "import random; return self.a(x)",
    "a starred argument": "return self.a(*[x])",
    "a dictionary of arguments": "return self.a(**{'input': x})",
    "a new name for self": "self = self.a; return self(x)",
    "a parent's forward": "return super().forward(x)",
    "a global": "global P; P = 0.5; return F.dropout(x, P)",
    "an attribute of a result": "return self.a(x).data",
    "setattr": "z = setattr(self, 'p', 1.0); return self.a(x)",
    "a walrus": "return self.a(y := x)",
}


def built(tmp_path: Path, source: str) -> Any:
    """Import a file as an own network's is, and return its module."""
    path = tmp_path / "own_net.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("own_net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_net"] = module
    linecache.clearcache()
    spec.loader.exec_module(module)
    return module


def with_forward(body: str, signature: str = "self, x") -> str:
    lines = [line for part in body.split("\n") for line in [f"        {part}"]]
    return "\n".join([START, f"    def forward({signature}):", *lines, ""])


@pytest.mark.parametrize("kind", STRAIGHT)
def test_straight_code_is_taken(kind: str, tmp_path: Path) -> None:
    assert straight.why_not(built(tmp_path, with_forward(STRAIGHT[kind])).Net()) is None


@pytest.mark.parametrize("kind", CROOKED)
def test_code_that_may_do_something_else_is_not(kind: str, tmp_path: Path) -> None:
    reason = straight.why_not(built(tmp_path, with_forward(CROOKED[kind])).Net())
    assert reason == "the network (Net) has code that may do something else at another call"


@pytest.mark.parametrize(
    "signature", ["self, x, seen=[]", "self, x, *more", "self, x, *, p=0.0", "self, x, **more"]
)
def test_arguments_that_may_remember_or_vary_are_not_taken(signature: str, tmp_path: Path) -> None:
    module = built(tmp_path, with_forward("return self.a(x)", signature))
    assert straight.why_not(module.Net()) is not None


CLASSES = {
    "a call of its own": "def __call__(self, x): return self.forward(x)",
    "an inner call": "def _call_impl(self, x): return x",
    "attributes found by code": "def __getattr__(self, name): return super().__getattr__(name)",
    "every attribute by code": "def __getattribute__(self, name): "
                               "return object.__getattribute__(self, name)",
    "a copy of its own": "def __deepcopy__(self, memo): return Net()",
    "another mode": "def train(self, mode=True): self.p += 0.1; return super().train(mode)",
    "another forward": "forward = lambda self, x: self.a(x)",
    "a partial forward": "forward = functools.partialmethod(lambda self, x: x)",
    "a static forward": "forward = staticmethod(helper)",
    "a decorated forward": "@torch.no_grad()\n    def forward(self, x): return self.a(x)",
    "a layer as a property": "@property\n    def a(self): return random.choice([nn.ReLU()])",
}  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_that_changes_what_a_call_is_is_not_taken(kind: str, tmp_path: Path) -> None:
    source = with_forward("return self.a(x)") + f"\n    {CLASSES[kind]}\n"
    if "property" in kind:
        source = source.replace("self.a, self.b =", "_, self.b =")
    assert straight.why_not(built(tmp_path, source).Net()) is not None


def wrapped(module: Any) -> None:
    inner = module.Net.forward

    def forward(self: nn.Module, x: torch.Tensor) -> Any:
        return inner(self, x) * 2

    forward.__wrapped__ = inner  # type: ignore[attr-defined]
    module.Net.forward = forward


CHANGES: dict[str, Callable[[Any, Any], object]] = {
    "a forward of the object": lambda module, net: setattr(net, "forward", torch.tanh),
    "a forward of a layer": lambda module, net: setattr(net.a, "forward", torch.tanh),
    "a bound method": lambda module, net: setattr(net, "forward", MethodType(module.helper, net)),
    "a call of the object": lambda module, net: setattr(net.a, "_call_impl", torch.tanh),
    "a convolution of the object": lambda module, net: setattr(net.a, "_conv_forward", torch.add),
    "a copy of the object's own": lambda module, net: setattr(net, "__deepcopy__", module.helper),
    "a compiled layer": lambda module, net: setattr(net.a, "_compiled_call_impl", torch.tanh),
    "a wrapped forward": lambda module, net: wrapped(module),
    "another code": lambda module, net: setattr(module.Net.forward, "__code__", built.__code__),
    "a function of that name": lambda module, net: setattr(module, "act", module.helper),
    "a parametrised weight": lambda module, net: parametrize.register_parametrization(
        net.a, "weight", nn.Identity()
    ),
    "another kind of layer": lambda module, net: setattr(net, "a", nn.LazyConv2d(4, 3)),
    "an edited file": lambda module, net: Path(module.__file__).write_text(
        Path(module.__file__).read_text().replace("act(self.a(x))", "self.b(self.a(x))")
    ),
    "no file": lambda module, net: (Path(module.__file__).unlink(), linecache.clearcache()),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_was_changed_after_its_code_was_written_is_not_taken(
    kind: str, tmp_path: Path
) -> None:
    module = built(tmp_path, with_forward("return act(self.a(x))"))
    net = module.Net()
    assert straight.why_not(net) is None
    CHANGES[kind](module, net)
    assert straight.why_not(net) is not None


def test_a_class_made_in_a_function_or_from_text_is_not_taken(tmp_path: Path) -> None:
    body = with_forward("return do(self.a(x))").replace("class Net", "do = helper\nclass Net")
    inner = "\n".join("    " + line for line in body.split("\n"))
    module = built(tmp_path, f"def make():\n{inner}\n    return Net()\n")
    assert straight.why_not(module.make()) is not None
    names: dict[str, Any] = {"__name__": "own_net"}
    exec(with_forward("return self.a(x)"), names)
    assert straight.why_not(names["Net"]()) is not None


def test_a_layer_that_only_builds_itself_otherwise_is_the_layer(tmp_path: Path) -> None:
    classes = """
from torch import nn

class Small(nn.Conv2d):
    def __init__(self):
        super().__init__(1, 4, 3)

class Odd(Small):
    def _conv_forward(self, *given):
        return super()._conv_forward(*given) * 2
"""
    module = built(tmp_path, classes)
    assert straight.why_not(nn.Sequential(module.Small())) is None
    assert straight.why_not(nn.Sequential(module.Odd())) is not None
