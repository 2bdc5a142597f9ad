"""A person's picture in MNIST's form: whatever its size, mode, polarity and place."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
import torch
from pictures import (
    Save,
    animated,
    coloured,
    cut_out,
    dark_on_light,
    drawn_on_nothing,
    faint_on_nothing,
    filling_eight_by_eight,
    for_print,
    framed,
    in_a_corner_of_a_jpeg,
    in_uneven_light,
    one_bit,
    palette,
    photographed,
    plain,
    rounded_corners,
    scanned_with_a_dark_edge,
    sixteen_bits,
    turned_by_exif,
)
from PIL import Image
from torch import nn

from mnistcli.data import mnist
from mnistcli.data.picture import MAX_PIXELS, read_picture
from mnistcli.engine import runtime
from mnistcli.engine.evaluate import read
from mnistcli.errors import ArtifactError
from mnistcli.runs.trained import open_trained

COUNT, MOST_WRONG = 8, 1


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """v3 with its reference weights: it reads each of these digits as MNIST has them."""
    chosen = runtime.decide(runtime.Request(device="cpu"))
    return open_trained("v3", None, chosen).model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small pictures are slower with more."""
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "save",
    [
        plain, dark_on_light, in_a_corner_of_a_jpeg, in_uneven_light, photographed, turned_by_exif,
        drawn_on_nothing(0), drawn_on_nothing(255), cut_out(0, 0), cut_out(25, 100),
        faint_on_nothing, rounded_corners, palette, sixteen_bits, one_bit, for_print, animated,
        framed(2, 0, 0), framed(30, 0, 0), framed(3, 12, 0), framed(12, 0, 170),
        scanned_with_a_dark_edge, filling_eight_by_eight,
        coloured("#ff0000", "#008200"), coloured("#fff03c", "#ffffff"),
    ],
)  # fmt: skip
def test_real_digits_are_read_right_whatever_was_done_to_them(
    save: Save, network: nn.Module, dataset: mnist.Dataset, tmp_path: Path
) -> None:
    seen = []
    for number, pixels in enumerate(dataset.test.images[:COUNT]):
        digit = Image.frombytes("L", (28, 28), pixels.numpy().tobytes())
        seen.append(read_picture(save(digit, tmp_path / f"{number}.png")).pixels)
    right = read(network, torch.stack(seen)).argmax(dim=1) == dataset.test.labels[:COUNT]
    assert int(right.sum()) >= COUNT - MOST_WRONG


def test_mnists_own_picture_stays_as_it_is(dataset: mnist.Dataset, tmp_path: Path) -> None:
    for pixels in dataset.test.images[:COUNT]:
        digit = Image.frombytes("L", (28, 28), pixels.numpy().tobytes())
        found = read_picture(plain(digit, tmp_path / "digit.png"))
        assert found.polarity == "light on dark"
        assert float((found.pixels.float() - pixels.float()).abs().mean()) < 12


def test_polarity_and_size_are_told(dataset: mnist.Dataset, tmp_path: Path) -> None:
    digit = Image.frombytes("L", (28, 28), dataset.test.images[0].numpy().tobytes())
    found = read_picture(in_a_corner_of_a_jpeg(digit, tmp_path / "a.png"))
    assert (found.polarity, found.width, found.height) == ("dark on light", 640, 480)
    assert found.pixels.shape == (28, 28)
    assert int(found.pixels.max()) == 255


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(side: int) -> bytes:
    """Return a PNG that declares side × side pixels and holds none."""
    header = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a picture"),
        (b"GIF89a", "not a picture"),
        (b"words", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (bomb(100), "damaged"),
        (bomb(int(MAX_PIXELS**0.5) + 9), "refused"),
        (bomb(60_000), "refused"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=reason) as caught:
        read_picture(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_named(level: int, tmp_path: Path) -> None:
    path = tmp_path / "blank.jpg"
    Image.new("RGB", (200, 100), (level, level, level)).save(path)
    with pytest.raises(ArtifactError, match="blank"):
        read_picture(path)
    Image.new("LA", (9, 9), (level, 0)).save(path.with_suffix(".png"))
    with pytest.raises(ArtifactError, match="blank"):
        read_picture(path.with_suffix(".png"))


@pytest.mark.parametrize("save", [photographed, in_uneven_light, in_a_corner_of_a_jpeg])
def test_empty_paper_is_blank_too(save: Save, tmp_path: Path) -> None:
    path = save(Image.new("L", (28, 28), 0), tmp_path / "paper.png")
    with pytest.raises(ArtifactError, match="blank"):
        read_picture(path)


def test_a_pipe_and_a_device_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ArtifactError, match="a pipe or a device"):
            read_picture(path)
    with pytest.raises(ArtifactError, match="a folder"):
        read_picture(tmp_path)
    with pytest.raises(ArtifactError, match="no such"):
        read_picture(tmp_path / "absent.png")


def test_a_picture_of_another_user_cant_be_read(tmp_path: Path) -> None:
    path = dark_on_light(Image.new("L", (28, 28), 0), tmp_path / "private.png")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(ArtifactError, match="can't be read: Permission denied"):
            read_picture(path)
    finally:
        os.seteuid(user)
