"""Damaged files that a person hands over: how each kind is mutated, and how it is read."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tempfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from mutations import ODD, Mutate, Probe, mutate_values, mutated, seal


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
