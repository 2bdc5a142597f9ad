"""The parameter audit: layers, shapes, parameters, mult-adds and receptive field, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torchinfo
from torch import Tensor, nn

from mnistcli.models.registry import ModelEntry, build
from mnistcli.models.v3 import SkipAdd

_MIB = 2**20
_POINTWISE = (
    nn.Dropout,
    nn.Identity,
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Dropout2d,
    nn.Linear,
    SkipAdd,
)


@dataclass(frozen=True)
class Layer:
    """One leaf module, in the order of execution.

    `output_shape` is for one picture. `receptive_field` is the side in pixels of the square of
    the input that one output sees, unclipped; None where the network is no chain of modules.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    kernel: int | None
    stride: int | None
    parameters: int
    mult_adds: int
    receptive_field: int | None


@dataclass(frozen=True)
class Audit:
    """A network's totals; sizes in MiB, forward and backward for one picture in fp32."""

    model: str
    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    mult_adds: int
    forward_backward_mib: float
    parameters_mib: float
    int8_mib: float

    @property
    def receptive_field(self) -> int | None:
        """The receptive field of the logits."""
        return self.layers[-1].receptive_field if self.layers else None


def audit(entry: ModelEntry, model_args: dict[str, Any]) -> Audit:
    """Build a throw-away copy of the network and count it for one picture [1, 1, 28, 28].

    Parameters are counted once however often they are used. Mult-adds are torchinfo's: those of
    convolutions and linear layers, plus one for each batch-norm parameter and linear bias.
    """
    # Weight initialisation draws from the global generator; an audit must not move it.
    with torch.random.fork_rng(devices=[]):
        model = build(entry, model_args).cpu().eval()
    picture = torch.zeros(1, 1, 28, 28)
    fields = _receptive_fields(model, picture)
    info = torchinfo.summary(
        model, input_data=picture, mode="eval", verbose=0, depth=20, device="cpu"
    )
    names = {id(module): name for name, module in model.named_modules()}
    leaves = [leaf for leaf in info.summary_list if leaf.is_leaf_layer]
    layers = tuple(_layer(leaf, names[id(leaf.module)], fields) for leaf in leaves)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Audit(
        model=entry.name,
        layers=layers,
        parameters=parameters,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        mult_adds=int(info.total_mult_adds),
        forward_backward_mib=info.total_output_bytes / _MIB,
        parameters_mib=parameters * 4 / _MIB,
        int8_mib=parameters / _MIB,
    )


def _layer(leaf: Any, name: str, fields: dict[int, int]) -> Layer:
    module = leaf.module
    return Layer(
        name=name or leaf.class_name,
        type=leaf.class_name,
        output_shape=tuple(leaf.output_size[1:]),
        kernel=_first(getattr(module, "kernel_size", None)),
        stride=_first(getattr(module, "stride", None)),
        parameters=0 if leaf.is_recursive else max(leaf.num_params, 0),
        mult_adds=leaf.macs,
        receptive_field=fields.get(id(module)),
    )


def _first(value: Any) -> int | None:
    number: int | None = value[0] if isinstance(value, tuple) else value
    return number


def _receptive_fields(model: nn.Module, picture: Tensor) -> dict[int, int]:
    """Follow tensors from module to module and return the receptive field by module id.

    Each kernel k adds (k - 1) · jump and each stride multiplies the jump (Dumoulin and Visin,
    arXiv:1603.07285). A tensor made outside a module is unknown, and so is all behind it.
    """
    known: dict[int, tuple[int, int]] = {id(picture): (1, 1)}
    alive: list[Tensor] = [picture]  # keeps ids unique
    fields: dict[int, int] = {}

    def follow(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        reached = [known.get(id(tensor)) for tensor in inputs]
        if not isinstance(output, Tensor) or not reached or None in reached:
            return
        field, jump = max(state for state in reached if state is not None)
        step = _kernel_and_stride(module, inputs[0])
        if step is None:
            return
        state = (field + (step[0] - 1) * jump, jump * step[1])
        known[id(output)], fields[id(module)] = state, state[0]
        alive.append(output)

    hooks = [m.register_forward_hook(follow) for m in model.modules() if not any(m.children())]
    try:
        with torch.no_grad():
            model(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return fields


def _kernel_and_stride(module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
    """Return the extent and stride of a module's window, or None for an unknown module."""
    match module:
        case nn.Conv2d():
            return module.dilation[0] * (module.kernel_size[0] - 1) + 1, module.stride[0]
        case nn.MaxPool2d() | nn.AvgPool2d():
            return int(_first(module.kernel_size) or 1), int(_first(module.stride) or 1)
        case nn.AdaptiveAvgPool2d() if _first(module.output_size) == 1:
            return inputs.shape[-1], 1
        case nn.Flatten():
            return inputs.shape[-1] if inputs.ndim == 4 else 1, 1
    return (1, 1) if isinstance(module, _POINTWISE) else None
