"""Random networks, through the kernels and torch's own way: the same numbers, or the same error.

    python tests/fuzz_kernels.py SEED COUNT [overrun]

prints one line of JSON. `overrun` then hands a kernel more rows than there are: built with
AddressSanitizer (`CXX="g++ -fsanitize=address"`) it ends the process with a report.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from mnistcli.engine import fused

MODES = ["fp32", "bf16"] * 3 + ["fp64"]


class OwnReLU(nn.ReLU):
    """An activation that only looks like one that the kernels know."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) - 0.25


class Bounded(nn.Module):
    """A parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.tanh()


def norm_of(random: Random, channels: int) -> nn.Module:
    """Return a layer with weights of its own: mostly plain, seldom for another width."""
    wrong = channels + random.choice([-1, 1, 8]) if random.random() < 0.04 else channels
    options: dict[str, Any] = random.choice(
        [{}] * 16 + [{"momentum": None}, {"momentum": 1}, {"affine": False}, {"eps": 1e-2}]
        + [{"track_running_stats": False}]
    )  # fmt: skip
    norm = nn.BatchNorm2d(max(1, wrong), **options)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.3, 1.5)
    if norm.running_mean is not None and random.random() < 0.2:
        norm.running_mean.fill_(random.choice([float("nan"), 1e3, -1e4]))
    return norm


def activation_of(random: Random) -> nn.Module:
    kinds: list[Callable[[], nn.Module]] = [
        nn.ReLU, nn.Hardswish, nn.ReLU, nn.Hardswish, nn.Tanh, nn.Identity, OwnReLU,
        lambda: nn.ReLU(inplace=True),
    ]  # fmt: skip
    return random.choice(kinds)()


def pool_of(random: Random) -> nn.Module:
    """Return mostly a pool that the kernels know."""
    other: dict[str, Any] = random.choice(
        [{"kernel_size": (2, 2)}, {"stride": 1}, {"ceil_mode": True}, {"padding": 1}]
    )
    return nn.MaxPool2d(**{"kernel_size": 2} | (other if random.random() < 0.5 else {}))


def network(random: Random, channels: int, mode: str) -> nn.Sequential:
    """Return one to three units; one in bf16, since a second would make much of its rounding."""
    layers: list[nn.Module] = []
    for _ in range(1 if mode == "bf16" else random.randint(1, 3)):
        if random.random() < 0.7:
            outputs = random.choice([random.randint(1, 40), 8, 10, 16])
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
            channels = outputs
        if random.random() < 0.4:
            layers.append(pool_of(random))
        pair = [norm_of(random, channels), activation_of(random)]
        layers += [nn.Sequential(*pair)] if random.random() < 0.2 else pair
    return nn.Sequential(*layers)


def disturb(random: Random, net: nn.Sequential) -> None:
    """Do to one layer what people do to layers."""
    layer = random.choice([module for module in net.modules() if module is not net])
    has_weight = layer._parameters.get("weight") is not None
    double: Callable[..., Any] = lambda *values: values[-1] * 2  # noqa: E731
    match random.randrange(16):
        case 0:
            layer.register_forward_hook(double)
        case 1:
            layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        case 2:
            layer.register_full_backward_hook(lambda module, into, out: (into[0] * 2,))
        case 3:
            layer.register_full_backward_pre_hook(lambda module, out: (out[0] * 2,))
        case 4 if isinstance(layer, nn.BatchNorm2d) and has_weight:
            prune.l1_unstructured(layer, "weight", amount=1)
        case 5 if has_weight:
            parametrize.register_parametrization(layer, "weight", Bounded())
        case 6:
            layer.eval()
        case 7:
            layer.requires_grad_(False)
        case 8:
            old = layer.forward
            layer.forward = lambda input: old(input) + 1  # type: ignore[method-assign]
        case 9:
            layer.double()
        case 10 if isinstance(layer, nn.BatchNorm2d) and has_weight:
            layer.weight = nn.Parameter(layer.weight.detach().repeat_interleave(2)[::2])
        case 11 if isinstance(layer, nn.BatchNorm2d):
            layer.register_buffer("running_mean", torch.zeros(layer.num_features + 1))
        case 12:
            net[random.randrange(len(net))] = random.choice([nn.ReLU(), nn.Identity()])
        case 13:
            net.register_forward_hook(double)


def features_of(random: Random, channels: int, mode: str) -> Tensor:
    """Return [N, C, H, W] in any layout: ordinary, far from zero, or not all finite."""
    sizes = [random.choice([0, 1, 2, 3, 4, 4]), channels]
    sizes += [random.choice([1, 2, 4, 6, 7, 8]) for _ in range(2)]
    features = torch.randn(sizes, dtype=torch.float64 if mode == "fp64" else torch.float32)
    features = features * 10 ** random.uniform(-1, 1) + random.choice([0, 0, 0, 1, 30])
    if mode == "bf16" and random.random() < 0.5:
        features = features.bfloat16()
    match random.randrange(6):
        case 0:
            return features
        case 1:
            return features.repeat_interleave(2, dim=3)[..., ::2]
        case _:
            return features.to(memory_format=torch.channels_last)


def outcome(name: str, *, special: bool, exact: bool = False) -> Iterator[Any]:
    """Yield a case's results in order, in fp64 if `exact`: tensors, or at last an error."""
    random = Random(name)
    torch.manual_seed(random.randrange(2**32))
    mode, channels = random.choice(MODES), random.randint(1, 40)
    net = network(random, channels, mode).to(memory_format=torch.channels_last)
    net = net.double() if mode == "fp64" or exact else net
    changes = random.choice([0, 0, 0, 1, 1, 2])
    for _ in range(changes):
        disturb(random, net)
    if special:
        fused.specialise(net)
    for _ in range(changes):
        disturb(random, net)
    leaf = features_of(random, channels, mode)
    if "Hardswish" not in repr(net) and leaf.numel() and random.random() < 0.15:
        leaf[:1, :1, :1, :1] = float("nan")  # whose slope in torch's Hardswish depends on its place
    leaf = leaf.double() if exact else leaf
    leaf.requires_grad_(random.random() < 0.9)
    twice = mode == "fp32" and random.random() < 0.3
    try:
        for _ in range(2):
            yield from step(net, leaf, mode, twice=twice)
    except Exception as error:
        yield type(error)


def step(net: nn.Module, leaf: Tensor, mode: str, *, twice: bool) -> Iterator[Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
        output = net(leaf)
    yield output.detach()
    yield from (buffer.clone() for buffer in net.buffers())
    wanted = [t for t in (leaf, *net.parameters()) if t.requires_grad]
    gradient = torch.randn(output.shape).to(output.dtype)
    found = torch.autograd.grad(output, wanted, gradient, create_graph=twice, allow_unused=True)
    gradients = [g for g in found if g is not None]
    # torch rounds to bf16 before an activation's kinks, the kernels do not: test_fused compares
    # these gradients with fp32's.
    yield from (torch.zeros_like(g) if mode == "bf16" else g.detach() for g in gradients)
    if twice:
        norm = sum((g**2).mean() for g in gradients)
        found = torch.autograd.grad(norm, wanted, allow_unused=True)  # type: ignore[arg-type]
        yield from (g for g in found if g is not None)


def differs(ours: Any, theirs: Any) -> bool:
    """Return whether two results are not alike, or further apart than rounding explains."""
    if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
        return ours is not theirs
    if (ours.shape, ours.dtype, ours.stride()) != (theirs.shape, theirs.dtype, theirs.stride()):
        return True
    if not theirs.numel() or not theirs.is_floating_point():
        return not torch.equal(ours, theirs)
    if theirs.dtype == torch.bfloat16:
        return not torch.allclose(ours, theirs, rtol=0.02, atol=0.02, equal_nan=True)
    close = 5e-3 * (1 + theirs.nan_to_num(0, 0, 0).abs().max().item())
    return not torch.allclose(ours, theirs, rtol=0, atol=close, equal_nan=True)


def worse(name: str, ours: list[Any], theirs: list[Any]) -> list[int]:
    """Return the places of two lists that differ, and where ours is further from fp64."""
    pairs = list(itertools.zip_longest(ours, theirs))
    places = [index for index, pair in enumerate(pairs) if differs(*pair)]
    exact = list(outcome(name, special=False, exact=True)) if places else []
    return [place for place in places if is_further(*pairs[place], exact[place : place + 1])]


def is_further(ours: Any, theirs: Any, exact: list[Any]) -> bool:
    """Return whether ours is more than three times as far off: torch's own may be, at a kink."""
    if not all(isinstance(value, Tensor) for value in (ours, theirs, *exact)) or not exact:
        return True
    if (ours.stride(), ours.dtype) != (theirs.stride(), torch.float32):
        return True
    errors = [(value.double() - exact[0]).abs().max().item() for value in (ours, theirs)]
    return not errors[0] <= 3 * errors[1]


def fuzz(seed: int, count: int) -> dict[str, Any]:
    """Return what became of `count` cases; case i has the seed "SEED/i"."""
    failures: list[str] = []
    calls, raised, through_kernels = 0, 0, 0
    kernel = fused._call

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        kernel(*arguments)

    fused._call = counted
    for case in range(count):
        before, name = calls, f"{seed}/{case}"
        ours, theirs = (list(outcome(name, special=special)) for special in (True, False))
        if bad := worse(name, ours, theirs):
            failures.append(f"{name}: {bad} of {len(theirs)}")
        raised += isinstance(theirs[-1], type)
        through_kernels += calls > before
    fused._call = kernel
    return {
        "seed": seed, "count": count, "through_kernels": through_kernels, "raised": raised,
        "failures": failures,
    }  # fmt: skip


def overrun() -> None:
    """Read and write behind the end of two tensors."""
    features, output = torch.zeros(1, 4, 4, 2), torch.zeros(1, 2, 2, 2)
    fused._call("max_pool", features, output, 64, 2, 2)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
    sys.stdout.flush()
    if "overrun" in sys.argv:
        overrun()
