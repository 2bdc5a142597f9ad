"""Checkpoints: the only owner of torch.save and torch.load.

A file is torch's zip followed by a trailer: eight magic bytes and the SHA-256 of all before them.
`torch.load` alone still opens it; `read` opens nothing whose hash is wrong.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.errors import ArtifactError
from mnistcli.files import write_atomically

FORMAT = 1
MAX_BYTES = 64 * 2**20
_MAGIC = b"MNISTCK1"
_TRAILER_BYTES = len(_MAGIC) + 32
_KEYS = {
    "format",
    "model",
    "recipe",
    "runtime",
    "versions",
    "data",
    "history",
    "weights",
    "training",
}


def write(path: Path, payload: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write plain values and tensors atomically with their hash."""
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    data = buffer.getvalue()
    trailer = _MAGIC + hashlib.sha256(data).digest()
    write_atomically(path, data + trailer, keep_previous=keep_previous)


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint's values on the CPU.

    Raises:
        ArtifactError: missing, too large, damaged, of a newer format, or not of plain values.
    """
    payload = read_values(path)
    if not isinstance(payload, dict) or not isinstance(payload.get("format"), int):
        raise ArtifactError("not a checkpoint of mnistcli", where=str(path))
    if payload["format"] > FORMAT:
        raise ArtifactError(
            f"checkpoint format {payload['format']} is newer than {FORMAT}",
            where=str(path),
            hint="upgrade mnistcli",
        )
    if missing := _KEYS - payload.keys():
        raise ArtifactError(f"checkpoint lacks {', '.join(sorted(missing))}", where=str(path))
    return payload


def read_values(path: Path) -> Any:
    """Return the verified plain values and tensors of a file that `write` wrote."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ArtifactError(
                f"refused: {size} bytes, at most {MAX_BYTES} are loaded", where=str(path)
            )
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"can't read checkpoint: {error.strerror}", where=str(path)) from error
    body, trailer = data[:-_TRAILER_BYTES], data[-_TRAILER_BYTES:]
    if trailer != _MAGIC + hashlib.sha256(body).digest():
        raise ArtifactError(
            "refused: damaged, or not written by mnistcli (its hash does not match)",
            where=str(path),
        )
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises on a file that is not plain
        raise ArtifactError(
            "refused: it holds more than plain values and tensors", where=str(path)
        ) from error


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, where: str) -> None:
    """Copy weights into a network; every key and shape must agree.

    Raises:
        ArtifactError: naming the first key that is missing, extra or of another shape.
    """
    expected = model.state_dict()
    for key in [*expected, *weights]:
        if key not in weights:
            problem = f"lacks {key!r}"
        elif key not in expected:
            problem = f"has {key!r}, which the network does not"
        elif expected[key].shape != weights[key].shape:
            shapes = list(weights[key].shape), list(expected[key].shape)
            problem = f"has {key!r} of shape {shapes[0]}, the network's is {shapes[1]}"
        else:
            continue
        raise ArtifactError(f"checkpoint is for another network: it {problem}", where=where)
    model.load_state_dict(weights)


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
