"""Loading, and the fixed split; what is refused is in test_faults_input.py."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import torch

from mnistcli.data import mnist


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


def test_the_validation_split_is_fixed_stratified_and_disjoint(dataset: mnist.Dataset) -> None:
    kept, held_out = mnist.split_validation(dataset.train.labels)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(60_000))
    assert len(held_out) == 10_000
    share = dataset.train.labels[held_out].bincount() * 6 - dataset.train.labels.bincount()
    assert int(share.abs().max()) < 6  # each class within one picture of its sixth
    digest = hashlib.sha256(str(held_out.tolist()).encode()).hexdigest()
    assert digest.startswith("a2f70ce4e7712d7b")  # a moved split would void every choice made on it
