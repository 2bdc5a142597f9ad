"""A person's picture in MNIST's form: whatever its size, mode, polarity and place."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import nn

from mnistcli.data import mnist
from mnistcli.data.picture import MAX_PIXELS, read_picture
from mnistcli.engine import runtime
from mnistcli.engine.evaluate import read
from mnistcli.errors import ArtifactError
from mnistcli.trained import open_trained

Save = Callable[[Image.Image, Path], Path]
COUNT, MOST_WRONG = 8, 1


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """v3 with its reference weights: it reads each of these digits as MNIST has them."""
    chosen = runtime.decide(runtime.Request(device="cpu"))
    return open_trained("v3", None, chosen).model


def enlarged(digit: Image.Image, side: int = 300) -> Image.Image:
    return digit.resize((side, side), Image.Resampling.BICUBIC)


def plain(digit: Image.Image, path: Path) -> Path:
    """Write MNIST's own picture as it is."""
    digit.save(path)
    return path


def dark_on_light(digit: Image.Image, path: Path) -> Path:
    ImageOps.invert(enlarged(digit)).save(path)
    return path


def in_a_corner_of_a_jpeg(digit: Image.Image, path: Path) -> Path:
    """Small, off the middle, brown on cream, with JPEG's noise."""
    page = Image.new("L", (640, 480), 0)
    page.paste(enlarged(digit, 160), (420, 40))
    path = path.with_suffix(".jpg")
    ImageOps.colorize(page, black=(245, 238, 220), white=(90, 60, 40)).save(path, quality=60)
    return path


def in_uneven_light(digit: Image.Image, path: Path) -> Path:
    """Dark on paper whose light falls from 230 on the left to 110 on the right."""
    ink = ImageOps.invert(enlarged(digit))
    shade = (
        Image.linear_gradient("L").rotate(90).resize(ink.size).point(lambda v: 110 + v * 120 // 255)
    )
    Image.composite(shade, Image.new("L", ink.size, 30), ink).save(path)
    return path


def photographed(digit: Image.Image, path: Path) -> Path:
    """A pen on paper in a phone's picture: dark corners, blur, grain, JPEG."""
    page = Image.new("L", (600, 800), 0)
    page.paste(enlarged(digit, 330), (150, 260))
    corners = Image.radial_gradient("L").resize(page.size).point(lambda v: 235 - v // 2)
    photo = Image.composite(Image.new("L", page.size, 50), corners, page)
    photo = photo.filter(ImageFilter.GaussianBlur(2))
    path = path.with_suffix(".jpg")
    Image.blend(photo, Image.effect_noise(page.size, 60), 0.15).save(path, quality=70)
    return path


def turned_by_exif(digit: Image.Image, path: Path) -> Path:
    """Stored lying on its side, as a phone does; orientation 6 says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = path.with_suffix(".jpg")
    ImageOps.invert(enlarged(digit)).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


def drawn_on_nothing(level: int) -> Save:
    def save(digit: Image.Image, path: Path) -> Path:
        ink = enlarged(digit)
        Image.merge("LA", (Image.new("L", ink.size, level), ink)).save(path)
        return path

    return save


def rounded_corners(digit: Image.Image, path: Path) -> Path:
    """A solid light picture with transparent, black corners."""
    page = ImageOps.invert(enlarged(digit))
    solid = Image.new("L", page.size, 255)
    for corner in ((0, 0), (260, 0), (0, 260), (260, 260)):
        solid.paste(0, (*corner, corner[0] + 40, corner[1] + 40))
    black = Image.new("L", page.size, 0)
    Image.merge("LA", (Image.composite(page, black, solid), solid)).save(path)
    return path


def palette(digit: Image.Image, path: Path) -> Path:
    path = path.with_suffix(".gif")
    ImageOps.colorize(enlarged(digit), "navy", "yellow").quantize(16).save(path)
    return path


def sixteen_bits(digit: Image.Image, path: Path) -> Path:
    """Grey levels of 16 bits that use a part of their range."""
    wide = enlarged(digit).convert("I").point(lambda v: v * 64 + 9_000)
    wide.convert("I;16").save(path)
    return path


@pytest.mark.parametrize(
    "save",
    [
        plain, dark_on_light, in_a_corner_of_a_jpeg, in_uneven_light, photographed, turned_by_exif,
        drawn_on_nothing(0), drawn_on_nothing(255), rounded_corners, palette, sixteen_bits,
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
        (bomb(100), "can't read"),
        (bomb(int(MAX_PIXELS**0.5) + 9), "refused"),
        (bomb(60_000), "can't read"),
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
    with pytest.raises(ArtifactError, match="no such"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(ArtifactError, match="Is a directory, "):
        read_picture(tmp_path)


@pytest.mark.parametrize("save", [photographed, in_uneven_light, in_a_corner_of_a_jpeg])
def test_empty_paper_is_blank_too(save: Save, tmp_path: Path) -> None:
    path = save(Image.new("L", (28, 28), 0), tmp_path / "paper.png")
    with pytest.raises(ArtifactError, match="blank"):
        read_picture(path)
