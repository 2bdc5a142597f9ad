"""Rows 14, 16 and 18 of the fault matrix: bad data, bad recipes, a machine that lacks something."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Cli, document
from interrupted import Runs

from mnistcli.data import mnist
from mnistcli.recipe import load

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def swap(folder: Path) -> None:
    labels = (folder / LABELS).read_bytes()
    (folder / LABELS).write_bytes((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(labels)


def pack(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = folder / IMAGES
    (folder / f"{IMAGES}.gz").write_bytes(change(gzip.compress(path.read_bytes())))
    path.unlink()


def edit(folder: Path, name: str, offset: int, new: bytes) -> None:
    data = bytearray((folder / name).read_bytes())
    data[offset : offset + len(new)] = new
    (folder / name).write_bytes(data)


# What is done to the files, and what the message says was expected.
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: (f / IMAGES).unlink(), "not found"),
    "empty": (lambda f: (f / IMAGES).write_bytes(b""), "should be 2051"),
    "truncated": (lambda f: (f / IMAGES).write_bytes((f / IMAGES).read_bytes()[:-1]), "expected"),
    "a byte too many": (lambda f: (f / LABELS).write_bytes((f / LABELS).read_bytes() + b"1"),
                        "expected"),
    "truncated gz": (lambda f: pack(f, lambda data: data[: len(data) // 2]), "damaged"),
    "flipped gz": (lambda f: pack(f, lambda d: d[:999] + bytes([d[999] ^ 9]) + d[1000:]),
                   "damaged"),
    "wrong magic": (lambda f: edit(f, IMAGES, 3, b"\x01"), "should be 2051"),
    "wrong count": (lambda f: edit(f, IMAGES, 4, struct.pack(">I", 97)), "expected"),
    "no pictures": (lambda f: edit(f, IMAGES, 4, bytes(4)), "expected 1 to"),
    "other size": (lambda f: edit(f, IMAGES, 11, b"\x20"), "expected 28×28"),
    "label 11": (lambda f: edit(f, LABELS, 20, b"\x0b"), "expected 0 to 9"),
    "images and labels swapped": (swap, "should be 2051"),
    "fewer labels": (lambda f: (f / LABELS).write_bytes(struct.pack(">2I", 2049, 1) + b"\x01"),
                     "1 labels"),
    "html": (lambda f: (f / IMAGES).write_text("<html>404</html>"), "should be 2051"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_row_14_damaged_data_is_named_and_never_trained_on(
    damage: str, cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in tiny_data.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    do, expected = DAMAGES[damage]
    do(data)
    out = tmp_path / "run"
    done = cli("train", "--model", "v3", "--data-dir", str(data), "--out", str(out), "--json")
    error = document(done.stdout)["error"]
    assert (done.returncode, expected in done.stderr) == (4, True), done.stderr
    assert str(data) in error["where"]
    assert not out.exists()


def test_row_14_one_changed_pixel_in_the_packaged_data_is_found(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pixel changes inside a sound gzip file: only the hash can tell."""
    packaged = Path(mnist.__file__).parent / "idx"
    (tmp_path / "idx").mkdir()
    for path in packaged.glob("*.gz"):
        data = path.read_bytes()
        if path.name.startswith("t10k-images"):
            pixels = bytearray(gzip.decompress(data))
            pixels[5000] ^= 1
            data = gzip.compress(pixels, 1)
        (tmp_path / "idx" / path.name).write_bytes(data)
    monkeypatch.setattr(mnist, "__file__", str(tmp_path / "mnist.py"))
    done = cli("evaluate", "v3")
    assert (done.returncode, "t10k-images-idx3-ubyte.gz" in done.stderr) == (4, True)
    assert "SHA-256" in done.stderr


def test_row_14_a_gzip_bomb_is_refused_in_bounded_memory(
    runs: Runs, tiny_data: Path, tmp_path: Path
) -> None:
    """A gigabyte of black pictures behind a header that declares 96."""
    for path in tiny_data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    head = (tmp_path / IMAGES).read_bytes()
    (tmp_path / IMAGES).unlink()
    with gzip.open(tmp_path / f"{IMAGES}.gz", "wb", 1) as file:
        file.write(head)
        for _ in range(64):
            file.write(bytes(2**24))
    refused = runs.run(tmp_path / "run", "--data-dir", str(tmp_path))
    assert (refused.code, "expected" in refused.err) == (4, True), refused.err
    assert refused.peak_mib < 1024


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
# Lines put below v3's own recipe, or a whole recipe; and words of the message.
RECIPES = {
    "epochz: 3\nbatch_sise: 0\n": ("did you mean 'epochs'", "did you mean 'batch_size'"),
    "epochs: 3\n": ("duplicate key 'epochs'",),
    "label_smoothing: .nan\n": ("duplicate key",),
    BOMB: ("aliases are not allowed",),
    "!!python/object/apply:os.mkdir [sentinel]\n": ("recipe is not YAML",),
    "!!bool 3\n": ("recipe is not YAML",),
    "!!timestamp x\n": ("recipe is not YAML",),
    "[" * 60_000: ("recipe is not YAML",),
    "\x00": ("recipe is not YAML",),
    "- 3\n": ("recipe is not a mapping",),
    "": ("recipe is not a mapping",),
}


@pytest.mark.parametrize("text", RECIPES)
def test_row_16_an_odd_recipe_is_refused_with_all_its_problems(
    text: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = not text.endswith("\n") or text.startswith(("!", "-", "a: &a"))
    Path("r.yaml").write_text(text if whole else load("v3").to_yaml() + text)
    done = cli("train", "--recipe", "r.yaml", "--out", "run")
    assert done.returncode == 2
    assert all(words in done.stderr for words in (*RECIPES[text], "r.yaml")), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_row_16_every_problem_comes_at_once(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {
        "epochs": "true", "batch_size": "-1", "optim.lr": ".nan", "optim.momentun": "0.9",
        "ema_decay": "fast", "augment.shear_degrees": "-.inf", "schedule.name": "stair",
    }  # fmt: skip
    settings = [word for key, value in wrong.items() for word in ("--set", f"{key}={value}")]
    done = cli("train", "--model", "v3", *settings)
    assert done.returncode == 2
    # The name of a schedule decides which keys it may have: its path ends at the section.
    assert all(key.removesuffix(".name") in done.stderr for key in wrong), done.stderr
    assert "did you mean 'momentum'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is present")
def test_row_18_an_absent_device_is_found_before_data_and_folder(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--model", "v3", "--device", "cuda", "--data-dir", "nowhere", "--out", str(out)]
    done = cli("train", *words)
    assert (done.returncode, "cuda" in done.stderr) == (5, True)
    assert not out.exists()


HUNGRY = """
import torch

class Hungry(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)

    def forward(self, x):
        if self.training:
            torch.empty(2**48)
        return self.layer(x.flatten(1))
"""


def test_row_18_running_out_of_memory_is_said_and_changes_no_batch_size(
    cli: Cli, small_data: Path, tmp_path: Path
) -> None:
    """A petabyte that no machine has: the allocator's own error."""
    (tmp_path / "net.py").write_text(HUNGRY)
    words = ["--model", f"{tmp_path / 'net.py'}:Hungry", "--data-dir", str(small_data)]
    done = cli("train", *words, "--out", str(tmp_path / "run"), "--json")
    assert done.returncode == 5
    error = document(done.stdout)["error"]
    assert "out of memory" in error["what"]
    assert error["hint"] == "lower --batch-size"
    assert not (tmp_path / "run").exists()
