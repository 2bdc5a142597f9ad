"""Damage for files: changed bytes, changed values, and a hash that fits them again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Mutate = Callable[[Random, Path], None]
Probe = Callable[[Path], bool]

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**40), 0.0, -0.5, 1e308, float("nan"),
    float("inf"), "", "v3", "v1", "cpu", "cuda:9", "x" * 99, "../..", [], [1], {}, {"a": 1},
    [[[]]], "test", "validation", 15, 0.1,
]  # fmt: skip


def mutated(data: bytes, random: Random) -> bytes:
    """Return bytes with one to eight changes: flipped, set, cut, repeated, moved or put in."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = random.randrange(len(changed) + 1)
        end = min(len(changed), at + random.choice((1, 1, 4, 64, 4096)))
        match random.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1 if at < len(changed):
                changed[at] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end]
            case 4:
                changed[at:end] = bytes(end - at)
            case 5:
                changed[at:at] = random.randbytes(random.choice((1, 4, 64)))
            case 6:
                del changed[at:]
    return bytes(changed)


def mutate_values(values: Any, random: Random) -> Any:
    """Return a copy of nested values in which one is replaced, lost, new or renamed."""
    if isinstance(values, dict) and values and random.random() < 0.9:
        copy = dict(values)
        key = random.choice(list(copy))
        match random.randrange(8):
            case 0:
                del copy[key]
            case 1:
                copy[random.choice(["x", 0, "epochs", "name", "lr"])] = random.choice(ODD)
            case 2:
                copy[f"{key}s"] = copy.pop(key)
            case _:
                copy[key] = mutate_values(copy[key], random)
        return copy
    if isinstance(values, list) and values and random.random() < 0.8:
        at = random.randrange(len(values))
        return [*values[:at], mutate_values(values[at], random), *values[at + 1 :]]
    return odd_tensor(values, random) if hasattr(values, "dtype") else random.choice(ODD)


def odd_tensor(tensor: Any, random: Random) -> Any:
    import torch

    if not tensor.numel() or random.random() < 0.2:
        return random.choice(ODD)
    changed = tensor.clone()
    match random.randrange(6):
        case 0:
            changed.view(-1)[0] = float("nan") if changed.is_floating_point() else -5
        case 1:
            changed = changed.double() if changed.dtype == torch.float32 else changed.float()
        case 2:
            changed = changed.flatten()
        case 3:
            changed = changed[:1].expand(2**20, *changed.shape[1:]) if changed.dim() else changed
        case 4:
            changed = torch.zeros(0)
        case 5:
            changed = changed.mT if changed.dim() > 1 else changed.flatten()[:1]
    return changed


def seal(body: bytes) -> bytes:
    return body + b"MNISTCK1" + hashlib.sha256(body).digest()
