"""The competent loop: `plain/v3` as a good author would train it with PyTorch's own functions.

Kept to measure against and never slowed; nothing in training uses it, and it uses nothing of
training's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.data.augment import MEAN, STD
from mnistcli.data.mnist import Labelled
from mnistcli.engine.runtime import Runtime
from mnistcli.models.registry import ModelEntry, build
from mnistcli.recipe import Recipe

MODES = {"cpu": ("eager", "default"), "cuda": ("eager", "default", "reduce-overhead")}
_BLOCK = 1024  # pictures warped at once: 1.2 ms for each 128, where single batches take 3.3
_DEGREES, _SHIFT, _SCALE, _SHEAR, _ELASTIC_PIXELS = 7.0, 0.06, 0.1, 3.0, 0.31


class Loop:
    """A network, its optimizer, its average and its data; a call trains so many batches.

    `mode` is eager or a mode of torch.compile, for the network and its loss; the rest is a few
    large operations. Network, batch and threads are ours; batches are whole, so that one shape is
    compiled.
    """

    def __init__(
        self, entry: ModelEntry, recipe: Recipe, data: Labelled, chosen: Runtime, *, mode: str
    ) -> None:
        self._data, self._batch, self._chosen = data, recipe.batch_size, chosen
        self._device = chosen.torch_device
        model = build(entry, recipe.model_args).to(self._device)
        self._model = model.to(memory_format=torch.channels_last).train()
        parameters = [*self._model.parameters()]
        decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 2e-4}
        spared = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        groups = [group for group in (decayed, spared) if group["params"]]
        self._optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9, nesterov=True, fused=True)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=chosen.precision == "fp16")
        values = [*self._model.parameters(), *self._model.buffers()]
        self._values = [value.detach() for value in values if value.is_floating_point()]
        self._average = [value.clone() for value in self._values]
        self._step, self._steps = 0, recipe.epochs * (len(data.labels) // self._batch)
        self.loss, self.correct = (torch.zeros((), device=self._device) for _ in range(2))
        forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = self._forward
        self._compiled = forward if mode == "eager" else torch.compile(forward, mode=mode)

    def __call__(self, steps: int) -> None:
        """Train so many batches, of as many epochs as they take."""
        batches = self._batches()
        for _ in range(steps):
            images, labels = next(batches)
            loss, logits = self._compiled(images, labels)
            self._optimizer.zero_grad()
            self._scaler.scale(loss).backward()
            for group in self._optimizer.param_groups:
                group["lr"] = one_cycle(0.2, self._step / self._steps)
            self._scaler.step(self._optimizer)
            self._scaler.update()
            torch._foreach_lerp_(self._average, self._values, 0.002)
            self.loss += loss.detach()
            self.correct += (logits.argmax(dim=1) == labels).sum()
            self._step += 1

    def _forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        reduced = self._chosen.precision != "fp32"
        with torch.autocast(self._device.type, self._chosen.dtype, enabled=reduced):
            logits = self._model(images)
            return F.cross_entropy(logits, labels), logits

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = self._batch
        whole = len(self._data.labels) // size * size
        while True:
            order = torch.randperm(len(self._data.labels), device=self._device)[:whole]
            for index in order.split(max(1, _BLOCK // size) * size):
                images = self._data.images[index].unsqueeze(1).float().div_(255)
                images = warp(images).sub_(MEAN).div_(STD)
                yield from zip(
                    images.split(size), self._data.labels[index].split(size), strict=True
                )


def one_cycle(peak: float, progress: float) -> float:
    """Return the learning rate: up in the first fifth of a run, then a cosine down."""
    if progress < 0.2:
        return peak * progress / 0.2
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - 0.2) / 0.8))


def warp(images: Tensor) -> Tensor:
    """Rotate, shear, scale, shift and elastically distort [N, 1, 28, 28], each its own way."""
    count, device = len(images), images.device
    angle, shear, across, down, *_ = u = torch.empty(6, count, device=device).uniform_(-1, 1)
    angle, tan = angle * math.radians(_DEGREES), (shear * math.radians(_SHEAR)).tan()
    across, down, cos, sin = 1 + _SCALE * across, 1 + _SCALE * down, angle.cos(), angle.sin()
    rows = [(cos - tan * sin) / across, (sin + tan * cos) / across, 2 * _SHIFT * u[4]]
    rows += [-sin / down, cos / down, 2 * _SHIFT * u[5]]
    matrix = torch.stack(rows, dim=1).view(2 * count, 3)
    coarse = torch.randn(count, 2, 6, 6, device=device) * (_ELASTIC_PIXELS * 2 / 28)
    place, bend = _bases(device)
    grid = (bend @ coarse @ bend.T).view(2 * count, 28 * 28).addmm_(matrix, place)
    grid = grid.view(count, 2, 28, 28).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)


def _bases(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return each pixel's x, y and 1 [3, 784], and bicubic interpolation of 6 values [28, 6].

    As two matrix products affine and elastic fields take a third of the time of
    `affine_grid` and `interpolate`.
    """
    still = torch.eye(2, 3, device=device)[None]
    pixels = F.affine_grid(still, [1, 1, 28, 28], align_corners=False).view(-1, 2)
    place = F.pad(pixels, (0, 1), value=1.0).T.contiguous()
    unit = torch.eye(6, device=device)[None, None]
    return place, F.interpolate(unit, [28, 6], mode="bicubic", align_corners=False)[0, 0]
