"""What `import mnistcli` offers to Python: load, train, networks. Thin over what the commands use.

No signal handler is set and nothing is printed, unless progress is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mnistcli import recipe as recipes
from mnistcli.cli.arguments import resolve_recipe
from mnistcli.data import mnist
from mnistcli.data.augment import normalise, to_input
from mnistcli.engine import runtime, threads
from mnistcli.engine.evaluate import Evaluation, score
from mnistcli.engine.runtime import Request
from mnistcli.errors import UsageError
from mnistcli.events import Emit, EpochMetrics, Event
from mnistcli.export.int8 import integer_logits
from mnistcli.models.registry import MODELS, ModelEntry, resolve
from mnistcli.results.goal import Limits
from mnistcli.results.runlog import record
from mnistcli.runs.plan import Plan
from mnistcli.runs.single import run_one
from mnistcli.runs.trained import Trained, logits_of, open_trained
from mnistcli.view.output import Output
from mnistcli.view.progress import live_or_plain

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Images = Any  # numpy array or tensor: [28, 28], [N, 28, 28] or [N, 1, 28, 28], see `predict`
_BATCH = 125


@dataclass(frozen=True)
class Network:
    """A trained network: `model` is the module, in eval mode, that maps [N, 1, 28, 28] to logits.

    `trained` says where its weights come from, and by what recipe.
    """

    trained: Trained

    @property
    def name(self) -> str:
        """The registered name, or how its code is named."""
        return self.trained.entry.name

    @property
    def model(self) -> torch.nn.Module:
        """The network itself."""
        return self.trained.model

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return self.trained.parameters

    def predict(self, images: Images) -> np.ndarray[Any, Any] | Tensor:
        """Return the digit of each picture, int64 [N]: an array for an array, else a tensor.

        `images` are light digits on dark, uint8 in 0 … 255 or float in 0 … 1, of shape [28, 28],
        [N, 28, 28] or [N, 1, 28, 28], any N.

        Raises:
            UsageError: they are of another shape, type or range.
        """
        digits = self.logits(images).argmax(dim=1)
        return digits if isinstance(images, torch.Tensor) else digits.numpy()

    def logits(self, images: Images) -> Tensor:
        """Return logits, float32 [N, 10] on the CPU, for pictures as `predict` takes them."""
        inputs = normalise(_in_unit_range(images))
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            parts = [self.model(part.to(device)).float().cpu() for part in inputs.split(_BATCH)]
        return torch.cat(parts)

    def evaluate(
        self, data_dir: Path | str | None = None, *, precision: Literal["fp32", "int8"] = "fp32"
    ) -> Evaluation:
        """Evaluate on the test set of MNIST or of a folder of IDX files.

        `precision` "int8" computes in the integers of `export --to c-int8`.

        Raises:
            ArtifactError: the data are missing or damaged.
        """
        dataset = mnist.load(None if data_dir is None else Path(data_dir))
        images = dataset.test.images
        if precision == "int8":
            return score(integer_logits(self.trained, dataset, images), dataset.test.labels)
        device = next(self.model.parameters()).device
        return score(logits_of(self.trained, images.to(device)).cpu(), dataset.test.labels)


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its epochs, its folder, and `result`, what result.json holds."""

    history: tuple[EpochMetrics, ...]
    folder: Path
    result: dict[str, Any]
    model: str

    @property
    def accuracy(self) -> float:
        """The last epoch's share of right answers, 0 to 1."""
        return self.history[-1].accuracy

    def load(self) -> Network:
        """Return the network that was trained."""
        return load(str(self.folder), model=self.model)


def networks() -> dict[str, ModelEntry]:
    """Return the registered networks by name: parameters, mult-adds, and how to build them."""
    return dict(MODELS)


def load(target: str | Path, *, model: str | None = None, device: str = "cpu") -> Network:
    """Return a trained network: a registered name, a run's folder or a checkpoint file.

    An own network's code is named by `model`, as in `--model net.py:tiny`.

    Raises:
        ArtifactError: there is none, or it is damaged.
        UsageError: an own network without `model`.
    """
    request = Request(device, "fp32", "off", torch.get_num_threads())
    return Network(open_trained(str(target), model, runtime.decide(request)))


def train(  # noqa: PLR0913 - the options that a person changes most
    model: str | None = None,
    *,
    recipe: str | Path | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Literal["none", "plain", "live"] = "none",
    on_event: Callable[[Event], object] | None = None,
    **values: Any,
) -> TrainResult:
    """Train a network and return its result; the run's folder is as `mnistcli train` makes it.

    `values` are a recipe's: `batch_size=64`, `optim={"lr": 0.1}`, `distillation=None`. `progress`
    draws on stdout; `on_event` is called with each event (see `mnistcli.events`).

    Raises:
        MnistcliError: as the command ends with an error; the message is the same.
    """
    named = {"epochs": epochs, "seed": seed}
    changes = {key: value for key, value in named.items() if value is not None} | _dotted(values)
    folder = None if data_dir is None else Path(data_dir)
    source = None if recipe is None else str(recipe)
    resolved = resolve_recipe(model, source, options=changes, own_data=folder is not None)
    name, differing = recipes.describe(resolved)
    plan = Plan(
        entry=resolve(resolved.model), recipe=resolved, recipe_name=name, changes=differing,
        seeds=(resolved.seed,), data_dir=folder, resume=False, limits=Limits(8000, 15, "99.4"),
        out=None if out is None else Path(out).expanduser().absolute(),
        request=Request(device, "auto", "auto", threads),
    )  # fmt: skip
    return _run(plan, progress, on_event)


def _run(
    plan: Plan,
    progress: Literal["none", "plain", "live"],
    on_event: Emit | Callable[..., object] | None,
) -> TrainResult:
    view = live_or_plain(Output("train", progress=progress)) if progress != "none" else None
    history: list[EpochMetrics] = []

    def emit(event: Event) -> None:
        record(event)
        history[:] = getattr(event, "history", history)
        for told in (view, on_event):
            if told is not None:
                told(event)

    with threads.kept(), view or nullcontext():
        result = run_one(plan, emit, lambda: None)
    return TrainResult(tuple(history), Path(result["run"]), result, plan.entry.name)


def _dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested values by their dotted keys: {"optim": {"lr": 0.1}} as {"optim.lr": 0.1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def _in_unit_range(images: Images) -> Tensor:
    """Return pictures as float32 [N, 1, 28, 28] in 0 … 1, or raise UsageError."""
    given = torch.as_tensor(images)
    shape = list(given.shape)
    if shape[-2:] != [28, 28] or len(shape) > 4 or (len(shape) == 4 and shape[1] != 1):
        raise UsageError(f"pictures of shape {shape}", hint="[28, 28], [N, 28, 28], [N, 1, 28, 28]")
    flat = given.reshape(-1, 28, 28)
    if given.dtype == torch.uint8:
        return to_input(flat)
    if not given.is_floating_point():
        raise UsageError(f"pictures of {given.dtype}", hint="uint8 in 0 … 255, or float in 0 … 1")
    if flat.numel() and not (float(flat.min()) >= 0 and float(flat.max()) <= 1):
        raise UsageError("grey levels beyond 0 … 1", hint="divide by 255, or give uint8")
    return flat.unsqueeze(1).float()
