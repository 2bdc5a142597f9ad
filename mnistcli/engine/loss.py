"""The loss that training minimises, from the recipe, the logits, the labels and a teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mnistcli.recipe import Recipe


def loss(recipe: Recipe, logits: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
    """Return the mean over pictures, in nats; logits and `taught` are [N, 10], labels [N].

    With a teacher's logits on the same pictures: (1 - w) · cross-entropy + w · T² · KL(teacher ‖
    student), both softened by the temperature T (Hinton, Vinyals and Dean 2015, arXiv:1503.02531).
    """
    logits = logits.float()
    hard = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if taught is None:
        return hard
    assert recipe.distillation is not None
    weight, temperature = recipe.distillation.weight, recipe.distillation.temperature
    student, teacher = (
        F.log_softmax(values.float() / temperature, dim=1) for values in (logits, taught)
    )
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - weight) * hard + weight * temperature**2 * soft
