"""Evaluation in fp32, eager, in fixed batches: the same counts from `train` and `evaluate`.

Training may read quickly, through the CPU's kernels: the logits differ by rounding, and the network
itself reads what that could decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.data.augment import normalise, to_input
from mnistcli.data.mnist import Labelled
from mnistcli.engine import checkpoint
from mnistcli.errors import ArtifactError
from mnistcli.events import Mistake

# On two CPU cores 125 are twice as fast as 1,000 at a time: activations stay inside the caches. On
# a GPU each batch costs some 30 launches.
_BATCH_IMAGES = {"cpu": 125, "cuda": 2000}
_QUICK_IMAGES = 1000  # at a time through the kernels, which keep their maps in the cache themselves
_ROUNDING = 1e-4  # of a picture's largest logit; the kernels are some 1e-6 from eager

Reader = Callable[[Tensor], Tensor]  # of normalised pictures, [N, 1, 28, 28] → logits


@dataclass(frozen=True)
class Evaluation:
    """Mean loss in nats, counts, and per picture the predicted class and its probability.

    `predictions` is uint8 [N], `confidences` float32 [N], both on the CPU.
    """

    loss: float
    correct: int
    total: int
    predictions: Tensor
    confidences: Tensor

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.correct / self.total


@torch.inference_mode()
def read(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, float32 [N, 10], of a network in eval mode for uint8 [N, 28, 28]."""
    assert not model.training
    outputs = []
    for batch in images.split(_BATCH_IMAGES[images.device.type]):
        inputs = normalise(to_input(batch)).to(memory_format=torch.channels_last)
        outputs.append(model(inputs).float())
    return torch.cat(outputs)


@torch.inference_mode()
def read_quickly(quick: Reader, model: nn.Module, images: Tensor) -> Tensor:
    """Return logits as `read` does, most of them by a quicker way to the same but for rounding.

    The network itself reads the least sure batch, and each picture whose two largest logits
    rounding could bring together. Where the two ways are further apart than that, it reads all.
    """
    logits = torch.cat([quick(normalise(to_input(part))) for part in images.split(_QUICK_IMAGES)])
    first, second = logits.topk(2, dim=1).values.unbind(1)
    gap = (first - second) / logits.abs().amax(dim=1)
    close = int((~(gap > 4 * _ROUNDING)).sum())  # NaN too
    unsure = gap.nan_to_num(0).argsort(stable=True)[: max(close, _BATCH_IMAGES["cpu"])]
    exact = read(model, images[unsure])
    apart = (exact - logits[unsure]).abs().amax(dim=1)
    if not bool((apart <= _ROUNDING * exact.abs().amax(dim=1)).all()):
        return read(model, images)
    logits[unsure] = exact
    return logits


def evaluate(model: nn.Module, data: Labelled, quick: Reader | None = None) -> Evaluation:
    """Evaluate a network in eval mode on every picture exactly once."""
    if quick is None:
        return score(read(model, data.images), data.labels)
    return score(read_quickly(quick, model, data.images), data.labels)


@torch.inference_mode()
def score(logits: Tensor, labels: Tensor) -> Evaluation:
    """Evaluate logits, float32 [N, 10], of pictures with these labels, [N]."""
    loss = F.cross_entropy(logits, labels)
    confidences, predictions = logits.softmax(dim=1).max(dim=1)
    correct = (predictions == labels).sum()
    return Evaluation(
        loss=loss.item(),
        correct=int(correct),
        total=len(labels),
        predictions=predictions.to(torch.uint8).cpu(),
        confidences=confidences.cpu(),
    )


def mistakes(data: Labelled, found: Evaluation) -> tuple[Mistake, ...]:
    """Return the misread pictures, the surest first."""
    labels = data.labels.cpu()
    wrong = (found.predictions != labels).nonzero().flatten()
    wrong = wrong[found.confidences[wrong].argsort(descending=True, stable=True)]
    images = data.images[wrong.to(data.images.device)].cpu()
    return tuple(
        Mistake(index, int(labels[index]), int(found.predictions[index]),
                float(found.confidences[index]), picture.numpy().tobytes())
        for index, picture in zip(wrong.tolist(), images, strict=True)
    )  # fmt: skip


def read_marks(path: Path, correct: int, total: int) -> list[bool]:
    """Return for each picture whether a run's stored predictions have it right.

    Raises:
        ArtifactError: the file is damaged, or not that of a run with these counts.
    """
    saved = checkpoint.read_values(path)
    marks = saved.get("correct") if isinstance(saved, dict) else None
    if not isinstance(marks, Tensor) or marks.dtype != torch.bool or marks.shape != (total,):
        raise ArtifactError(f"correct: not the marks of {total} pictures", where=str(path))
    if int(marks.sum()) != correct:
        raise ArtifactError(f"correct: {int(marks.sum())}, not {correct} as in result.json",
                            where=str(path))  # fmt: skip
    found: list[bool] = marks.tolist()
    return found
