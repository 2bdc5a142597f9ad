"""The CPU's kernels: a network's whole forward and backward pass, fp32 or by matrix tiles bf16.

`lanes.cpp` says how they work, `kernels` compiles it.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mnistcli.engine import kernels, plain, program, stages
from mnistcli.engine.stages import Program, Unknown
from mnistcli.models import straight


def why_not(model: nn.Module, *, training: bool = True) -> str | None:
    """Return None where the kernels do what a network does in a mode, or what of it they can't."""
    for name, module in model.named_modules():
        if plain.is_hooked(module):
            return f"{name or 'the network'} ({type(module).__name__}) has hooks"
    try:
        read = program.read(model, training=training)
    except Unknown as reason:
        return f"the kernels don't do {reason}"
    tensors = _held(model)
    if strange := next((name for name in read.tensors if not _is_plain(tensors[name])), None):
        return f"the kernels don't do {strange} as it lies in memory"
    if strange := _overlaid(read, tensors):
        return f"the kernels don't do {strange} in a storage that another tensor uses too"
    return straight.why_not(model)


def _held(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is fp32 without gaps or overlaps, as its gradient will be."""
    return (
        plain.is_memory(tensor)
        and tensor.dtype == torch.float32
        and (tensor.ndim > 1 or tensor.is_contiguous())
        and torch.empty_like(tensor).stride() == tensor.stride()
    )


def _overlaid(read: Program, tensors: dict[str, Tensor]) -> str | None:
    """Return a normalisation's tensor whose storage, perhaps another part of it, others use too.

    The kernels don't keep torch's order between a batch's statistics and other stages.
    """
    places = [tensors[name].untyped_storage().data_ptr() for name in read.tensors]
    pairs = zip(read.norm_tensors, places, strict=False)
    return next((name for name, place in pairs if places.count(place) > 1), None)


def specialise(model: nn.Module, dtype: torch.dtype, threads: int) -> None:
    """Let a network's `forward` go through the kernels; names, state and results stay."""
    model.forward = through(model, dtype, threads)


def through(model: nn.Module, dtype: torch.dtype, threads: int) -> Callable[[Tensor], Tensor]:
    """Return a network's way through the kernels in its present mode, [N, 1, 28, 28] → logits.

    At each call it looks whether the network is still what was read; if not, or in the other mode,
    it calls the class's own `forward`. It does not keep the network alive.
    """
    assert (reason := why_not(model, training=model.training)) is None, reason
    library = kernels.compiled(dtype)
    assert isinstance(library, ctypes.CDLL), library
    bound = _Bound(model, program.read(model, training=model.training), library, threads)
    return _Forward(model, bound)


class _Forward:
    """Stands in for a network's `forward`; a copy's is its class's own.

    It does not hold the network: in a cycle the kernels' memory would outlive a run.
    """

    def __init__(self, model: nn.Module, bound: _Bound) -> None:
        self._model, self._bound = weakref.ref(model), bound

    def __call__(self, images: Tensor) -> Tensor:
        model = self._model()
        assert model is not None
        return _forward(model, self._bound, images)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        model = self._model()
        assert model is not None
        return functools.partial(type(model).forward, memo[id(model)])


def _forward(model: nn.Module, bound: _Bound, images: Tensor) -> Tensor:
    """Return the logits, through the kernels where that is what torch would do."""
    if not bound.fits(model, images):
        logits: Tensor = type(model).forward(model, images)
        return logits
    if not bound.training:
        return bound.forward(images.contiguous())
    for counter in bound.counters:
        counter.add_(1)
    logits = _Pass.apply(images.contiguous(), bound, *bound.trained)
    return logits


class _Pass(torch.autograd.Function):
    """One pass through a bound network, which keeps what its backward pass needs."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, bound: _Bound, *trained: Tensor) -> Tensor:
        logits = bound.forward(images)
        bound.passes += 1
        ctx.bound, ctx.number = bound, bound.passes
        ctx.versions = [parameter._version for parameter in trained]
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        bound: _Bound = ctx.bound
        assert ctx.number == bound.passes, "the kernels keep one pass, the last"
        if ctx.versions != [parameter._version for parameter in bound.trained]:
            raise RuntimeError("a parameter was changed between forward and backward")
        return None, None, *bound.backward(gradient.contiguous())


class _Bound:
    """A network's program, read by the kernels, beside the tensors that it works on."""

    def __init__(self, model: nn.Module, read: Program, library: ctypes.CDLL, threads: int) -> None:
        self.training, self.passes = model.training, 0
        self._library, self._threads, self._classes = library, threads, read.maps[-1].channels
        tensors = _held(model)
        self._tensors = [tensors[name] for name in read.tensors]
        self.trained = [*dict.fromkeys(t for t in self._tensors if isinstance(t, nn.Parameter))]
        self.counters = [tensors[name] for name in read.counters]
        self._data = _addresses([tensor.data_ptr() for tensor in self._tensors])
        self._least = 1 + any(one.norm and one.height * one.width == 1 for one in read.maps)
        # Held, so that nothing else gets their ids.
        self._modules = [m for m in model.modules() if m is not model]
        self._holders = [m for m in self._modules if m._parameters or m._buffers]
        self._parts = list(tensors.values())
        self._seen = self._look(model)
        words, numbers = stages.encode(read, tensors)
        self._handle = library.lanes_create(
            (ctypes.c_int64 * len(words))(*words), (ctypes.c_double * len(numbers))(*numbers)
        )
        if not self._handle:
            raise MemoryError
        weakref.finalize(self, library.lanes_destroy, ctypes.c_void_p(self._handle))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of contiguous pictures."""
        logits = images.new_empty(len(images), self._classes)
        self.call("lanes_forward", self._data, images, ctypes.c_int64(len(images)),
                  ctypes.c_bool(self.training), ctypes.c_int(self._threads), logits)  # fmt: skip
        return logits

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """Return the gradient of each of `trained` from that of the last pass's logits.

        The kernels give one for each use of a parameter; its gradient is their sum.
        """
        uses = [torch.empty_like(t) if isinstance(t, nn.Parameter) else None for t in self._tensors]
        addresses = [None if use is None else use.data_ptr() for use in uses]
        self.call("lanes_backward", _addresses(addresses), gradient)
        sums: dict[Tensor, Tensor] = {}
        for tensor, use in zip(self._tensors, uses, strict=True):
            if use is not None:
                sums[tensor] = sums[tensor].add_(use) if tensor in sums else use
        return [sums[tensor] for tensor in self.trained]

    def fits(self, model: nn.Module, images: Tensor) -> bool:
        """Return whether torch would do with these pictures what the kernels do."""
        return (
            (plain.is_memory(images) or (not self.training and plain.is_inferred(images)))
            and images.dtype == torch.float32
            and images.shape[1:] == (1, 28, 28)
            and len(images) >= self._least  # of a single value torch's normalisation raises
            and not images.requires_grad
            and plain.is_unwatched()
            and (self.training or not torch.is_grad_enabled())
            and self._look(model) == self._seen
        )

    def _look(self, model: nn.Module) -> list[Any]:
        """Return all that decides what the network computes and can change in its life, as it is.

        It is looked at in each step: with each tensor's dispatch keys 0.7 ms, without 0.2.
        """
        seen: list[Any] = [
            model.training,
            len(model._forward_hooks) + len(model._forward_pre_hooks),
            *map(id, model._modules.values()),
        ]
        for module in self._modules:
            seen += [module.training, plain.is_hooked(module), *map(id, module._modules.values())]
        for holder in (model, *self._holders):
            for tensor in (*holder._parameters.values(), *holder._buffers.values()):
                if tensor is not None:
                    seen += [id(tensor), tensor.data_ptr(), tensor.requires_grad, tensor.dtype]
                    seen += [tensor.shape, tensor.stride()]
        return seen

    def call(self, name: str, *arguments: Any) -> None:
        """Call a kernel; tensors go as the address of their memory.

        Raises:
            MemoryError: there is too little of it for a batch of this size.
        """
        given = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
        if not getattr(self._library, name)(ctypes.c_void_p(self._handle), *given):
            raise MemoryError


def _addresses(values: list[int | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(values))(*values)
