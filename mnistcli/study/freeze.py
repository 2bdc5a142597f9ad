"""The winner of a study as a complete recipe, with its evidence in its notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnistcli import recipe as recipes
from mnistcli.errors import UsageError
from mnistcli.files import write_where_named
from mnistcli.recipe import Notes, Recipe
from mnistcli.recipe.seeds import show_seeds

Record = dict[str, Any]


def chosen(record: Record) -> tuple[str, str | None]:
    """Return the arm that is frozen, and the reason where a person decided.

    Raises:
        UsageError: the study has no answer yet, and nobody has decided.
    """
    if record["decisions"]:
        last = record["decisions"][-1]
        return last["arm"], last["reason"]
    if record["exit_code"] != 0:
        hint = "run it to its end, or --decide ARM --reason WHY"
        raise UsageError("the study has no answer yet", where=record["folder"], hint=hint)
    return record["answer"]["winner"], None


def frozen_recipe(record: Record) -> Recipe:
    """Return the chosen arm's recipe as its last stage trained it, for all pictures."""
    name, reason = chosen(record)
    registration = record["registrations"][-1]
    values = registration["arms"][name]["recipe"]
    epochs = [stage["epochs"] for stage in registration["stages"] if stage["epochs"] is not None]
    values |= {"validation": False, "patience_epochs": None, "seed": 0}
    values |= {"epochs": epochs[-1]} if epochs else {}
    recipe = recipes.validate(values, where=record["folder"])
    notes = Notes(target=record["question"], analysis=evidence(record, name, reason))
    return recipe.model_copy(update={"notes": notes})


def freeze(record: Record, name: str) -> Path:
    """Write the chosen arm's recipe as `NAME.yaml`; return the file.

    Raises:
        UsageError: another recipe is there, or the name is that of a packaged one.
    """
    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if name in recipes.names():
        raise UsageError(f"{name!r} is a packaged recipe", hint="another --freeze NAME")
    data = frozen_recipe(record).to_yaml().encode()
    if path.exists() and path.read_bytes() != data:
        raise UsageError(f"another file is there: {path}", hint="another --freeze NAME")
    write_where_named(path, data)
    return path


def evidence(record: Record, name: str, reason: str | None) -> str:
    """Return what the study has to say for an arm, in Markdown."""
    found = record["answer"] or {"arms": [], "base": registration_base(record), "leader": None}
    row = next((row for row in found["arms"] if row["arm"] == name), None)
    said = [f"Chosen on the validation split. {record['claims'][name].capitalize()}, "
            f"registration {record['registration_sha256'][:12]}."]  # fmt: skip
    said += [_figures(row)] if row is not None else []
    challengers = [row for row in found["arms"] if row["arm"] != found["base"]]
    if name == found["base"] and challengers:
        words = ", ".join(f"{row['arm']} ({row['verdict']})" for row in challengers)
        said.append(f"No arm was shown to be better: {words}.")
    if found["leader"] == name and found.get("shrunk") is not None:
        said.append(
            f"As the best of several its mean of {_percent(found['leader_mean'])} was counted as "
            f"{_percent(found['shrunk'])}."
        )
    if reason is not None:
        said.append(f"Decided by hand: {reason}")
    return "\n".join(said)


def registration_base(record: Record) -> str:
    """Return the name of the base."""
    return str(record["registrations"][-1]["base"])


def _figures(row: dict[str, Any]) -> str:
    seeds = show_seeds([int(seed) for seed in row["by_seed"]])
    mean = "no run" if row["mean"] is None else f"{_percent(row['mean'])} over seeds {seeds}"
    if row["difference"] is None:
        return f"{row['stage'].capitalize()}: {mean}."
    between = row["difference_interval"]
    bounds = f" ({100 * between[0]:+.3f} to {100 * between[1]:+.3f})" if between else ""
    p = "" if row["p"] is None else f", p {row['p']:.4f}"
    return (
        f"{row['stage'].capitalize()}: {mean}, {100 * row['difference']:+.3f} points against the "
        f"base{bounds}{p}: {row['verdict']}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3f} %"
