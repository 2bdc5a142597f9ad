"""Kernels of our own for training on the CPU: batch normalisation with what follows, and pooling.

Between two convolutions a network this small spends its time on memory and on half-filled vectors;
`fused.cpp` walks them with full ones. Compiled at a run's start for the processor at hand, in two
seconds; nothing is kept on the disk.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.engine import machine, plain
from mnistcli.engine.scratch import temporary_folder
from mnistcli.errors import EnvironmentFault

_FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-trapping-math", "-fno-math-errno",
    "-shared", "-fPIC",
)  # fmt: skip
_SUFFIX = {torch.bfloat16: "bf16", torch.float32: "fp32"}
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Hardswish: "hardswish"}

_KERNELS = (
    *(f"batch_norm_{name}{way}" for name in _ACTIVATIONS.values() for way in ("", "_backward")),
    "max_pool", "max_pool_backward",
)  # fmt: skip


@functools.cache
def compile_kernels() -> ctypes.CDLL | str:
    """Return the loaded kernels, or why they can't be had here; once a process."""
    try:
        with temporary_folder() as folder:
            library = folder / "fused.so"
            source = Path(__file__).with_name("fused.cpp")
            fault = machine.run_compiler(source, *_FLAGS, "-o", library, folder=folder)
            return _load(library) if fault is None else fault
    except EnvironmentFault as error:
        return f"{error}; {error.hint}"


def _load(library: Path) -> ctypes.CDLL | str:
    """Return a library with all of our kernels, or why there is none."""
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:  # a folder that forbids execution; a compiler that wrote nothing
        where = "where that folder forbids execution, let TMPDIR name another"
        return f"the compiled kernels can't be loaded: {error}; {where}"
    for name in _KERNELS:
        if not all(hasattr(loaded, f"{name}_{suffix}") for suffix in _SUFFIX.values()):
            return f"the compiled kernels lack {name}"
    return loaded


def specialise(model: nn.Module) -> None:
    """Let a network's training run through the kernels; names, state and results stay.

    Replaced are the `forward` of 2×2 max-pools and of each `nn.Sequential` in which a ReLU or
    Hardswish follows a batch normalisation. At each call they look whether torch would do, with
    what is there now, what the kernels do; if not, and in evaluation, it goes torch's own way.
    """
    for module in model.modules():
        if "forward" in vars(module):  # the network's own, or specialised already
            continue
        if type(module) is nn.MaxPool2d:
            module.forward = functools.partial(_pool, module)  # type: ignore[method-assign]
        elif type(module) is nn.Sequential and any(map(_is_pair, module, list(module)[1:])):
            module.forward = functools.partial(_in_turn, module)  # type: ignore[method-assign]


def batch_norm_act(features: Tensor, norm: nn.BatchNorm2d, activation: nn.Module) -> Tensor:
    """Return activation(norm(features)) in training mode, [N, C, H, W].

    The running statistics of `norm` move; the activation is an `nn.ReLU` or `nn.Hardswish`. The
    numbers are torch's to rounding; sums do not depend on the number of threads. Nothing is
    checked: whether a kernel may run, the caller knows.
    """
    features = features.contiguous(memory_format=torch.channels_last)
    kernel = _ACTIVATIONS[type(activation)]
    output: Tensor = _BatchNormAct.apply(features, norm.weight, norm.bias, norm, kernel)
    return output


def max_pool_2x2(features: Tensor) -> Tensor:
    """Return the maxima of 2×2 windows; values and gradients are torch's bit for bit."""
    pooled: Tensor = _MaxPool2x2.apply(features.contiguous(memory_format=torch.channels_last))
    return pooled


class _BatchNormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, kernel: str
    ) -> Tensor:
        assert norm.momentum is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        y, channels = torch.empty_like(x), x.shape[1]
        mean, rstd = weight.new_empty(2, channels)
        _call(
            f"batch_norm_{kernel}", x, y, weight, bias, mean, rstd, norm.running_mean,
            norm.running_var, x.numel() // channels, channels, float(norm.eps),
            float(norm.momentum),
        )  # fmt: skip
        # torch keeps the output of ReLU, and refuses a backward pass after a change to it.
        kept = [y] if kernel == "relu" else []
        ctx.save_for_backward(x, weight, bias, *kept)
        ctx.kernel, ctx.eps, ctx.mean, ctx.rstd = kernel, norm.eps, mean, rstd
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors[:3]
        if not _may_differentiate(gradient):
            layer = functools.partial(_by_torch, kernel=ctx.kernel, eps=ctx.eps)
            return *_differentiate(layer, gradient, x, weight, bias), None, None
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        dx, channels = torch.empty_like(x), x.shape[1]
        dweight, dbias = weight.new_empty(2, channels)
        _call(
            f"batch_norm_{ctx.kernel}_backward", gradient, x, dx, weight, bias, ctx.mean, ctx.rstd,
            dweight, dbias, x.numel() // channels, channels,
        )  # fmt: skip
        return dx, dweight, dbias, None, None


class _MaxPool2x2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        shape, layout = (n, c, h // 2, w // 2), torch.channels_last
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        _call("max_pool", x, y, n * h // 2, w // 2, c)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor | None:
        (x,) = ctx.saved_tensors
        if not _may_differentiate(gradient):
            return _differentiate(functools.partial(F.max_pool2d, kernel_size=2), gradient, x)[0]
        n, c, h, w = x.shape
        gradient, dx = gradient.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
        _call("max_pool_backward", gradient, x, dx, n * h // 2, w // 2, c)
        return dx


def _may_differentiate(gradient: Tensor) -> bool:
    """Return whether the kernels give this gradient: not one with a graph of its own."""
    return not torch.is_grad_enabled() and plain.is_memory(gradient) and plain.is_unwatched()


def _differentiate(
    layer: Callable[..., Tensor], gradient: Tensor, *inputs: Tensor
) -> list[Tensor | None]:
    """Return the gradients of layer(*inputs) by torch, with a graph where one is asked for."""
    with torch.enable_grad():
        aliases = [tensor[...] for tensor in inputs]  # on which the network has no hooks
        output = layer(*aliases)
    wanted = [alias for alias in aliases if alias.requires_grad]
    create_graph = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(output, wanted, gradient, create_graph=create_graph))
    return [next(found) if alias.requires_grad else None for alias in aliases]


def _by_torch(x: Tensor, weight: Tensor, bias: Tensor, *, kernel: str, eps: float) -> Tensor:
    normalised = F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    return F.relu(normalised) if kernel == "relu" else F.hardswish(normalised)


def _in_turn(sequence: nn.Sequential, input: Tensor) -> Tensor:
    """Stand in for `nn.Sequential.forward`: a normalisation and its activation at once."""
    skip = False
    for module, following in itertools.pairwise([*sequence, None]):
        if skip:
            skip = False
        elif skip := _is_pair(module, following) and _norm_fits(input, module, following):
            input = batch_norm_act(input, module, following)
        else:
            input = module(input)
    return input


def _pool(pool: nn.MaxPool2d, input: Tensor) -> Tensor:
    """Stand in for `nn.MaxPool2d.forward`."""
    if pool.training and _pool_fits(input, pool):
        return max_pool_2x2(input)
    pooled: Tensor = type(pool).forward(pool, input)
    return pooled


def _is_pair(norm: nn.Module, activation: nn.Module | None) -> bool:
    return type(norm) is nn.BatchNorm2d and type(activation) in _ACTIVATIONS


def _norm_fits(features: Tensor, norm: nn.BatchNorm2d, activation: nn.Module) -> bool:
    """Return whether torch would do with these what the kernel does."""
    own, buffers = norm._parameters, norm._buffers
    running = [buffers.get("running_mean"), buffers.get("running_var")]
    return (
        norm.training
        and norm.track_running_stats
        and type(norm.momentum) in (float, int)
        and norm.eps > 0
        and buffers.get("num_batches_tracked") is not None
        and not (plain.is_hooked(norm) or plain.is_hooked(activation))
        and _can_run(features, own.get("weight"), own.get("bias"), *running)
        and all(value is not None and not value.requires_grad for value in running)
    )


def _pool_fits(features: Tensor, pool: nn.MaxPool2d) -> bool:
    pairs = [pool.kernel_size, pool.stride]
    return (
        all(pair in (2, (2, 2)) for pair in pairs)
        and pool.padding in (0, (0, 0))
        and pool.dilation in (1, (1, 1))
        and not pool.ceil_mode
        and not pool.return_indices
        and _can_run(features)
        and not (features.shape[2] % 2 or features.shape[3] % 2)
    )


def _can_run(features: Tensor, *vectors: Tensor | None) -> bool:
    """Return whether the kernels may read these: features [N, C, H, W] and fp32 vectors [C]."""
    return (
        plain.is_channels_last(features)
        and features.dtype in _SUFFIX
        and all(plain.is_vector(vector, features.shape[1]) for vector in vectors)
        and plain.is_unwatched()
    )


def _call(name: str, first: Tensor, *rest: Any) -> None:
    """Call a kernel for the first argument's dtype; tensors go as the address of their memory."""
    kernels = compile_kernels()
    assert isinstance(kernels, ctypes.CDLL), kernels
    getattr(kernels, f"{name}_{_SUFFIX[first.dtype]}")(*map(_as_c, (first, *rest)))


def _as_c(value: Tensor | int | float) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_double:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)
