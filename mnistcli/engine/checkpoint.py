"""Checkpoints: the only owner of torch.save and torch.load.

A file is torch's zip followed by a trailer: eight magic bytes and the SHA-256 of all before them.
`torch.load` alone still opens it; `read` opens nothing whose hash is wrong.
"""

from __future__ import annotations

import hashlib
import io
import stat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.engine import contents
from mnistcli.engine.archive import MAX_ENTRIES, repack
from mnistcli.errors import ArtifactError, DivergedError, UsageError, not_readable
from mnistcli.files import write_atomically

FORMAT = 2  # 2: the description of the network, and its arguments in full
MAX_BYTES = 64 * 2**20  # of a file that anyone may have made
MAX_OWN_BYTES = 2**30  # of a file for an own network that the user named
_MAX_TENSORS = (MAX_ENTRIES - 100) // 5  # of a network; Adam's file holds five of each
_MAGIC = b"MNISTCK1"
_TRAILER_BYTES = len(_MAGIC) + 32


def write(path: Path, payload: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write plain values and tensors atomically with their hash.

    Raises:
        DivergedError: a value is not finite; the file stays as it was.
        ArtifactError: `read_values` would refuse it; the file stays as it was.
    """
    if (place := contents.non_finite(payload)) is not None:
        raise DivergedError(f"{place} is not finite", where=str(path))
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    body = buffer.getvalue()
    trailer = _MAGIC + hashlib.sha256(body).digest()
    if len(body) + _TRAILER_BYTES > MAX_OWN_BYTES:
        raise ArtifactError(f"larger than {MAX_OWN_BYTES} bytes", where=str(path))
    _parse(body, trailer, where=str(path))
    write_atomically(path, body + trailer, keep_previous=keep_previous)


def check_size(model: nn.Module, *, where: str) -> None:
    """Raise UsageError where a network's checkpoint would be larger than any that is read.

    It holds the weights twice, their average, and up to two moments of each: five times the
    network's bytes, or six where a float64 buffer makes the average float64. The rest, names and
    10,000 epochs of history, is below 16 MiB.
    """
    state = model.state_dict().values()
    needed = 6 * sum(value.numel() * value.element_size() for value in state) + 16 * 2**20
    if needed > MAX_OWN_BYTES or len(state) > _MAX_TENSORS:
        raise UsageError(
            f"the network is too large: its checkpoint may need {needed / 2**20:,.0f} MiB for "
            f"{len(state):,} tensors, the largest is {MAX_OWN_BYTES // 2**20:,} MiB for "
            f"{_MAX_TENSORS:,}",
            where=where,
        )


def most_bytes(*, own: bool) -> int:
    """Return how large a file may be: for an own network the user has named the code that runs."""
    return MAX_OWN_BYTES if own else MAX_BYTES


def read(path: Path, *, most_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return a run's checkpoint, its values on the CPU.

    Raises:
        ArtifactError: missing, too large, damaged, of a newer format, or not what a run writes.
    """
    payload = read_values(path, most_bytes=most_bytes)
    number = payload.get("format") if isinstance(payload, dict) else None
    if type(number) is not int or number < 1:
        raise ArtifactError("not a checkpoint of mnistcli", where=str(path))
    if number > FORMAT:
        raise ArtifactError(
            f"checkpoint format {number} is newer than {FORMAT}",
            where=str(path),
            hint="upgrade mnistcli",
        )
    try:
        contents.check(payload)
    except ValueError as error:
        raise ArtifactError(
            f"refused: not the checkpoint of a run ({error})", where=str(path)
        ) from error
    contents.name_network(payload)
    return payload  # type: ignore[no-any-return]


def read_values(path: Path, *, most_bytes: int = MAX_BYTES) -> Any:
    """Return the verified plain values and tensors of a file that `write` wrote."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactError("can't read checkpoint: not a file", where=str(path))
        if found.st_size > most_bytes:
            raise ArtifactError(f"refused: larger than {most_bytes} bytes", where=str(path))
        with path.open("rb") as file:  # in two parts: to slice a large one would copy it
            body = file.read(max(0, found.st_size - _TRAILER_BYTES))
            trailer = file.read(_TRAILER_BYTES)
    except OSError as error:
        raise not_readable(error, path) from error
    return _parse(body, trailer, where=str(path))


def _parse(body: bytes, trailer: bytes, *, where: str) -> Any:
    """Open a file's bytes: its hash first, then the zip, then its values, one by one."""
    if trailer != _MAGIC + hashlib.sha256(body).digest():
        raise ArtifactError(
            "refused: damaged, or not written by mnistcli (its hash does not match)", where=where
        )
    try:
        values = torch.load(repack(body), map_location="cpu", weights_only=True)
        contents.check_tensors(values, most_bytes=len(body))
    except ValueError as error:
        raise ArtifactError(f"refused: {error}", where=where) from error
    except Exception as error:  # whatever zipfile and torch raise on a file that is not plain
        raise ArtifactError(
            "refused: it holds more than plain values and tensors", where=where
        ) from error
    return values


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, where: str) -> None:
    """Copy weights into a network; every key, shape and type must agree.

    Raises:
        ArtifactError: naming the first key that is missing, extra, of another shape or type, or
            unequal to another key of the same tensor.
    """
    if (problem := mismatch(model, weights)) is not None:
        raise ArtifactError(f"checkpoint is for another network: it {problem}", where=where)
    model.load_state_dict(weights)


def mismatch(model: nn.Module, weights: dict[str, Tensor]) -> str | None:
    """Return in words why weights do not fit a network, or None."""
    expected = model.state_dict()
    for key in [*expected, *weights]:
        if key not in weights:
            return f"lacks {key!r}"
        if key not in expected:
            return f"has {key!r}, which the network does not"
        found, wanted = weights[key], expected[key]
        if found.shape != wanted.shape:
            shapes = list(found.shape), list(wanted.shape)
            return f"has {key!r} of shape {shapes[0]}, the network's is {shapes[1]}"
        if found.dtype != wanted.dtype:
            return f"has {key!r} in {found.dtype}, the network's is in {wanted.dtype}"
    return _parted(expected, weights)


def _parted(expected: dict[str, Tensor], weights: dict[str, Tensor]) -> str | None:
    """Return in words where weights differ that are one tensor in the network, or None."""
    names: dict[tuple[Any, ...], str] = {}
    for key, tensor in expected.items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        other = names.setdefault(place, key)
        if other != key and not torch.equal(weights[key], weights[other]):
            return f"has other values for {key!r} than for {other!r}, one tensor in the network"
    return None


def to_cpu(values: Any) -> Any:
    """Copy the tensors inside dicts, lists and tuples to contiguous CPU memory."""
    if isinstance(values, Tensor):
        return values.detach().cpu().contiguous().clone()
    if isinstance(values, dict):
        return {key: to_cpu(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [to_cpu(value) for value in values]
    return values


def weights_hash(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names and bytes of all tensors: equal weights, equal hash."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        tensor = weights[key].detach().cpu().contiguous()
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
