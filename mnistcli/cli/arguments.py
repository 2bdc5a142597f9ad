"""From typed options to a resolved recipe and its seeds; every mistake is found before torch."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from mnistcli import recipe as recipes
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.models import registry
from mnistcli.recipe import seeds

if TYPE_CHECKING:
    from mnistcli.recipe import Recipe

OWN_RECIPE = "plain/v3"  # of a network that has no recipe of its name: from the labels alone


def name_network(argument: str | None, option: str | None) -> str | None:
    """Return the network that MODEL or --model names; both may name one, not two."""
    if argument is not None and option is not None and argument != option:
        what = f"MODEL is {argument!r}, and --model is {option!r}"
        raise UsageError(what, hint=f"mnistcli train {argument}")
    return option if argument is None else argument


def names_seed(settings: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Return whether --seed or --set names the seed of a single run."""
    return "seed" in {*options, *(setting.partition("=")[0].strip() for setting in settings)}


def parse_resume(text: str | None) -> Literal[False, "auto"] | Path:
    """Return False, "auto", or the run folder that a path names (or the folder of its last.pt)."""
    if text is None:
        return False
    if text == "auto":
        return "auto"
    path = Path(text).absolute()
    folder = path.parent if path.name.startswith("last.pt") else path
    if not (folder / "recipe.yaml").is_file():
        raise ArtifactError("no run to resume (recipe.yaml is missing)", where=str(folder))
    return folder


def resolve_recipe(
    model: str | None,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    own_data: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Recipe:
    """Return the recipe: the file or packaged one, then the model, `--set` and the options.

    `options` maps dotted recipe keys to the values of their own options. A registered teacher
    was trained on MNIST: with `own_data` the recipe goes without it, and `say` gets a notice.
    """
    if model is not None:
        _check_network(model)
    source = _source(model) if recipe is None else recipe
    resolved = recipes.load(source, settings=settings, options=dict(options), model=model)
    if model is None and resolved.model not in registry.MODELS:
        raise UsageError(
            f"the recipe names the own network {resolved.model!r}",
            where=source,
            hint=f"name it yourself: --model {resolved.model}",
        )
    taught = resolved.distillation
    if own_data and taught is not None and taught.teacher in registry.MODELS:
        named = any(setting.strip().startswith("distillation") for setting in settings)
        if named or "distillation.teacher" in options:
            raise UsageError(
                f"teacher {taught.teacher!r} was trained on MNIST, and --data-dir names other data",
                hint="a teacher trained with this --data-dir, by its run folder",
            )
        say("notice: not distilled: the teacher was trained on MNIST, not on --data-dir")
        resolved = resolved.model_copy(update={"distillation": None})
    return resolved


def resolve_arguments(model: str, settings: Sequence[str]) -> dict[str, Any]:
    """Return a network's arguments: as its own recipe names them, then `--set`."""
    for key, _ in recipes.read_settings(settings):
        if key.partition(".")[0] != "model_args":
            what = f"{key} says how to train; this command looks only at the network"
            raise UsageError(what, hint="--set model_args.KEY=VALUE")
    return resolve_recipe(model, settings=settings).model_args


def parse_seeds(text: str | None, recipe: Recipe, *, alone: bool) -> tuple[int, ...]:
    """Return the seeds of `0-4` or `0,3,7`; without them the recipe's one."""
    if text is None:
        return (recipe.seed,)
    if not alone:
        what = "--seed (or --set seed=…) and --seeds exclude each other"
        raise UsageError(what, hint="--seeds 0-4")
    return seeds.parse_seeds(text)


def count_visits(
    recipe: Recipe, numbers: Sequence[int], out: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return how often the recipe's network was tested before, and say it."""
    from mnistcli.study import visits

    if recipe.validation:
        raise UsageError("--final reads the test set, and the recipe the validation split",
                         hint="leave out --val, or freeze the study's winner")  # fmt: skip
    counted = visits.count(recipe, [] if out is None else [out])
    for sentence in visits.sentences(counted, numbers):
        say(f"warning: {sentence}")
    if not counted["recipes_before"]:
        say(f"notice: no other recipe of {recipe.model} is known to have been tested")
    return counted


def resume_command(words: Sequence[str], folder: str | None) -> str:
    """Return the command line again, so that it continues: in `folder` where it is known.

    Else a line that resumes already stays as it is, and another one gets `--resume auto`.
    """
    if folder is None:
        resumes = any(word.partition("=")[0] == "--resume" for word in words)
        return shlex.join(["mnistcli", *words, *([] if resumes else ["--resume", "auto"])])
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("--resume", "--out"):
            next(rest, None)
        elif word.partition("=")[0] not in ("--resume", "--out"):
            kept.append(word)
    return shlex.join(["mnistcli", *kept, "--resume", folder])


def _check_network(reference: str) -> None:
    """Refuse a network that is not known, or a recipe in its place."""
    is_recipe = reference in recipes.names() or reference.endswith((".yaml", ".yml"))
    if reference not in registry.MODELS and is_recipe:
        what = f"{reference!r} is a recipe, not a network"
        raise UsageError(what, hint=f"mnistcli train --recipe {reference}")
    registry.resolve(reference)


def _source(model: str | None) -> str:
    """Return the packaged recipe of a network where no recipe is named."""
    if model is None:
        raise UsageError(
            "no model named", hint="mnistcli train --model v3 (or --recipe FILE, --resume PATH)"
        )
    return model if model in recipes.names() else OWN_RECIPE
