"""Load and verify the four IDX files, packaged or in a user's folder; split off validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mnistcli.data import folder
from mnistcli.data.order import generator
from mnistcli.errors import ArtifactError, UsageError

IMAGE_MAGIC, LABEL_MAGIC, QMNIST_MAGIC = 2051, 2049, 3074
_MEANING = {
    IMAGE_MAGIC: "unsigned bytes in 3 dimensions",
    LABEL_MAGIC: "unsigned bytes in 1 dimension",
}
SIDE, CLASSES = 28, 10
VALIDATION_IMAGES = 10_000

# SHA-256 of the unpacked originals.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Labelled(NamedTuple):
    """Pictures [N, 28, 28] uint8 and their labels [N] int64, on one device."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Labelled:
        """Copy both to a device."""
        return Labelled(self.images.to(device), self.labels.to(device))

    def rows(self, index: Tensor) -> Labelled:
        """Return the pictures and labels at these indices."""
        return Labelled(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """Training and test pictures, and the SHA-256 of each unpacked file by its name."""

    train: Labelled
    test: Labelled
    hashes: dict[str, str]

    @property
    def digest(self) -> str:
        """One short hash over the four files: equal data, equal digest."""
        return hashlib.sha256("".join(self.hashes[name] for name in FILES).encode()).hexdigest()[
            :12
        ]


def load(data_dir: Path | None = None) -> Dataset:
    """Return the packaged MNIST, or the IDX files of `data_dir`, as `folder.locate` finds them.

    Raises:
        ArtifactError: a file is missing, damaged, or not what its name says.
    """
    paths = folder.locate(data_dir or Path(__file__).parent / "idx")
    raw = {name: folder.read(paths[name]) for name in FILES}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in raw.items()}
    if data_dir is None:
        _verify_packaged(hashes, paths)
    parts = []
    for prefix in ("train", "t10k"):
        images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        images = parse_images(raw[images_name], where=str(paths[images_name]))
        if folder.is_transposed(paths[images_name]):
            images = images.transpose(1, 2).contiguous()
        labels = parse_labels(raw[labels_name], where=str(paths[labels_name]))
        if len(images) != len(labels):
            raise ArtifactError(
                f"{len(images)} images but {len(labels)} labels", where=str(paths[images_name])
            )
        parts.append(Labelled(images, labels))
    return Dataset(parts[0], parts[1], hashes)


def parse_images(data: bytes, *, where: str) -> Tensor:
    """Return the pictures of an IDX image file as uint8 [N, 28, 28]."""
    count, rows, columns = _header(data, (IMAGE_MAGIC,), where)
    if (rows, columns) != (SIDE, SIDE):
        raise ArtifactError(f"pictures are {rows}×{columns}, expected 28×28", where=where)
    return _body(data, 16, count * SIDE * SIDE, where).reshape(count, SIDE, SIDE)


def parse_labels(data: bytes, *, where: str) -> Tensor:
    """Return the labels of an IDX label file as int64 [N], each 0 to 9.

    QMNIST's have eight 32-bit integers each, the class first:
    https://github.com/facebookresearch/qmnist
    """
    count, *columns = _header(data, (LABEL_MAGIC, QMNIST_MAGIC), where)
    if columns:
        cells = _body(data, 12, count * columns[0] * 4, where).reshape(count, columns[0], 4)
        labels = cells[:, 0].long() @ torch.tensor([2**24, 2**16, 2**8, 1])
    else:
        labels = _body(data, 8, count, where).long()
    highest = int(labels.max())
    if highest >= CLASSES:
        raise ArtifactError(f"label {highest} found, expected 0 to 9", where=where)
    return labels


def validation_parts(dataset: Dataset) -> tuple[Labelled, Labelled]:
    """Return the training set without the held-out pictures, and the held-out pictures."""
    kept, held_out = split_validation(dataset.train.labels)
    return dataset.train.rows(kept), dataset.train.rows(held_out)


def check_batch(dataset: Dataset, batch_size: int, *, validation: bool) -> None:
    """Raise UsageError for a batch of more pictures than there are: it would repeat them."""
    pictures = len(dataset.train.labels)
    pictures -= _held_out(pictures) if validation else 0
    if batch_size > pictures:
        what = f"a batch of {batch_size:,} needs more than the {pictures:,} pictures to train on"
        raise UsageError(what, hint=f"--batch-size {max(1, pictures)}")


def split_validation(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return sorted indices (training, validation): stratified, and the same at every call.

    10,000 are held out, or a sixth where there are fewer than 60,000. Each class gives its share,
    rounded by largest remainder.
    """
    size = _held_out(len(labels))
    if size < 1:
        raise ArtifactError(f"{len(labels)} training pictures are too few to hold any out")
    counts = torch.bincount(labels, minlength=CLASSES)
    exact = counts.double() * size / len(labels)
    quota = exact.floor().long()
    order = (exact - quota).argsort(descending=True, stable=True)
    quota[order[: size - int(quota.sum())]] += 1
    shuffled = torch.randperm(len(labels), generator=generator(0, "validation split", 0))
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(CLASSES):
        members = shuffled[labels[shuffled] == digit]
        held_out[members[: int(quota[digit])]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def _held_out(pictures: int) -> int:
    """Return how many of the training pictures are for validation."""
    return min(VALIDATION_IMAGES, pictures // 6)


def _header(data: bytes, magics: tuple[int, ...], where: str) -> list[int]:
    """Return the lengths in an IDX header; a magic's last byte is the number of dimensions."""
    magic = int.from_bytes(data[:4], "big")
    dimensions = magic & 255
    if magic not in magics or len(data) < 4 * (1 + dimensions):
        what = f"{folder.kind(data)}: its first four bytes should be {magics[0]}"
        raise ArtifactError(f"{what}, {_MEANING[magics[0]]}", where=where)
    shape = folder.lengths(data, dimensions)
    if not 1 <= shape[0] <= folder.MAX_ITEMS:
        raise ArtifactError(f"{shape[0]} items, expected 1 to {folder.MAX_ITEMS}", where=where)
    return shape


def _body(data: bytes, offset: int, size: int, where: str) -> Tensor:
    if len(data) - offset != size:
        raise ArtifactError(
            f"{len(data) - offset} bytes after the header, expected {size}", where=where
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=offset)


def _verify_packaged(hashes: dict[str, str], paths: dict[str, Path]) -> None:
    for name, expected in FILES.items():
        if hashes[name] != expected:
            raise ArtifactError(
                "packaged MNIST file is damaged: SHA-256 differs from the original",
                where=str(paths[name]),
                hint="reinstall mnistcli",
            )
