"""Checkpoints: what was written comes back, and nothing else does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from conftest import network

from mnistcli.engine import checkpoint
from mnistcli.errors import ArtifactError, DivergedError, EnvironmentFault
from mnistcli.files import packaged, previous_of, write_atomically

PAYLOAD = checkpoint.read(packaged("checkpoints", "reference", "v1.pt"))


def test_a_checkpoint_comes_back_and_plain_torch_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.write(path, PAYLOAD)
    hashes = [
        checkpoint.weights_hash(payload["weights"])
        for payload in (PAYLOAD, checkpoint.read(path), torch.load(path, weights_only=True))
    ]
    assert len(set(hashes)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_every_flipped_bit_and_truncation_is_detected(tmp_path: Path) -> None:
    """Row 9 of the fault matrix, 64 flips; `torch.load` alone misses most of them."""
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


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ({"w": torch.tensor([1.0, float("nan")])}, DivergedError),
        ({"w": torch.zeros(2, dtype=torch.complex64)}, ArtifactError),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    weights: dict[str, torch.Tensor], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        checkpoint.write(tmp_path / "a.pt", PAYLOAD | {"weights": weights})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_large_file_is_read_for_an_own_network_alone(tmp_path: Path) -> None:
    """Row 11 of the fault matrix: what anyone may have made stays bounded."""
    path = tmp_path / "a.pt"
    weights = {"w": torch.zeros(checkpoint.MAX_BYTES // 4)}
    checkpoint.write(path, PAYLOAD | {"weights": weights})
    with pytest.raises(ArtifactError, match="refused: larger than"):
        checkpoint.read(path)
    found = checkpoint.read(path, most_bytes=checkpoint.most_bytes(own=True))
    assert torch.equal(found["weights"]["w"], weights["w"])


@pytest.mark.slow
def test_ten_thousand_epochs_of_history_are_written_and_read(tmp_path: Path) -> None:
    last = PAYLOAD["history"][-1]
    metrics = last | {"best_correct": last["eval_correct"]}
    history = [
        metrics | {"epoch": epoch, "lr": epoch / 7, "epochs_since_best": epoch - 1}
        for epoch in range(1, 10_001)
    ]
    recipe = PAYLOAD["recipe"] | {"epochs": 10_000}
    checkpoint.write(tmp_path / "a.pt", PAYLOAD | {"history": history, "recipe": recipe})
    assert len(checkpoint.read(tmp_path / "a.pt")["history"]) == 10_000


def test_weights_must_pair_exactly() -> None:
    """Row 12 of the fault matrix."""
    model = network("v1")
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


def test_a_value_that_is_not_a_number_is_no_other_value() -> None:
    model = network("v1")
    assert (
        checkpoint.mismatch(model, {k: v * torch.nan for k, v in model.state_dict().items()})
        is None
    )


def test_a_tensor_of_several_names_has_one_value() -> None:
    model = network("v9", stages="4-4 4-4 4-4", shared=True)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.load_weights(model, weights, where="here")
    names = [name for name in weights if torch.equal(weights[name], weights["3.weight"])]
    assert len(names) == 5
    weights[names[-1]] += 1
    with pytest.raises(ArtifactError, match=f"other values for {names[-1]!r} than for '3.weight'"):
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


def test_a_file_system_without_hard_links_keeps_the_previous_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no hard links")

    monkeypatch.setattr("os.link", refuse)
    for data in (b"old", b"new"):
        write_atomically(tmp_path / "file", data, keep_previous=True)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert previous_of(tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
