"""Rows 9 to 12 of the fault matrix: checkpoints that are damaged, hostile, or somebody else's."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, Runs, document

from mnistcli.engine import checkpoint
from mnistcli.files import packaged, previous_of

GOOD = packaged("checkpoints", "reference", "v3.pt")
FORMAT_1 = Path(__file__).parent / "data" / "format-1"


def seal(body: bytes) -> bytes:
    """Return a file's bytes with the right trailer: anybody can compute it."""
    return body + b"MNISTCK1" + hashlib.sha256(body).digest()


def saved(values: Any) -> bytes:
    """Return torch's zip of any values."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    return data[:999] + bytes([data[999] ^ 1]) + data[1000:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{f"{share} %": lambda data, share=share: data[: len(data) * share // 100]  # type: ignore[misc]
       for share in (0, 1, 10, 50, 99)},
    "a flipped bit": flipped,
    "text": lambda _: b"weights, honestly",
    "without its trailer": lambda data: data[:-40],
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_row_9_a_damaged_file_is_refused_by_name(damage: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(DAMAGES[damage](GOOD.read_bytes()))
    done = cli("evaluate", str(path), "--json")
    assert done.returncode == 4
    assert str(path) in done.stderr
    assert "refused" in document(done.stdout)["error"]["what"]


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_row_9_what_is_no_file_is_refused_by_name(kind: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    {"missing": lambda _: None, "folder": os.mkdir, "pipe": os.mkfifo}[kind](path)  # type: ignore[operator]
    done = cli("evaluate", str(path))
    assert (done.returncode, str(path) in done.stderr) == (4, True)


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_row_9_resume_goes_back_to_the_previous_one_with_a_notice(
    damage: str, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runs.killed(run, epochs=2)
    last = run / "last.pt"
    assert previous_of(last).exists()
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(DAMAGES[damage](last.read_bytes()))
    resumed = runs.run(run, "--resume", "auto")
    assert (resumed.code, "going back" in resumed.err) == (0, True), resumed.err
    runs.check(run)


class Malicious:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.sentinel),)


def inside(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "a plain pickle": lambda sentinel: pickle.dumps(Malicious(sentinel)),
    "a sealed plain pickle": lambda sentinel: seal(pickle.dumps(Malicious(sentinel), 2)),
    "torch's zip": lambda sentinel: saved({"weights": Malicious(sentinel)}),
    "torch's zip, sealed": lambda sentinel: seal(saved({"weights": Malicious(sentinel)})),
    "an old torch file, sealed": lambda sentinel: seal(old_torch(sentinel)),
    "two pickles in a sealed zip": lambda sentinel: seal(inside({
        "a/data.pkl": pickle.dumps({}, 2), "b/data.pkl": pickle.dumps(Malicious(sentinel), 2),
    })),
}  # fmt: skip


def old_torch(sentinel: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": Malicious(sentinel)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("attack", ATTACKS)
def test_row_10_code_in_a_file_is_never_run(attack: str, cli: Cli, tmp_path: Path) -> None:
    path, sentinel = tmp_path / "a.pt", tmp_path / "sentinel"
    path.write_bytes(ATTACKS[attack](sentinel))
    done = cli("evaluate", str(path))
    assert (done.returncode, "refused" in done.stderr) == (4, True), done.stderr
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"_instantiator": "evil.run"},
        {"recipe": {"_target_": "evil.run"}},
        {"model": "evil.py:net"},
        {"hyper_parameters": {"_instantiator": "evil.run"}},
    ],
)
def test_row_10_a_name_in_a_file_is_never_imported(
    change: dict[str, Any], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('sentinel', 'w')\n")
    Path("a.pt").write_bytes(seal(saved(checkpoint.read(GOOD) | change)))
    done = cli("evaluate", "a.pt")
    assert (done.returncode, "refused" in done.stderr) == (4, True), done.stderr
    assert not Path("sentinel").exists()


def test_row_10_the_torch_floor_excludes_the_known_holes() -> None:
    """CVE-2025-32434 is mended in 2.6, CVE-2026-24747 in 2.10."""
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert '"torch>=2.10"' in project


def shared_tuples() -> bytes:
    """A dict key of 2^60 leaves in a pickle of 400 bytes: to hash it takes for ever."""
    deeper = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    return b"\x80\x02}(K\x01\x85q\x00" + deeper + b"K\x01u."


BOMBS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: inside({"a/data.pkl": b"\x80\x02}.", "a/data/0": bytes(2**29)}, 8),
    "overlapping entries": lambda: overlapping(),
    "bytearray": lambda: inside({"a/data.pkl": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" +
                                 (2**33).to_bytes(5, "little") + b"\x85R."}),
    "shared tuples": lambda: inside({"a/data.pkl": shared_tuples()}),
    "small storage, large tensor": lambda: saved({"weights": torch.zeros(1).expand(2**34)}),
    "empty dicts": lambda: inside({"a/data.pkl": b"\x80\x02](" + b"}" * (60 * 2**20) + b"e."}),
    "many entries": lambda: many_entries(),
}  # fmt: skip


def overlapping() -> bytes:
    """A thousand names for one entry of a megabyte."""
    data = inside({f"a/data/{i:04}": bytes(2**20) if i == 0 else b"" for i in range(1000)})
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as file:
        first = file.infolist()[0]
        for entry in file.infolist():
            entry.header_offset, entry.CRC = first.header_offset, first.CRC
            entry.file_size = entry.compress_size = first.file_size
        file._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


def many_entries() -> bytes:
    """A directory of a million entries in 60 MB."""
    end = inside({"a": b""})
    start = end.index(b"PK\x01\x02")
    entry = end[start : end.index(b"PK\x05\x06")]
    count = 60 * 2**20 // len(entry)
    size = (count * len(entry)).to_bytes(4, "little")
    return end[:start] + entry * count + b"PK\x05\x06" + bytes(8) + size + end[-6:]


@pytest.mark.parametrize("bomb", BOMBS)
def test_row_11_a_bomb_is_refused_in_bounded_memory(bomb: str, runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(seal(BOMBS[bomb]()))
    refused = runs.server.run("evaluate", path)
    assert (refused.code, "refused" in refused.err) == (4, True), refused.err
    assert refused.peak_mib < 1024


def test_row_11_an_oversized_file_is_refused_unread(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    refused = runs.server.run("evaluate", path)
    assert (refused.code, "larger than" in refused.err) == (4, True), refused.err
    assert refused.peak_mib < 1024


@pytest.mark.parametrize("other", ["v2", "v3"])
def test_row_12_another_model_is_named_with_the_first_bad_key(other: str, cli: Cli) -> None:
    path = packaged("checkpoints", "reference", "v1.pt")
    done = cli("evaluate", str(path), "--model", other)
    assert done.returncode == 4
    assert f"checkpoint is for v1, not for {other}: it " in done.stderr
    assert ".weight'" in done.stderr


HISTORY, RECIPE = checkpoint.read(GOOD)["history"], checkpoint.read(GOOD)["recipe"]
ODD: dict[str, dict[str, Any]] = {
    "newer than": {"format": checkpoint.FORMAT + 1},
    "not a checkpoint of mnistcli": {"format": True},
    "recipe: Input": {"recipe": []},
    "recipe.epochs": {"recipe": RECIPE | {"epochs": "15"}},
    "history.0: Input": {"history": [3]},
    "epoch 1: eval_loss: Input": {"history": [HISTORY[0] | {"eval_loss": "low"}]},
    "epoch 1: its number is 2": {"history": HISTORY[1:]},
    "more epochs than": {"recipe": RECIPE | {"epochs": 14}},
    "other pictures than the recipe's": {"recipe": RECIPE | {"validation": True}},
    "epoch 1: eval_correct is not within": {"history": [HISTORY[0] | {"eval_correct": 10_001}]},
    "epoch 1: train_correct is not within": {"history": [HISTORY[0] | {"train_correct": -1}]},
    "epoch 1: eval_seconds is negative": {"history": [HISTORY[0] | {"eval_seconds": -1.0}]},
    "epoch 1: best_correct or": {"history": [HISTORY[0] | {"best_correct": 9999}]},
    "epoch 2: other pictures": {"history": [HISTORY[0], HISTORY[1] | {"eval_total": 20_000}]},
    "a negative variance": {"weights": {k: -v if k.endswith("running_var") else v
                                        for k, v in checkpoint.read(GOOD)["weights"].items()}},
    "history.0.eval_loss: not finite": {"history": [HISTORY[0] | {"eval_loss": float("nan")}]},
    "weights.w: Input": {"weights": {"w": 3.0}},
    "weights.w: not finite": {"weights": {"w": torch.tensor([1.0, float("inf")])}},
    "lacks": {"weights": {}},
    "in torch.float64": {"weights": {k: v.double() if v.is_floating_point() else v
                                     for k, v in checkpoint.read(GOOD)["weights"].items()}},
    "thread count": {"runtime": checkpoint.read(GOOD)["runtime"] | {"threads": 10**6}},
    "runtime.device": {"runtime": {}},
    "training: Input": {"training": 3},
    "data: Input": {"data": None},
}  # fmt: skip


@pytest.mark.parametrize("expected", ODD)
def test_row_12_values_of_another_kind_are_named(expected: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(seal(saved(checkpoint.read(GOOD) | ODD[expected])))
    done = cli("evaluate", str(path))
    assert (done.returncode, expected in done.stderr) == (4, True), done.stderr
    assert str(path) in done.stderr


def swap_momentum(training: dict[str, Any]) -> None:
    training["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(3)


MISFITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "momentum": swap_momentum,
    "unknown parameter": lambda t: t["optimizer"]["state"].update({99: {"step": torch.ones(())}}),
    "state of another kind": lambda t: t["optimizer"].update(state=[1]),
    "average": lambda t: t.update(average=None),
    "average of another size": lambda t: t.update(average=torch.zeros(3)),
    "weights": lambda t: t["model"].popitem(),
    "optimizer": lambda t: t.update(optimizer={}),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_row_12_a_training_state_that_does_not_fit_is_refused_on_resume(
    misfit: str, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runs.killed(run)
    payload = checkpoint.read(run / "last.pt")
    MISFITS[misfit](payload["training"])
    (run / "last.pt").write_bytes(seal(saved(payload)))
    refused = runs.run(run, "--resume", "auto")
    assert refused.code == 4, refused.err
    assert str(run) in refused.err


def test_row_12_the_first_format_loads_for_ever(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored file of an unfinished run, as the first version wrote it."""
    for path in FORMAT_1.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    payload = checkpoint.read(Path("last.pt"))
    assert (payload["format"], len(payload["history"])) == (1, 1)
    assert checkpoint.weights_hash(payload["weights"]).startswith("ccb3abe8e4f1ed9f")
    words = ["--model", "net.py:tiny", "--data-dir", ".", "--json"]
    assert document(cli("evaluate", "last.pt", *words).stdout)["correct"] == 2
    resumed = cli("train", "--resume", ".", "--no-plots", *words)
    assert resumed.returncode == 0, resumed.stderr
    assert document(resumed.stdout)["epochs_done"] == 2
