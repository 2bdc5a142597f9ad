"""Kernels of our own for training on the CPU: batch normalisation with what follows, and pooling.

Between two convolutions a network this small spends its time on memory and on half-filled vectors;
`fused.cpp` walks them with full ones. Compiled at a run's start for the processor at hand, in two
seconds; nothing is kept on the disk.
"""

from __future__ import annotations

import ctypes
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.engine import machine

Layer = Callable[[Tensor], Tensor]

_FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-trapping-math", "-fno-math-errno",
    "-shared", "-fPIC",
)  # fmt: skip
_SUFFIX = {torch.bfloat16: "bf16", torch.float32: "fp32"}
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Hardswish: "hardswish"}


@functools.cache
def compile_kernels() -> ctypes.CDLL | str:
    """Return the loaded kernels, or why they can't be had here; once a process."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "fused.so")
        source = Path(__file__).with_name("fused.cpp")
        fault = machine.run_compiler(source, *_FLAGS, "-o", library)
        if fault is not None:
            return fault
        try:
            return ctypes.CDLL(str(library))
        except OSError as error:  # such as a temporary folder that forbids execution
            return f"the compiled kernels can't be loaded: {error}"


def specialise(model: nn.Module) -> None:
    """Let a network's training run through the kernels; names, state and results stay.

    Replaced are plain 2×2 max-pools, and inside an `nn.Sequential` each batch normalisation that a
    ReLU or Hardswish follows. Whoever calls those two one by one, and evaluation, goes torch's own
    way.
    """
    for module in model.modules():
        if type(module) is nn.MaxPool2d and _is_plain_pool(module):
            module.forward = MethodType(_pool, module)  # type: ignore[method-assign]
        if type(module) is nn.Sequential:
            steps = _fuse(list(module))
            if len(steps) < len(module):
                module.forward = functools.partial(_in_turn, steps)  # type: ignore[method-assign]


def batch_norm_act(features: Tensor, norm: nn.BatchNorm2d, activation: nn.Module) -> Tensor:
    """Return activation(norm(features)) in training mode, [N, C, H, W].

    The running statistics of `norm` move; the activation is an `nn.ReLU` or `nn.Hardswish`. The
    numbers are torch's to rounding; sums do not depend on the number of threads.
    """
    features = features.contiguous(memory_format=torch.channels_last)
    kernel = f"batch_norm_{_ACTIVATIONS[type(activation)]}"
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
        y, channels = torch.empty_like(x), x.shape[1]
        mean, rstd = torch.empty(2, channels)
        _call(
            kernel, x, y, weight, bias, mean, rstd, norm.running_mean, norm.running_var,
            x.numel() // channels, channels, float(norm.eps), float(norm.momentum),
        )  # fmt: skip
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.kernel = kernel
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *norm = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        dx, channels = torch.empty_like(x), x.shape[1]
        dweight, dbias = torch.empty(2, channels)
        sizes = x.numel() // channels, channels
        _call(f"{ctx.kernel}_backward", gradient, x, dx, *norm, dweight, dbias, *sizes)
        return dx, dweight, dbias, None, None


class _MaxPool2x2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = torch.empty((n, c, h // 2, w // 2), dtype=x.dtype, memory_format=torch.channels_last)
        _call("max_pool", x, y, n * h // 2, w // 2, c)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        n, c, h, w = x.shape
        gradient, dx = gradient.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
        _call("max_pool_backward", gradient, x, dx, n * h // 2, w // 2, c)
        return dx


def _fuse(modules: list[nn.Module]) -> list[Layer]:
    """Return the modules as steps, each batch normalisation and its activation as one."""
    steps: list[Layer] = []
    for module in modules:
        norm = steps[-1] if steps else None
        follows = type(module) in _ACTIVATIONS
        if follows and type(norm) is nn.BatchNorm2d and _is_plain_norm(norm):
            steps[-1] = functools.partial(_norm_act, norm, module)
        else:
            steps.append(module)
    return steps


def _in_turn(steps: list[Layer], features: Tensor) -> Tensor:
    for step in steps:
        features = step(features)
    return features


def _norm_act(norm: nn.BatchNorm2d, activation: nn.Module, features: Tensor) -> Tensor:
    several = features.ndim == 4 and features.numel() > features.shape[1]  # values a channel
    if norm.training and several and features.dtype in _SUFFIX:
        return batch_norm_act(features, norm, activation)
    result: Tensor = activation(norm(features))
    return result


def _pool(module: nn.MaxPool2d, features: Tensor) -> Tensor:
    even = features.ndim == 4 and not (features.shape[2] % 2 or features.shape[3] % 2)
    if module.training and even and features.dtype in _SUFFIX:
        return max_pool_2x2(features)
    return F.max_pool2d(features, 2)


def _is_plain_norm(norm: nn.BatchNorm2d) -> bool:
    """Return whether the kernel's fp32 pointers fit a layer's weights and running statistics."""
    whole = norm.affine and norm.track_running_stats and norm.momentum is not None
    return whole and all(
        value.dtype == torch.float32
        for value in norm.state_dict().values()
        if value.is_floating_point()
    )


def _is_plain_pool(module: nn.MaxPool2d) -> bool:
    pairs = [module.kernel_size, module.stride]
    return (
        all(pair in (2, (2, 2)) for pair in pairs)
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
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
