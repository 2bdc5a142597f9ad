"""The write-up in Markdown: one table, then target, result and analysis of each row."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from pathlib import Path

from mnistcli.errors import UsageError
from mnistcli.results import exports, writeup
from mnistcli.results.goal import Limits
from mnistcli.view import epochs
from mnistcli.view.comparison import to_markdown
from mnistcli.view.export import recorded
from mnistcli.view.tables import Column, Row, integer, interval, markdown, percent
from mnistcli.view.text import escaped
from mnistcli.view.verdict import GATE_NAMES

_COURSE = [
    Column("epoch", "epoch"),
    Column("n", "n"),
    Column("mean", "mean", percent),
    Column("least", "least", percent),
    Column("most", "most", percent),
]
_SINGLE = [_COURSE[0], Column("mean", "accuracy", percent)]
_OPENING = re.compile(r"^<!-- results\b[^>]*-->", re.MULTILINE)
_BY_NETWORK = re.compile(r"^<!-- results by network\b", re.MULTILINE)
_MARKERS = re.compile(r"(<!-- results\b[^>]*-->\r?\n).*?(\r?\n<!-- /results -->)", re.DOTALL)


def to_report(rows: Sequence[Row], unfinished: Sequence[Row], place: Path) -> str:
    """Return the whole write-up; links to pictures are relative to the folder `place`."""
    table = to_markdown(rows, unfinished, difference=False)
    text = "\n\n".join(["# Results", table, *(section(row, place) for row in rows)])
    return escaped(text, keep="\n")


def section(row: Row, place: Path) -> str:
    """Return one row's target, result, analysis, epochs, pictures and environment."""
    results = row["results"]
    said = writeup.words(results[0])
    of_model = row["recipe"].split()[0] == row["model"]
    name = row["recipe"] if of_model else f"{row['model']} · {row['recipe']}"
    name += f" · {row['which']}" if row["which"] else ""
    parts = [
        f"## {escaped(name)}",
        f"**Target.** {said.target or _goal(Limits())}",
        "**Result.**",
        "\n".join(f"- {escaped(fact)}" for fact in _facts(row)),
        f"**Analysis.** {said.analysis or '(none yet: `notes.analysis` in the recipe)'}",
        _epoch_table(row),
        *_exports(row),
        *_links(row, place),
        _environment(row),
    ]
    return "\n\n".join(parts)


def short_form(text: str) -> bool:
    """Return whether a file's marker asks for one row per network."""
    return _BY_NETWORK.search(text) is not None


def update(text: str, table: str, *, where: str) -> str:
    """Return the text with the table between `<!-- results -->` and `<!-- /results -->`.

    Raises:
        UsageError: there is no such pair of markers, or more than one.
    """
    if len(_MARKERS.findall(text)) != 1 or len(_OPENING.findall(text)) != 1:
        raise UsageError(
            "expected one pair of markers",
            where=where,
            hint="<!-- results --> and <!-- /results -->, each on a line of its own",
        )
    end = "\r\n" if "\r\n" in text else "\n"
    shown = table.replace("\n", end)
    return _MARKERS.sub(lambda match: f"{match[1]}{end}{shown}{end}{match[2]}", text)


def _goal(limits: Limits) -> str:
    return (
        f"Above {limits.target} % in each of the last three epochs, with fewer than "
        f"{limits.max_params:,} parameters, in at most {limits.max_epochs} epochs."
    )


def _facts(row: Row) -> list[str]:
    """Return the figures of a row in words, each as far as it is known."""
    results, n = row["results"], row["n"]
    seeds = ", ".join(map(str, row["seeds"]))
    spread = f"mean of {n} seeds ({seeds})" if n > 1 else f"seed {seeds}"
    if n > 1:
        spread += f", sd {100 * row['sd']:.3f}, least {percent(row['min'])}"
    training = sum(result["train_accuracy"] for result in results) / n
    runs = n + row["failed"]
    gates = ", ".join(f"{GATE_NAMES[g]} {count} of {runs}" for g, count in row["gates"].items())
    facts = [
        f"last epoch: {percent(row['mean'])} on {row['split']}, {spread}; "
        f"95 % interval {interval(row['interval'])}",
        f"best epoch{' of any seed' * (n > 1)}: {percent(row['best'])} "
        f"(picked on {row['split']}); "
        f"last training accuracy, on augmented pictures: {percent(training)}",
        f"size: {row['parameters']:,} parameters, {integer(row['mult_adds'])} mult-adds, "
        f"receptive field {integer(row['receptive_field'])}",
        _cost(row),
        f"goal, gate by gate: {gates}",
    ]
    if row["reported"] is not None:
        facts.append(f"reference project: {row['reported']:.2f} % (its best epoch, picked on test)")
    if row["distilled"]:
        facts.append("distilled: it learned from a larger network too, not from the labels alone")
    if row["follows_test"]:
        facts.append("the learning rate follows test accuracy: the figures are biased upwards")
    return facts


def _cost(row: Row) -> str:
    if row["seconds_per_epoch"] is None:
        return f"cost: {row['epochs']} epochs, on different machines or numbers of threads"
    return (
        f"cost: {row['epochs']} epochs of {row['seconds_per_epoch']:.1f} s, "
        f"{row['images_per_second']:,.0f} images/s"
    )


def _epoch_table(row: Row) -> str:
    """Return all columns of a single run's epochs, else the course over the seeds."""
    history = writeup.history(row["results"])
    if not history:
        table = writeup.course(row["results"])
        return markdown(_COURSE if row["n"] > 1 else _SINGLE, table)
    values = [epochs.row(metrics, len(history)) for metrics in history]
    shown = [column for column in epochs.columns(row["split"])
             if column.title and values[0][column.key] is not None]  # fmt: skip
    return markdown(shown, values)


def _exports(row: Row) -> list[str]:
    """Return a table of what was exported of a row's networks, for each whose weights are known."""
    parts = []
    for whose, known in exports.of_results(row["results"]).items():
        about = (
            f"**Exports** of {escaped(whose)}, each run again over the test set. File, weights, "
            "RAM and flash are in bytes; the time is a processor's, on one thread."
        )
        parts += [about, recorded(known)]
    return parts


def _links(row: Row, place: Path) -> list[str]:
    """Return the pictures of the first run that has some."""
    result, drawn = writeup.pictures(row["results"])
    if result is None:
        return []
    lines = []
    for path in drawn:
        link = os.path.relpath(path, place)
        lines.append(f"![{escaped(row['model'])}, seed {result['seed']}: {path.stem}](<{link}>)")
    return ["\n".join(lines)]


def _environment(row: Row) -> str:
    found = [result.get("environment", {}) for result in row["results"]]
    facts = {*row["machines"]}
    for result, environment in zip(row["results"], found, strict=True):
        versions = result["versions"]
        facts.add(f"mnistcli {versions['mnistcli']}, Python {versions['python']}")
        facts |= {environment["platform"]} if "platform" in environment else set()
        facts |= {f"commit {environment['commit']}"} if environment.get("commit") else set()
    return escaped(f"Measured on: {'; '.join(sorted(facts))}.")
