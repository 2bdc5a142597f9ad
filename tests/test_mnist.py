"""Loading, and the fixed split; what is refused is in test_faults_input.py."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import pytest
import torch
from conftest import Cli

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


def test_the_validation_split_is_fixed_stratified_and_disjoint(dataset: mnist.Dataset) -> None:
    kept, held_out = mnist.split_validation(dataset.train.labels)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(60_000))
    assert len(held_out) == 10_000
    share = dataset.train.labels[held_out].bincount() * 6 - dataset.train.labels.bincount()
    assert int(share.abs().max()) < 6  # each class within one picture of its sixth
    digest = hashlib.sha256(str(held_out.tolist()).encode()).hexdigest()
    assert digest.startswith("a2f70ce4e7712d7b")  # a moved split would void every choice made on it


def put(folder: Path, source: Path, names: str, *, pack: bool = False) -> Path:
    """Copy four IDX files under other names, {} their part and {} their kind; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, (part, kind) in zip(sorted(source.iterdir()), FOUR, strict=True):
        data = path.read_bytes()
        name = names.format(part=part, kind=kind)
        (folder / name).write_bytes(gzip.compress(data, 1) if pack else data)
    return folder


FOUR = [(part, kind) for part in ("test", "train") for kind in ("images-idx3", "labels-idx1")]


@pytest.mark.parametrize(
    ("below", "names"),
    [
        ("", "{part}-{kind}-ubyte"),
        ("", "{part}-{kind}-ubyte.gz"),
        ("", "emnist-digits-{part}-{kind}-ubyte.gz"),
        ("", "qmnist-{part}-{kind}-ubyte"),
        ("raw", "{part}-{kind}-ubyte"),
        ("MNIST/raw", "{part}-{kind}-ubyte"),
        ("FashionMNIST/raw", "{part}-{kind}-ubyte.gz"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_usual_names_load_whatever_is_in_them(
    below: str, names: str, *, packed: bool, tiny_data: Path, tmp_path: Path
) -> None:
    put(tmp_path / below, tiny_data, names, pack=packed)
    assert mnist.load(tmp_path).hashes == mnist.load(tiny_data).hashes


def test_emnists_pictures_stand_upright(tiny_data: Path, tmp_path: Path) -> None:
    put(tmp_path, tiny_data, "emnist-mnist-{part}-{kind}-ubyte")
    stored, upright = mnist.load(tiny_data), mnist.load(tmp_path)
    assert torch.equal(upright.train.images, stored.train.images.transpose(1, 2))
    assert torch.equal(upright.test.images, stored.test.images.transpose(1, 2))


def test_a_dot_for_a_dash_loads_beside_folders_of_the_other_name(
    tiny_data: Path, tmp_path: Path
) -> None:
    for path in tiny_data.iterdir():
        (tmp_path / path.name).mkdir()
        (tmp_path / path.name.replace("-idx", ".idx")).write_bytes(path.read_bytes())
    assert mnist.load(tmp_path).hashes == mnist.load(tiny_data).hashes


def test_labels_of_qmnist_are_the_first_of_eight_integers(tiny_data: Path, tmp_path: Path) -> None:
    put(tmp_path, tiny_data, "qmnist-{part}-{kind}-ubyte")
    for part in ("train", "test"):
        labels = (tmp_path / f"qmnist-{part}-labels-idx1-ubyte").read_bytes()[8:]
        (tmp_path / f"qmnist-{part}-labels-idx1-ubyte").unlink()
        cells = b"".join(struct.pack(">8i", label, 1, 2, 3, 4, 5, -6, 0) for label in labels)
        header = struct.pack(">3I", 0xC02, len(labels), 8)
        (tmp_path / f"qmnist-{part}-labels-idx2-int").write_bytes(header + cells)
    assert torch.equal(mnist.load(tmp_path).test.labels, mnist.load(tiny_data).test.labels)


def test_of_two_sets_none_is_guessed(tiny_data: Path, tmp_path: Path) -> None:
    for name in ("MNIST", "KMNIST"):
        put(tmp_path / name / "raw", tiny_data, "{part}-{kind}-ubyte")
    with pytest.raises(ArtifactError, match=r"2 sets .* KMNIST/raw/train.*, MNIST/raw/train"):
        mnist.load(tmp_path)


def test_what_was_looked_for_and_what_was_found_is_said(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the folder has no file"):
        mnist.load(tmp_path)
    with pytest.raises(ArtifactError, match="no such folder"):
        mnist.load(tmp_path / "absent")
    put(tmp_path, tiny_data, "{part}-{kind}-ubyte")
    (tmp_path / "test-labels-idx1-ubyte").rename(tmp_path / "labels.csv")
    with pytest.raises(ArtifactError) as caught:
        mnist.load(tmp_path)
    assert caught.value.what.startswith(
        "t10k-labels-idx1-ubyte (or .gz) not found; the folder has labels"
    )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ((0x0D03, 96, 28, 28), "an IDX file of 32-bit floats in 3 dimensions"),
        ((0x0802, 96, 784), "an IDX file of unsigned bytes in 2 dimensions"),
        ((0x0804, 96, 28, 28, 1), "an IDX file of unsigned bytes in 4 dimensions"),
        ((0x0803, 96, 32, 32), "pictures are 32×32, expected 28×28"),
        ((0x3C68746D,), "not an IDX file"),
    ],
)
def test_another_type_of_idx_is_called_that(header: tuple[int, ...], words: str) -> None:
    data = struct.pack(f">{len(header)}I", *header) + bytes(100)
    with pytest.raises(ArtifactError, match=words):
        mnist.parse_images(data, where="x")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/dev/zero", "a pipe or device"),
        ("pipe", "a pipe or device"),
        ("/proc/self/mem", "not readable: Input/output error"),  # a file that can't be read
    ],
)
def test_what_is_no_readable_file_neither_hangs_nor_is_damaged(
    target: str, words: str, tiny_data: Path, tmp_path: Path
) -> None:
    put(tmp_path, tiny_data, "{part}-{kind}-ubyte")
    (tmp_path / "train-images-idx3-ubyte").unlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "train-images-idx3-ubyte").symlink_to(target)
    with pytest.raises(ArtifactError, match=words):
        mnist.load(tmp_path)


@pytest.mark.parametrize(("size", "validation"), [(97, False), (81, True)])
def test_a_batch_larger_than_the_data_is_refused_before_a_folder_is_made(
    size: int, *, validation: bool, cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    line = ["train", "--recipe", "plain/v3", "--data-dir", tiny_data, "--out", tmp_path / "run"]
    done = cli(*line, "--batch-size", size, *(["--val"] if validation else []))
    assert (done.returncode, f"--batch-size {size - 1}" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()
    mnist.check_batch(mnist.load(tiny_data), size - 1, validation=validation)
