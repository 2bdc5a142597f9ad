"""Damaged files of a run or a set: how each kind is mutated, and how it is read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from mutations import Mutate, Probe, mutate_values, mutated, seal


def results() -> tuple[Mutate, Probe]:
    """A run's result.json, compared as it is and inside a folder."""
    good = published_result()
    return of_json("result.json", json.dumps(good).encode(), lambda file: shown([file.parent]))


def records() -> tuple[Mutate, Probe]:
    """A file of two records."""
    lines = json.dumps(published_result()).encode() + b"\n"
    return of_json("a.jsonl", lines * 2, lambda file: shown([file]))


def published_result() -> dict[str, Any]:
    """Return the first published record; all are read once, and not again for each case."""
    from mnistcli.results import gather

    known = list(gather.published())
    gather.published = lambda: iter(known)
    return {key: value for key, value in known[0].items() if key != "origin"}


def shown(paths: list[Path]) -> None:
    """Show runs as a table, in Markdown, as CSV and as a report; all is finite, nothing raw."""
    from mnistcli.results.comparison import rows
    from mnistcli.results.gather import gather
    from mnistcli.view.comparison import to_csv, to_markdown
    from mnistcli.view.report import to_report

    found = gather([str(path) for path in paths])
    table = rows(found.results, unfinished=found.unfinished)
    assert all(0 <= row["mean"] <= 1 and 0 <= row["best"] <= 1 for row in table)
    said = [to_csv(table), to_markdown(table, found.unfinished, difference=False)]
    said.append(to_report(table, found.unfinished, paths[0].parent))
    assert "".join(said).replace("\n", "").isprintable(), "raw"


def metrics() -> tuple[Mutate, Probe]:
    """A run's metrics.jsonl of three epochs."""
    from mnistcli.engine import checkpoint
    from mnistcli.files import packaged
    from mnistcli.results.runlog import read_metrics

    history = checkpoint.read(packaged("checkpoints", "reference", "v3.pt"))["history"][:3]
    lines = "".join(json.dumps(epoch) + "\n" for epoch in history)
    return of_json("metrics.jsonl", lines.encode(), lambda file: read_metrics(file.parent))


def sets() -> tuple[Mutate, Probe]:
    """A set's record: one run finished, one that failed, one to come."""
    from mnistcli.results import setlog
    from mnistcli.results.unfinished import never_started

    failed = {"seed": 1, "run": "/runs/s1", "exit_code": 6, "error": "diverged", "hint": "lower"}
    finished = {"seed": 0, "run": "/runs/s0", "exit_code": 0, "correct": 9, "total": 10}
    good = {"schema": 1, "launch": "a", "recipe_digest": "b", "data": "c", "seeds": [0, 1, 2],
            "elsewhere": [{"seed": 2, "run": "/runs/s2"}], "exit_code": None,
            "rows": [finished, failed]}  # fmt: skip

    def read(file: Path) -> None:
        document = setlog.read(file.parent)
        head = {key: document[key] for key in ("recipe_digest", "data", "seeds")}
        setlog.elsewhere(document)
        setlog.begin(file.parent, head, {}, resume=True)
        never_started(file.parent, "")

    return of_json("set.json", json.dumps(good).encode(), read)


def env() -> tuple[Mutate, Probe]:
    """A run's sessions; where they can't be read, there are none."""
    from mnistcli.errors import ArtifactError
    from mnistcli.results import sessions

    one = {"started": "2026", "ended": None, "outcome": None, "from_epoch": 0,
           "runtime": {"device": "cpu"}, "versions": {"torch": "2"},
           "environment": {"cpus": 2}}  # fmt: skip
    good = json.dumps({"schema": 1, "network": "a", "sessions": [one, one]}).encode()

    def read(file: Path) -> None:
        found = sessions.read(file.parent)
        if found is None:
            raise ArtifactError("no sessions")
        assert all(0 <= session.from_epoch <= 10_000 for session in found)

    return of_json("env.json", good, read)


def of_json(name: str, good: bytes, read: Callable[[Path], object]) -> tuple[Mutate, Probe]:
    """Return how a file of JSON lines is damaged, in its bytes or its values, and how it is read.

    The damage by values is one change, one of depth, or one of encoding.
    """

    def mutate(random: Random, folder: Path) -> None:
        lines = good.splitlines()
        at = random.randrange(len(lines))
        match random.randrange(8):
            case 0 | 1:
                data = mutated(good, random)
            case 2:
                data = random.choice((b"[", b'{"a":')) * random.choice((10, 10**5)) + good
            case 3:
                data = good.decode().encode(random.choice(("utf-16", "utf-8-sig", "utf-32")))
            case _:
                values = mutate_values(json.loads(lines[at]), random)
                lines[at] = json.dumps(values, ensure_ascii=random.random() < 0.5).encode(
                    errors="surrogatepass"
                )
                data = b"\n".join(lines)
        (folder / name).write_bytes(data)

    def probe(folder: Path) -> bool:
        data = (folder / name).read_bytes()
        read(folder / name)
        return data != good

    return mutate, probe


def predictions() -> tuple[Mutate, Probe]:
    """A run's predictions.pt of ten pictures, nine of them right."""
    import torch

    from mnistcli.engine.evaluate import read_marks

    good = {"split": "test", "data": {"a": "b"}, "labels": torch.arange(10, dtype=torch.uint8),
            "correct": torch.arange(10) > 0}  # fmt: skip

    def mutate(random: Random, folder: Path) -> None:
        values = good if random.random() < 0.5 else mutate_values(good, random)
        torch.save(values, buffer := io.BytesIO())
        body = buffer.getvalue()
        sealed = seal(body if random.random() < 0.5 else mutated(body, random))
        (folder / "predictions.pt").write_bytes(sealed)

    def probe(folder: Path) -> bool:
        assert sum(read_marks(folder / "predictions.pt", 9, 10)) == 9
        return (folder / "predictions.pt").read_bytes() != seal(saved_good)

    torch.save(good, buffer := io.BytesIO())
    saved_good = buffer.getvalue()
    return mutate, probe
