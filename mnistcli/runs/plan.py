"""What is to be trained, and what all runs of a process share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mnistcli.data import mnist
from mnistcli.engine import checkpoint, ranks, runtime, state
from mnistcli.engine.parallel import ALONE, Group
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.events import Emit, Notice, ShouldStop
from mnistcli.models import contract, own
from mnistcli.models.identity import describe
from mnistcli.models.registry import ModelEntry, build
from mnistcli.recipe import Recipe
from mnistcli.results.goal import Limits
from mnistcli.runs.resume import TEACHER, Basis, Resume
from mnistcli.runs.trained import Trained, open_teacher


@dataclass(frozen=True)
class Plan:
    """What is to be trained, where, and on what machine: all that was asked for, resolved.

    `out` is the run's folder, or with several seeds the parent of theirs; `resume` is False,
    "auto" or the folder to continue; `limits` are for the verdict, `require` the gates that a set
    of runs must pass. `elsewhere` are the folders of a set's runs that were found outside its
    own. Under torch's launcher the ranks share out whole runs, or with `parallel`
    "data" each run. `plots`: whether a finished run's pictures are drawn. `visit` says which
    choice of its network is tested.
    """

    entry: ModelEntry
    recipe: Recipe
    recipe_name: str
    changes: tuple[str, ...]
    seeds: tuple[int, ...]
    data_dir: Path | None
    out: Path | None
    resume: Resume
    limits: Limits
    request: Request
    require: tuple[str, ...] = ()
    parallel: str = "runs"
    jobs: int = 1
    elsewhere: Mapping[int, Path] = field(default_factory=dict)
    visit: Mapping[str, Any] | None = None
    plots: bool = True

    @property
    def folder(self) -> Path:
        """The folder of a set, which is named, found or made before its first run."""
        assert self.out is not None
        return self.out

    @property
    def pictures_a_step(self) -> int:
        """How many pictures of each batch one process trains on."""
        sharing = max(self.jobs, ranks.here().size) if self.parallel == "data" else 1
        return max(1, self.recipe.batch_size // sharing)

    @property
    def kind_of_run(self) -> dict[str, bool]:
        """What decides on compilation beside the machine."""
        return {"own": self.entry.own, "shared": self.parallel == "data"}

    def out_of(self, seed: int) -> Path | None:
        """Return the folder that was named or found for a seed's run."""
        if self.out is None or len(self.seeds) == 1:
            return self.out
        return self.elsewhere.get(seed, self.out / f"s{seed}")


@dataclass(frozen=True)
class Shared:
    """What all runs of a process share, and what connects them to the process around them.

    `emit` is told each event; `should_stop` returns the number of a signal that asked to stop, or
    None. `network` is the description of the network that all train, `group` are the ranks that
    train each run together, `teacher` is what the recipe distils from.
    """

    dataset: mnist.Dataset
    runtime: Runtime
    emit: Emit
    should_stop: ShouldStop
    network: tuple[str, ...]
    group: Group = ALONE
    teacher: Trained | None = None

    @property
    def hashes(self) -> dict[str, str]:
        """What the runs learn from: the files' hashes, and that of the teacher's weights."""
        if self.teacher is None:
            return self.dataset.hashes
        return self.dataset.hashes | {TEACHER: self.teacher.weights_sha256}

    @property
    def basis(self) -> Basis:
        """What the runs are made of beside their recipe."""
        return Basis(self.hashes, self.network)

    def parts(self, recipe: Recipe) -> tuple[mnist.Labelled, mnist.Labelled]:
        """Return the pictures to train on and to evaluate on, on the device."""
        dataset, device = self.dataset, self.runtime.torch_device
        training, evaluation = dataset.train, dataset.test
        if recipe.validation:
            training, evaluation = mnist.validation_parts(dataset)
        return training.to(device), evaluation.to(device)


def prepare(plan: Plan, emit: Emit, should_stop: ShouldStop) -> Shared:
    """Check the network, decide the runtime, read the data; nothing is made yet.

    Compilation is chosen by the pictures of all seeds, whoever trains them: runs are the same
    from one process and from many.
    """
    model = build(plan.entry, plan.recipe.model_args)  # a broken one is found before all else
    chosen = runtime.decide(plan.request)
    _check_network(plan, model, chosen)
    with own.faults(plan.entry, "fails on a few pictures"):
        network = describe(model)
    dataset = mnist.load(plan.data_dir)
    mnist.check_batch(dataset, plan.recipe.batch_size, validation=plan.recipe.validation)
    images = len(dataset.train.labels) * plan.recipe.epochs * len(plan.seeds)
    chosen = runtime.choose_compile(
        chosen, plan.request, model, images_to_train=images, **plan.kind_of_run
    )
    if chosen.device_reason is not None:
        emit(Notice(f"the NVIDIA device is not used: {chosen.device_reason}"))
    if chosen.compile_reason is not None:
        what = "compiled" if chosen.device == "cpu" else "recorded"
        emit(Notice(f"not {what}: {chosen.compile_reason}"))
    teacher = open_teacher(plan.recipe, dataset.hashes, chosen)
    return Shared(dataset, chosen, emit, should_stop, network, teacher=teacher)


def _check_network(plan: Plan, model: nn.Module, chosen: Runtime) -> None:
    """Raise UsageError where a network could not be trained to its end, and saved."""
    entry, recipe = plan.entry, plan.recipe
    if entry.own:
        contract.check_fresh(model, build(entry, recipe.model_args), entry)
    checkpoint.check_size(model, where=entry.factory)
    placed, pictures = runtime.place(model, chosen), plan.pictures_a_step
    contract.check_training(placed, entry, pictures=pictures, dtype=chosen.dtype)


def restored_runtime(plan: Plan, saved: dict[str, Any], emit: Emit) -> Runtime:
    """Return the runtime of a saved run, or as near as it comes here, with a notice."""
    model = build(plan.entry, plan.recipe.model_args)
    chosen, unlike = runtime.restore(saved["runtime"], plan.request, model, **plan.kind_of_run)
    unlike += runtime.changes(saved["versions"], state.versions(), ("mnistcli", "torch"))
    if unlike:
        emit(Notice(f"not bit-identical to an uninterrupted run: {', '.join(unlike)}"))
    return chosen
