"""Rows 10 and 11 of the fault matrix: checkpoints with code in them, and bombs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from interrupted import Runs
from sealed import inside, saved, seal

from mnistcli.engine import checkpoint
from mnistcli.files import packaged

GOOD = packaged("checkpoints", "reference", "v3.pt")


class Malicious:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.sentinel),)


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "a plain pickle": lambda sentinel: pickle.dumps(Malicious(sentinel)),
    "a sealed plain pickle": lambda sentinel: seal(pickle.dumps(Malicious(sentinel), 2)),
    "torch's zip": lambda sentinel: saved({"weights": Malicious(sentinel)}),
    "torch's zip, sealed": lambda sentinel: seal(saved({"weights": Malicious(sentinel)})),
    "an old torch file, sealed": lambda sentinel: seal(old_torch(sentinel)),
    "two pickles in a sealed zip": lambda sentinel: seal(inside({
        "a/data.pkl": pickle.dumps({}, 2), "b/data.pkl": pickle.dumps(Malicious(sentinel), 2),
    })),
}  # fmt: skip


def old_torch(sentinel: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": Malicious(sentinel)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("attack", ATTACKS)
def test_row_10_code_in_a_file_is_never_run(attack: str, cli: Cli, tmp_path: Path) -> None:
    path, sentinel = tmp_path / "a.pt", tmp_path / "sentinel"
    path.write_bytes(ATTACKS[attack](sentinel))
    done = cli("evaluate", str(path))
    assert (done.returncode, "refused" in done.stderr) == (4, True), done.stderr
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"_instantiator": "evil.run"},
        {"recipe": {"_target_": "evil.run"}},
        {"model": "evil.py:net"},
        {"hyper_parameters": {"_instantiator": "evil.run"}},
    ],
)
def test_row_10_a_name_in_a_file_is_never_imported(
    change: dict[str, Any], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('sentinel', 'w')\n")
    Path("a.pt").write_bytes(seal(saved(checkpoint.read(GOOD) | change)))
    done = cli("evaluate", "a.pt")
    assert (done.returncode, "refused" in done.stderr) == (4, True), done.stderr
    assert not Path("sentinel").exists()


def test_row_10_the_torch_floor_excludes_the_known_holes() -> None:
    """CVE-2025-32434 is mended in 2.6, CVE-2026-24747 in 2.10."""
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert '"torch>=2.10"' in project


def shared_tuples() -> bytes:
    """A dict key of 2^60 leaves in a pickle of 400 bytes: to hash it takes for ever."""
    deeper = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    return b"\x80\x02}(K\x01\x85q\x00" + deeper + b"K\x01u."


BOMBS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: inside({"a/data.pkl": b"\x80\x02}.", "a/data/0": bytes(2**29)}, 8),
    "overlapping entries": lambda: overlapping(),
    "bytearray": lambda: inside({"a/data.pkl": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" +
                                 (2**33).to_bytes(5, "little") + b"\x85R."}),
    "shared tuples": lambda: inside({"a/data.pkl": shared_tuples()}),
    "small storage, large tensor": lambda: saved({"weights": torch.zeros(1).expand(2**34)}),
    "empty dicts": lambda: inside({"a/data.pkl": b"\x80\x02](" + b"}" * (60 * 2**20) + b"e."}),
    "many entries": lambda: many_entries(),
}  # fmt: skip


def overlapping() -> bytes:
    """A thousand names for one entry of a megabyte."""
    data = inside({f"a/data/{i:04}": bytes(2**20) if i == 0 else b"" for i in range(1000)})
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as file:
        first = file.infolist()[0]
        for entry in file.infolist():
            entry.header_offset, entry.CRC = first.header_offset, first.CRC
            entry.file_size = entry.compress_size = first.file_size
        file._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


def many_entries() -> bytes:
    """A directory of a million entries in 60 MB."""
    end = inside({"a": b""})
    start = end.index(b"PK\x01\x02")
    entry = end[start : end.index(b"PK\x05\x06")]
    count = 60 * 2**20 // len(entry)
    size = (count * len(entry)).to_bytes(4, "little")
    return end[:start] + entry * count + b"PK\x05\x06" + bytes(8) + size + end[-6:]


@pytest.mark.parametrize("bomb", BOMBS)
def test_row_11_a_bomb_is_refused_in_bounded_memory(bomb: str, runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(seal(BOMBS[bomb]()))
    refused = runs.server.run("evaluate", path)
    assert (refused.code, "refused" in refused.err) == (4, True), refused.err
    assert refused.peak_mib < 1024


def test_row_11_an_oversized_file_is_refused_unread(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    refused = runs.server.run("evaluate", path)
    assert (refused.code, "larger than" in refused.err) == (4, True), refused.err
    assert refused.peak_mib < 1024
