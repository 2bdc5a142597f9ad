"""Loading: what is accepted, what is refused, and the fixed split."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
import torch

from mnistcli.data import mnist
from mnistcli.errors import ArtifactError


def test_the_packaged_data_is_the_original(dataset: mnist.Dataset) -> None:
    assert dataset.hashes == mnist.FILES
    assert dataset.train.images.shape == (60_000, 28, 28)
    assert dataset.test.labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_a_folder_loads_plain_and_gzipped(small_data: Path, tmp_path: Path) -> None:
    for path in small_data.iterdir():
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    plain, packed = mnist.load(small_data), mnist.load(tmp_path)
    assert plain.digest == packed.digest
    assert torch.equal(plain.test.images, packed.test.images)


def damage(name: str, folder: Path) -> None:
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    match name:
        case "missing":
            images.unlink()
        case "truncated":
            images.write_bytes(images.read_bytes()[:-1])
        case "truncated gz":
            packed = gzip.compress(images.read_bytes())
            images.unlink()
            images.with_suffix(".gz").write_bytes(packed[: len(packed) // 2])
        case "html":
            images.write_text("<html>404</html>")
        case "label 11":
            labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")
        case "swapped":
            swapped = labels.read_bytes()
            labels.write_bytes(images.read_bytes())
            images.write_bytes(swapped)
        case "fewer labels":
            data = labels.read_bytes()[:-1]
            labels.write_bytes(data[:4] + (383).to_bytes(4, "big") + data[8:])


@pytest.mark.parametrize(
    "name",
    ["missing", "truncated", "truncated gz", "html", "label 11", "swapped", "fewer labels"],
)
def test_damaged_files_are_refused_by_name(name: str, small_data: Path, tmp_path: Path) -> None:
    for path in small_data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(name, tmp_path)
    with pytest.raises(ArtifactError) as caught:
        mnist.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_changed_byte_in_the_packaged_data_is_found(
    dataset: mnist.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mnist.FILES, "t10k-labels-idx1-ubyte", "0" * 64)
    with pytest.raises(ArtifactError, match="SHA-256"):
        mnist.load()


def test_the_validation_split_is_fixed_stratified_and_disjoint(dataset: mnist.Dataset) -> None:
    kept, held_out = mnist.split_validation(dataset.train.labels)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(60_000))
    assert len(held_out) == 10_000
    share = dataset.train.labels[held_out].bincount() * 6 - dataset.train.labels.bincount()
    assert int(share.abs().max()) < 6  # each class within one picture of its sixth
    digest = hashlib.sha256(str(held_out.tolist()).encode()).hexdigest()
    assert digest.startswith("a2f70ce4e7712d7b")  # a moved split would void every choice made on it
