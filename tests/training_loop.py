"""v3's training from start to end, in one page: the weights are those of `mnistcli train`.

    python tests/training_loop.py EPOCHS
    mnistcli train --model v3 --epochs EPOCHS --threads 1 --device cpu

The first prints what the second writes as `weights_sha256` into result.json: the same, bit for bit.
The command adds checkpoints, CUDA, several processes, figures of each epoch, and errors.
"""

from __future__ import annotations

import copy
import sys

import torch
from torch import nn

from mnistcli.data import mnist
from mnistcli.data.batches import steps_per_epoch, training_batches
from mnistcli.engine import lanes, runtime, state
from mnistcli.engine.checkpoint import weights_hash
from mnistcli.engine.evaluate import evaluate
from mnistcli.engine.loss import loss as loss_of
from mnistcli.engine.optim import WeightAverage, build_optimizer, lr_at, set_lr
from mnistcli.engine.runtime import Request
from mnistcli.models.registry import MODELS, build
from mnistcli.recipe import Recipe, load
from mnistcli.runs.trained import open_teacher


def trained(recipe: Recipe, data: mnist.Dataset, request: Request) -> nn.Module:
    """Return v3 as a recipe trains it on the CPU, in eval mode."""
    # 1. The machine: precision, threads, and whether compiled kernels pay for so many pictures.
    entry, pictures = MODELS["v3"], len(data.train.images)
    chosen = runtime.choose_compile(
        runtime.decide(request), request, build(entry, recipe.model_args),
        images_to_train=pictures * recipe.epochs,
    )  # fmt: skip
    # 2. The network, its twin for the averaged weights, and the teacher that it learns from.
    runtime.seed_everything(recipe.seed, "weights")
    model = runtime.place(build(entry, recipe.model_args), chosen).train()
    result = copy.deepcopy(model).eval().requires_grad_(False)
    if chosen.compiled:
        lanes.specialise(model, chosen.dtype, chosen.threads)
    known = open_teacher(recipe, data.hashes, chosen)
    teacher = None if known is None else state.teaching(known.model, chosen)
    # 3. What moves the weights.
    optimizer = build_optimizer(model, recipe.optim)
    assert recipe.ema_decay is not None
    average = WeightAverage(model, recipe.ema_decay)
    never = torch.tensor(False)  # no step is left out: a bad one would end the command's run
    # 4. The loop. Order and distortion of the pictures are functions of seed and epoch.
    steps = steps_per_epoch(pictures, recipe.batch_size)
    for epoch in range(1, recipe.epochs + 1):
        runtime.seed_everything(recipe.seed, "dropout", epoch)
        batches = training_batches(data.train, recipe, epoch)
        for step, (images, labels) in enumerate(batches, start=(epoch - 1) * steps):
            set_lr(optimizer, lr_at(recipe, step, steps, accuracies=[]))
            with chosen.autocast():
                logits = model(images)
            with torch.no_grad(), chosen.autocast(teacher=True):
                taught = None if teacher is None else teacher(images)
            optimizer.zero_grad()
            loss_of(recipe, logits, labels, taught).backward()
            optimizer.step()
            average.set_step(step)
            average.update(skip=never)
    # 5. What is kept: the average of weights and batch-norm statistics over the steps.
    result.load_state_dict(model.state_dict())
    average.copy_to(result)
    return result


if __name__ == "__main__":
    dataset, recipe = mnist.load(), load("v3", settings=[f"epochs={sys.argv[1]}"])
    network = trained(recipe, dataset, Request("cpu", threads=1))
    correct = evaluate(network, dataset.test).correct
    sys.stdout.write(f"{weights_hash(network.state_dict())} {correct:,} of 10,000\n")
