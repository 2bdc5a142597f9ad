"""Load and verify the four IDX files, packaged or in a user's folder; split off validation."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from mnistcli.data.order import generator
from mnistcli.errors import ArtifactError

IMAGE_MAGIC, LABEL_MAGIC = 2051, 2049  # http://yann.lecun.com/exdb/mnist: unsigned bytes, 3-D / 1-D
SIDE, CLASSES = 28, 10
VALIDATION_IMAGES = 10_000
_MAX_ITEMS = 4_000_000
_CHUNK_BYTES = 16 * 2**20

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
    """Return the packaged MNIST, or the IDX files of `data_dir` (plain or .gz).

    Raises:
        ArtifactError: a file is missing, damaged, or not what its name says.
    """
    folder = data_dir or Path(__file__).parent / "idx"
    raw = {name: _read(folder, name) for name in FILES}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in raw.items()}
    if data_dir is None:
        _verify_packaged(hashes, folder)
    parts = []
    for prefix in ("train", "t10k"):
        images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        images = parse_images(raw[images_name], where=str(folder / images_name))
        labels = parse_labels(raw[labels_name], where=str(folder / labels_name))
        if len(images) != len(labels):
            raise ArtifactError(
                f"{len(images)} images but {len(labels)} labels", where=str(folder / images_name)
            )
        parts.append(Labelled(images, labels))
    return Dataset(parts[0], parts[1], hashes)


def parse_images(data: bytes, *, where: str) -> Tensor:
    """Return the pictures of an IDX image file as uint8 [N, 28, 28]."""
    count, rows, columns = _header(data, IMAGE_MAGIC, 3, where)
    if (rows, columns) != (SIDE, SIDE):
        raise ArtifactError(f"pictures are {rows}×{columns}, expected 28×28", where=where)
    return _body(data, 16, count * SIDE * SIDE, where).reshape(count, SIDE, SIDE)


def parse_labels(data: bytes, *, where: str) -> Tensor:
    """Return the labels of an IDX label file as int64 [N], each 0 to 9."""
    (count,) = _header(data, LABEL_MAGIC, 1, where)
    labels = _body(data, 8, count, where).long()
    highest = int(labels.max())
    if highest >= CLASSES:
        raise ArtifactError(f"label {highest} found, expected 0 to 9", where=where)
    return labels


def validation_parts(dataset: Dataset) -> tuple[Labelled, Labelled]:
    """Return the training set without the held-out pictures, and the held-out pictures."""
    kept, held_out = split_validation(dataset.train.labels)
    return dataset.train.rows(kept), dataset.train.rows(held_out)


def split_validation(labels: Tensor, size: int = VALIDATION_IMAGES) -> tuple[Tensor, Tensor]:
    """Return sorted indices (training, validation): stratified, and the same at every call.

    Each class gives its share of `size`, rounded by largest remainder. Fewer than six times
    `size` labels: a sixth of them is held out, as 10,000 of MNIST's 60,000.
    """
    size = min(size, len(labels) // 6)
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


def _read(folder: Path, name: str) -> bytes:
    """Return the unpacked bytes of `name`, plain or gzipped, checking gzip's CRC."""
    for path in (folder / name, folder / f"{name}.gz"):
        if not path.is_file():
            continue
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rb") as file:
                return _read_declared(file)
        except (OSError, EOFError, zlib.error) as error:
            raise ArtifactError(f"damaged file: {error}", where=str(path)) from error
    raise ArtifactError(
        f"{name}(.gz) not found",
        where=str(folder),
        hint="--data-dir takes a folder with the four IDX files; the default is packaged",
    )


def _read_declared(file: IO[bytes] | gzip.GzipFile) -> bytes:
    """Read an IDX file, but no further than a byte beyond the size that its header declares.

    So a few kilobytes of gzip can't fill the memory, and a file that is too long is still found.
    """
    chunks = [file.read(16)]
    left = min(_declared_bytes(chunks[0]), 16 + _MAX_ITEMS * SIDE * SIDE) + 1 - len(chunks[0])
    while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _declared_bytes(head: bytes) -> int:
    """Return the size of an IDX file of unsigned bytes by its header, 0 where there is none."""
    dimensions = {IMAGE_MAGIC: 3, LABEL_MAGIC: 1}.get(int.from_bytes(head[:4], "big"), 0)
    size = 4 * (1 + dimensions)
    shape = [int.from_bytes(head[i : i + 4], "big") for i in range(4, size, 4)]
    return size + prod(shape) if dimensions else 0


def _header(data: bytes, magic: int, dimensions: int, where: str) -> list[int]:
    size = 4 * (1 + dimensions)
    if len(data) < size or int.from_bytes(data[:4], "big") != magic:
        raise ArtifactError(f"not an IDX file: its first four bytes should be {magic}", where=where)
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, size, 4)]
    if not 1 <= shape[0] <= _MAX_ITEMS:
        raise ArtifactError(f"{shape[0]} items, expected 1 to {_MAX_ITEMS}", where=where)
    return shape


def _body(data: bytes, offset: int, size: int, where: str) -> Tensor:
    if len(data) - offset != size:
        raise ArtifactError(
            f"{len(data) - offset} bytes after the header, expected {size}", where=where
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=offset)


def _verify_packaged(hashes: dict[str, str], folder: Path) -> None:
    for name, expected in FILES.items():
        if hashes[name] != expected:
            raise ArtifactError(
                "packaged MNIST file is damaged: SHA-256 differs from the original",
                where=str(folder / f"{name}.gz"),
                hint="reinstall mnistcli",
            )
