"""The reference project's pipeline, as its author would run it: PIL, DataLoader, Adam, autocast.

Kept to measure against and never slowed; nothing in training uses it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mnistcli.data.augment import MEAN, STD
from mnistcli.data.mnist import Labelled
from mnistcli.engine.runtime import Runtime, fastest_kernels


class PilPictures(Dataset[tuple[Tensor, int]]):
    """Pictures as PIL images through the reference project's transforms, one at a time."""

    def __init__(self, data: Labelled) -> None:
        self._images = data.images.cpu().numpy()
        self._labels = data.labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomRotation(7),
                transforms.RandomAffine(0, translate=(0.1, 0.1), scale=(0.9, 1.1)),
                transforms.ElasticTransform(alpha=10.0, sigma=4.0),
                transforms.ToTensor(),
                transforms.Normalize((MEAN,), (STD,)),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self._transform(Image.fromarray(self._images[index]))
        return image, self._labels[index]


def batches(data: Labelled, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the reference project's batches (float32 [B, 1, 28, 28], int64 [B]) for one epoch."""
    yield from DataLoader(
        PilPictures(data),
        batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


@fastest_kernels()
def images_per_second(
    network: nn.Module, data: Labelled, chosen: Runtime, *, steps: int, workers: int
) -> float:
    """Train for `steps` batches of 128 after three of warm-up and return pictures per second."""
    device = chosen.torch_device
    model = network.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=chosen.precision == "fp16")
    started, seen, warmup = 0.0, 0, 3
    for index, (images, labels) in enumerate(batches(data, 128, workers)):
        if index == warmup:
            started, seen = time.monotonic(), 0
        if index == warmup + steps:
            break
        with torch.autocast(device.type, chosen.dtype, enabled=chosen.precision != "fp32"):
            logits = model(images.to(device, non_blocking=True))
            loss = F.cross_entropy(logits, labels.to(device), label_smoothing=0.05)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()  # the user's bar shows it at every batch
        seen += len(labels)
    return seen / (time.monotonic() - started)
