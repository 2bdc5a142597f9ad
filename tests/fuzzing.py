"""Mutated files, thousands of them: each is accepted as valid or refused in the documented way.

    python tests/fuzzing.py KIND[,KIND…] SEED COUNT

where KIND is checkpoints, idx, recipes, or results, sets, metrics, records, env, predictions;
prints one line of JSON for each. A process of its own, so that a crash is seen; `peak_mib` is its
peak so far, that of earlier kinds included.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from mnistcli.engine import machine

Mutate = Callable[[Random, Path], None]
Probe = Callable[[Path], bool]

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**40), 0.0, -0.5, 1e308, float("nan"),
    float("inf"), "", "v3", "v1", "cpu", "cuda:9", "x" * 99, "../..", [], [1], {}, {"a": 1},
    [[[]]], "test", "validation", 15, 0.1,
]  # fmt: skip


def mutated(data: bytes, random: Random) -> bytes:
    """Return bytes with one to eight changes: flipped, set, cut, repeated, moved or put in."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = random.randrange(len(changed) + 1)
        end = min(len(changed), at + random.choice((1, 1, 4, 64, 4096)))
        match random.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1 if at < len(changed):
                changed[at] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end]
            case 4:
                changed[at:end] = bytes(end - at)
            case 5:
                changed[at:at] = random.randbytes(random.choice((1, 4, 64)))
            case 6:
                del changed[at:]
    return bytes(changed)


def mutate_values(values: Any, random: Random) -> Any:
    """Return a copy of nested values in which one is replaced, lost, new or renamed."""
    if isinstance(values, dict) and values and random.random() < 0.9:
        copy = dict(values)
        key = random.choice(list(copy))
        match random.randrange(8):
            case 0:
                del copy[key]
            case 1:
                copy[random.choice(["x", 0, "epochs", "name", "lr"])] = random.choice(ODD)
            case 2:
                copy[f"{key}s"] = copy.pop(key)
            case _:
                copy[key] = mutate_values(copy[key], random)
        return copy
    if isinstance(values, list) and values and random.random() < 0.8:
        at = random.randrange(len(values))
        return [*values[:at], mutate_values(values[at], random), *values[at + 1 :]]
    return odd_tensor(values, random) if hasattr(values, "dtype") else random.choice(ODD)


def odd_tensor(tensor: Any, random: Random) -> Any:
    import torch

    if not tensor.numel() or random.random() < 0.2:
        return random.choice(ODD)
    changed = tensor.clone()
    match random.randrange(6):
        case 0:
            changed.view(-1)[0] = float("nan") if changed.is_floating_point() else -5
        case 1:
            changed = changed.double() if changed.dtype == torch.float32 else changed.float()
        case 2:
            changed = changed.flatten()
        case 3:
            changed = changed[:1].expand(2**20, *changed.shape[1:]) if changed.dim() else changed
        case 4:
            changed = torch.zeros(0)
        case 5:
            changed = changed.mT if changed.dim() > 1 else changed.flatten()[:1]
    return changed


def seal(body: bytes) -> bytes:
    return body + b"MNISTCK1" + hashlib.sha256(body).digest()


def checkpoints() -> tuple[Mutate, Probe]:
    """An unfinished run's last.pt: damaged as it is, or with the right hash over the damage."""
    import torch

    from mnistcli.data import mnist
    from mnistcli.engine import checkpoint, runtime, state
    from mnistcli.models.registry import MODELS
    from mnistcli.recipe import validate
    from mnistcli.runs.trained import open_trained

    chosen = runtime.decide(runtime.Request("cpu", "fp32", "off", 1))
    with tempfile.TemporaryDirectory() as folder:
        good = unfinished(Path(folder, "last.pt"), chosen)
    picture = mnist.load().test.images[:2].float().unsqueeze(1)

    def mutate(random: Random, folder: Path) -> None:
        body = good[:-40]
        match random.randrange(4):
            case 0:
                data = mutated(good, random)
            case 1:
                data = seal(mutated(body, random))
            case 2:
                data = seal(with_other_pickle(body, random))
            case _:
                values = torch.load(io.BytesIO(body), weights_only=True)
                torch.save(mutate_values(values, random), buffer := io.BytesIO())
                data = seal(buffer.getvalue())
        (folder / "a.pt").write_bytes(data)

    def probe(folder: Path) -> bool:
        path = folder / "a.pt"
        saved = checkpoint.read(path)
        trained = open_trained(str(path), None, chosen)
        assert trained.model(picture).shape == (2, 10)
        recipe = validate(saved["recipe"], where="")
        current = state.create(MODELS[recipe.model], recipe, chosen)
        state.restore(current, saved, where=str(path))
        return path.read_bytes() != good

    return mutate, probe


def unfinished(path: Path, chosen: Any) -> bytes:
    """Return the bytes of a checkpoint after the first of three epochs of v3."""
    from mnistcli.data import mnist
    from mnistcli.engine import state
    from mnistcli.engine.run import Run
    from mnistcli.engine.train import train
    from mnistcli.errors import Interrupted
    from mnistcli.models.registry import MODELS
    from mnistcli.recipe import load

    recipe = load("v3", settings=["epochs=3", "batch_size=32"])
    data = mnist.load()
    part = mnist.Labelled(data.train.images[:64], data.train.labels[:64])
    current = state.create(MODELS["v3"], recipe, chosen)
    stop = lambda: 15 if current.history else None  # noqa: E731
    run = Run(recipe, chosen, part, part, data.hashes, path.parent, lambda _: None, stop)
    try:
        train(run, current)
    except Interrupted:
        return path.read_bytes()
    raise AssertionError("the run was not interrupted")


def with_other_pickle(body: bytes, random: Random) -> bytes:
    """Return the zip with a mutated pickle and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            is_pickle = entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, mutated(data, random) if is_pickle else data)
    return buffer.getvalue()


def idx() -> tuple[Mutate, Probe]:
    """Four files of eight pictures each: one damaged, plain or inside a sound or damaged gzip."""
    from mnistcli.data import mnist

    images = struct.pack(">4I", 2051, 8, 28, 28) + bytes(i % 256 for i in range(8 * 784))
    labels = struct.pack(">2I", 2049, 8) + bytes(range(8))
    good = {name: images if "images" in name else labels for name in mnist.FILES}

    def mutate(random: Random, folder: Path) -> None:
        bad = random.choice(list(good))
        for name, data in good.items():
            (folder / f"{name}.gz").unlink(missing_ok=True)
            (folder / name).write_bytes(data)
        data = good[bad]
        match random.randrange(5):
            case 0:
                (folder / bad).write_bytes(mutated(data, random))
            case 1:  # the header, or the first labels
                at = random.randrange(16)
                new = random.choice((0, 1, 3, 9, 10, 28, 255))
                (folder / bad).write_bytes(data[:at] + bytes([new]) + data[at + 1 :])
            case 2:
                (folder / bad).unlink()
                (folder / f"{bad}.gz").write_bytes(mutated(gzip.compress(data, mtime=0), random))
            case 3:
                (folder / bad).unlink()
                (folder / f"{bad}.gz").write_bytes(gzip.compress(mutated(data, random), mtime=0))
            case 4:
                (folder / bad).write_bytes(good[random.choice(list(good))])

    def probe(folder: Path) -> bool:
        valid = all(is_valid(folder, part) for part in ("train", "t10k"))
        try:
            loaded = mnist.load(folder)
        except Exception:
            assert not valid, "refused, and is valid"
            raise
        assert valid, "accepted, and is not valid"
        return loaded.hashes != {n: hashlib.sha256(d).hexdigest() for n, d in good.items()}

    return mutate, probe


def is_valid(folder: Path, part: str) -> bool:
    """Return whether two IDX files are what the format says, read in another way than ours."""

    def content(name: str) -> bytes:
        path = folder / name
        return path.read_bytes() if path.exists() else gzip.decompress(
            (folder / f"{name}.gz").read_bytes()
        )  # fmt: skip

    try:
        images = content(f"{part}-images-idx3-ubyte")
        labels = content(f"{part}-labels-idx1-ubyte")
        magic, count, rows, columns = struct.unpack_from(">4I", images)
        label_magic, label_count = struct.unpack_from(">2I", labels)
    except Exception:
        return False
    sizes = len(images) == 16 + count * 784 and len(labels) == 8 + label_count
    heads = (magic, rows, columns, label_magic, label_count) == (2051, 28, 28, 2049, count)
    return sizes and heads and count > 0 and max(labels[8:]) <= 9


def recipes() -> tuple[Mutate, Probe]:
    """v3's recipe with mutated text or values, and changes by --set."""
    import yaml

    from mnistcli.cli.arguments import resolve_recipe
    from mnistcli.models.registry import MODELS, build
    from mnistcli.recipe import load, validate

    good = load("v3")
    values, text = good.model_dump(), good.to_yaml()
    setting: list[str] = []

    def mutate(random: Random, folder: Path) -> None:
        setting.clear()
        match random.randrange(3):
            case 0:
                data = mutated(text.encode(), random)
            case 1:
                data = yaml.safe_dump(mutate_values(values, random)).encode()
            case _:
                data = text.encode()
                key = random.choice(
                    ["epochs", "optim.lr", "optim", "augment.x.y", "", "model", "."]
                )
                value = random.choice([str(random.choice(ODD)), "{a: 1}", "!!bool 3", "&a [*a]"])
                word = f"{key}={value}".encode()
                setting.append(mutated(word, random).decode(errors="replace"))
        (folder / "r.yaml").write_bytes(data)

    def probe(folder: Path) -> bool:
        recipe = resolve_recipe(None, str(folder / "r.yaml"), setting)
        assert validate(yaml.safe_load(recipe.to_yaml()), where="") == recipe
        assert type(recipe.epochs) is int
        assert 1 <= recipe.epochs <= 10_000
        assert 0 < recipe.optim.lr < float("inf")
        assert 0 <= recipe.augment.elastic_alpha <= 1000
        build(MODELS[recipe.model], recipe.model_args)
        return recipe != good

    return mutate, probe


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


KINDS: dict[str, Callable[[], tuple[Mutate, Probe]]] = {
    "checkpoints": checkpoints, "idx": idx, "recipes": recipes, "results": results, "sets": sets,
    "metrics": metrics, "records": records, "env": env, "predictions": predictions,
}  # fmt: skip
_SECONDS = 20  # more is a hang


def documented(kind: str, error: Exception) -> bool:
    """Return whether an error is what this kind of file is refused with."""
    from mnistcli.errors import ArtifactError, UsageError

    if kind == "checkpoints" and isinstance(error, UsageError):
        return "holds the own network" in error.what
    return isinstance(error, UsageError if kind == "recipes" else ArtifactError)


def fuzz(kind: str, seed: int, count: int) -> dict[str, Any]:
    """Return what became of `count` mutated files; case i has the seed "SEED/i"."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    mutate, probe = KINDS[kind]()
    failures: list[str] = []
    outcomes = {"changed and valid": 0, "unchanged": 0, "refused": 0}
    started = time.monotonic()
    signal.signal(signal.SIGALRM, too_long)
    with tempfile.TemporaryDirectory() as name:
        for case in range(count):
            mutate(Random(f"{seed}/{case}"), Path(name))
            signal.alarm(_SECONDS)
            try:
                outcomes["changed and valid" if probe(Path(name)) else "unchanged"] += 1
            except Exception as error:
                outcomes["refused"] += 1
                if not documented(kind, error):
                    failures.append(f"{seed}/{case}: {type(error).__name__}: {error}"[:300])
            signal.alarm(0)
    return {
        "fuzz": kind, "seed": seed, "count": count, **outcomes,
        "failures": failures, "seconds": round(time.monotonic() - started, 1),
        "peak_mib": round(machine.peak_rss_mib()),
    }  # fmt: skip


if __name__ == "__main__":
    for kind in sys.argv[1].split(","):
        sys.stdout.write(json.dumps(fuzz(kind, int(sys.argv[2]), int(sys.argv[3]))) + "\n")
