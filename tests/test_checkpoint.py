"""Checkpoints: what was written comes back, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mnistcli.engine import checkpoint
from mnistcli.errors import ArtifactError, EnvironmentFault
from mnistcli.files import previous_of, write_atomically
from mnistcli.models.registry import MODELS, build

PAYLOAD = {
    "format": 1, "model": "v3", "recipe": {}, "runtime": {}, "versions": {}, "data": {},
    "history": [], "weights": {"a": torch.arange(6.0)}, "training": None,
}  # fmt: skip


def test_a_checkpoint_comes_back_and_plain_torch_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.write(path, PAYLOAD)
    assert torch.equal(checkpoint.read(path)["weights"]["a"], torch.arange(6.0))
    assert torch.equal(torch.load(path, weights_only=True)["weights"]["a"], torch.arange(6.0))
    assert list(tmp_path.iterdir()) == [path]


def test_every_flipped_bit_and_truncation_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.write(path, PAYLOAD)
    good = path.read_bytes()
    random = torch.Generator().manual_seed(0)
    damaged = [good[: len(good) * share // 100] for share in (0, 1, 10, 50, 99)]
    for _ in range(64):
        position = int(torch.randint(len(good), (), generator=random))
        damaged.append(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match="refused"):
            checkpoint.read(path)


class Malicious:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.sentinel),)


def test_code_inside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, sentinel = tmp_path / "a.pt", tmp_path / "sentinel"
    checkpoint.write(path, PAYLOAD | {"weights": Malicious(sentinel)})  # with a valid hash
    with pytest.raises(ArtifactError, match="refused"):
        checkpoint.read(path)
    assert not sentinel.exists()


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(ArtifactError, match="refused"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"format": 2}, "newer"), ({"format": None}, "not a checkpoint"), ({"history": ...}, "lacks")],
)
def test_other_formats_are_named(change: dict[str, object], expected: str, tmp_path: Path) -> None:
    payload = {k: v for k, v in (PAYLOAD | change).items() if v is not ...}
    checkpoint.write(tmp_path / "a.pt", payload)
    with pytest.raises(ArtifactError, match=expected):
        checkpoint.read(tmp_path / "a.pt")


def test_weights_must_pair_exactly() -> None:
    model = build(MODELS["v1"], {})
    good = model.state_dict()
    first = next(iter(good))
    cases = {
        "lacks": {k: v for k, v in good.items() if k != first},
        "which the network does not": good | {"extra": torch.zeros(1)},
        "of shape": good | {first: good[first].transpose(0, 1)},
    }
    for expected, weights in cases.items():
        with pytest.raises(ArtifactError, match=expected):
            checkpoint.load_weights(model, weights, where="here")


def test_writing_keeps_the_previous_file_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"one")
    write_atomically(path, b"two", keep_previous=True)
    write_atomically(path, b"three", keep_previous=True)
    assert (path.read_bytes(), previous_of(path).read_bytes()) == (b"three", b"two")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failed_write_is_explained_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"one")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert len(list(tmp_path.iterdir())) == 1
