"""Which folder a set lives in, and whether what is there may be continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mnistcli import recipe as recipes
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.models.registry import file_name
from mnistcli.results import setlog
from mnistcli.results.setlog import Document
from mnistcli.runs import resume
from mnistcli.runs.plan import Plan, Shared


def placed(plan: Plan, shared: Shared) -> Plan:
    """Return the plan with its set's folder, made if new, and the folders of runs outside it."""
    plan = foreseen(plan, shared)
    if plan.out is not None:
        return plan
    return replace(plan, out=resume.make_folder(plan.recipe, label(plan)))


def foreseen(plan: Plan, shared: Shared) -> Plan:
    """Return the plan that `placed` would, its `out` None for a new folder under its own name.

    `resume="auto"` without `out` looks below checkpoints/<model>: for the same set, else seed by
    seed for the same run.
    """
    if plan.out is not None or plan.resume != "auto":
        return plan
    runs = Path("checkpoints", file_name(plan.recipe.model)).absolute()
    if (found := setlog.find(runs, _head(plan, shared))) is not None:
        return replace(plan, out=found)
    recipes_by_seed = {s: plan.recipe.model_copy(update={"seed": s}) for s in plan.seeds}
    places = {
        seed: resume.foresee(recipe, None, "auto", shared.basis)
        for seed, recipe in recipes_by_seed.items()
    }
    known = {seed: place for seed, place in places.items() if place is not None}
    return replace(plan, elsewhere=known)


def label(plan: Plan) -> str:
    """Return how the name of a set's new folder ends."""
    first, last = plan.seeds[0], plan.seeds[-1]
    return f"s{first}" if first == last else f"s{first}-{last}"


def open_set(plan: Plan, launch: str, shared: Shared) -> Document:
    """Return the record of this launch's set, begun where it is new; the caller holds the lock.

    Raises:
        UsageError: the folder holds something and is not to be resumed, or another recipe's set.
        ArtifactError: the folder's set was trained on other data.
    """
    folder, head = plan.folder, _head(plan, shared)
    before = setlog.known(folder) if plan.resume else None
    if before is not None:
        _refuse_another(plan, head, before)
        plan = replace(plan, elsewhere=setlog.elsewhere(before))
    runs = {seed: plan.out_of(seed) or folder for seed in plan.seeds}
    return setlog.begin(folder, {"launch": launch, **head}, runs, resume=bool(plan.resume))


def _head(plan: Plan, shared: Shared) -> Document:
    """Return what makes two sets the same."""
    return {
        "recipe_digest": plan.recipe.digest(),
        "data": shared.dataset.digest,
        "seeds": list(plan.seeds),
    }


def _refuse_another(plan: Plan, head: Document, before: Document) -> None:
    """Raise where the folder's set has another recipe or other data than this one."""
    where = str(plan.folder)
    if before["data"] != head["data"]:
        hint = "give its --data-dir again"
        raise ArtifactError("the set was trained on other data", where=where, hint=hint)
    if before["recipe_digest"] != head["recipe_digest"]:
        now = ", ".join(_changed(plan)) or "of another digest"
        what = f"the set was started with another recipe; now {now}"
        raise UsageError(what, where=where, hint="another --out")


def _changed(plan: Plan) -> tuple[str, ...]:
    """Return what differs from the recipe of a run in the set's folder, if there is one."""
    for run in (plan.folder, *plan.folder.glob("s[0-9]*")):
        if (run / "recipe.yaml").is_file():
            recipe = recipes.load(str(run / "recipe.yaml"))
            now = plan.recipe.model_copy(update={"seed": recipe.seed})
            return recipes.differences(recipe, now)
    return ()
