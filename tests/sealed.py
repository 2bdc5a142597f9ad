"""Files that pass for checkpoints: with the right trailer, as torch saves, or as any zip."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import torch


def seal(body: bytes) -> bytes:
    """Return a file's bytes with the right trailer: anybody can compute it."""
    return body + b"MNISTCK1" + hashlib.sha256(body).digest()


def saved(values: Any) -> bytes:
    """Return torch's zip of any values."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def inside(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()
