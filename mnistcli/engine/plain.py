"""What a kernel may rely on: tensors that are their memory, and layers that are their class.

All of it can change between two calls of a network; all of it costs a few microseconds a call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as modules

_PLAIN = torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr()
with torch.inference_mode():
    _INFERRED = torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr()


def is_memory(tensor: Tensor) -> bool:
    """Return whether a tensor is its memory on the CPU, of any dtype, and nothing more.

    torch's own dispatch tells: another layout, device or wrapper, a lazy zero or sign, and
    inference mode each have other keys. A subclass may have the same.
    """
    known = type(tensor) in (Tensor, nn.Parameter)
    return known and torch._C._dispatch_keys(tensor).raw_repr() == _PLAIN


def is_inferred(tensor: Tensor) -> bool:
    """Return whether a tensor is its memory and was made in inference mode."""
    keys = torch._C._dispatch_keys(tensor).raw_repr() if type(tensor) is Tensor else -1
    return keys == _INFERRED


def is_hooked(layer: nn.Module) -> bool:
    """Return whether calling a layer does more than the `forward` of its class."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or "forward" in vars(layer)
        or modules._has_any_global_hook()
    )


def is_unwatched() -> bool:
    """Return whether no transform, mode, tracer or saver has to see each of torch's operations."""
    return not (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_function_stack()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
        or torch.compiler.is_compiling()
    )
