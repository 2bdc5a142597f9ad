"""Mult-adds of a forward pass, as torch's dispatcher sees it: layers, functions and scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_aten = torch.ops.aten


class MultAdds(TorchDispatchMode):
    """Adds up, in `total`, what runs while it is entered.

    Convolutions, matrix products and attention have the counts of torch's flop counter, halved.
    Beside these, each addition of a bias counts one, and so does each parameter of a
    normalisation, however large its map: that is how torchinfo counts.
    """

    supports_higher_order_operators = True  # such as flex_attention, which the counter knows

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing compiles this; where torch guards against it, it imports its compiler (0.8 s)."""
        return False

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._parameters = {id(parameter) for parameter in model.parameters()}
        self._held = self._parameters | {id(buffer) for buffer in model.buffers()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.higher_order.cond:
            predicate, taken, otherwise, operands = args
            with self:
                return (taken if predicate else otherwise)(*operands)
        function = getattr(func, "overloadpacket", func)
        if function not in _KNOWN and function is not func:  # it may consist of others
            with self:
                output = func.decompose(*args, **(kwargs or {}))
            if output is not NotImplemented:
                return output
        output = func(*args, **(kwargs or {}))
        self.total += self._count(function, args, output)
        return output

    def _count(self, function: Any, args: Sequence[Any], output: Any) -> int:
        """Return the mult-adds of one call; keywords matter to none of these functions."""
        count = 0
        if function in flop_registry:
            count += flop_registry[function](*args, out_val=output) // 2
        if function in _OWN:
            count += _OWN[function](args, output)
        if function in _ADDING and self._applied(args) is not None:
            count += output.numel()
        if function in _SCALING and (parameter := self._applied(args)) is not None:
            count += parameter.numel()
        return count

    def _applied(self, args: Sequence[Any]) -> Tensor | None:
        """Return the parameter of a sum or product with a tensor that is computed, or None."""
        one, other = args[:2]
        if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
            return None
        for parameter, computed in ((one, other), (other, one)):
            if _origin(parameter) in self._parameters and _origin(computed) not in self._held:
                return parameter
        return None


def _origin(tensor: Tensor) -> int:
    """Return the id of a tensor, or of what it is a view of."""
    return id(tensor if tensor._base is None else tensor._base)


def _sizes(args: Sequence[Any]) -> int:
    return sum(0 if tensor is None else tensor.numel() for tensor in args)


def _recurrent(args: Sequence[Any], output: Any) -> int:
    """Each step of a sequence [T, N, …] uses all weights and biases once."""
    steps, pictures, _ = args[0].shape
    return int(steps * pictures * _sizes(args[1:5]))


def _attention(args: Sequence[Any], output: Any) -> int:
    query, key, value = (tensor.shape for tensor in args[:3])
    return int(sdpa_flop_count(query, key, value)) // 2


# Of results that the flop counter does not know, or whose biases it leaves out.
_OWN: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    _aten.convolution: lambda args, output: 0 if args[2] is None else output.numel(),
    _aten.addmm: lambda args, output: output.numel(),
    _aten.native_batch_norm: lambda args, output: _sizes(args[1:3]),
    _aten.native_group_norm: lambda args, output: _sizes(args[1:3]),
    _aten.native_layer_norm: lambda args, output: _sizes(args[2:4]),
    _aten.mkldnn_rnn_layer: _recurrent,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten.mv: lambda args, output: args[0].numel(),
    _aten.dot: lambda args, output: args[0].numel(),
    _aten._trilinear: lambda args, output: output.numel() * prod(args[1].shape[1:]),  # nn.Bilinear
}
# With a parameter and a computed tensor: a bias that torch adds apart, a scale (RMS normalisation).
_ADDING = {_aten.add, _aten.add_}
_SCALING = {_aten.mul, _aten.mul_}
_KNOWN = {*flop_registry, *_OWN}
