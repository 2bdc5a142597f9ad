"""What looks unlike one digit is doubted; MNIST's own pictures hardly ever are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from mnistcli.data import mnist
from mnistcli.data.doubt import doubt
from mnistcli.data.ink import find_ink
from mnistcli.data.picture import Picture, centre, read_picture

COUNT = 400


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small pictures are slower with more."""
    torch.set_num_threads(1)


def drawn(*shapes: tuple[str, tuple[int, ...]], width: int = 0) -> Image.Image:
    """Return black shapes on a white page of 200×200."""
    page = Image.new("L", (200, 200), 255)
    for name, box in shapes:
        paint = {"outline": 0, "width": width} if width else {"fill": 0}
        getattr(ImageDraw.Draw(page), name)(box, **paint)
    return page


def noise() -> Image.Image:
    return Image.effect_noise((200, 200), 120)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (drawn(("rectangle", (0, 0, 199, 199)), width=9), "a frame or a dark edge"),
        (drawn(("rectangle", (20, 20, 179, 179)), width=5), "a frame or a dark edge"),
        (drawn(("rectangle", (0, 0, 12, 199))), "a frame or a dark edge"),
        (drawn(("ellipse", (40, 40, 160, 160))), "more ink than a digit has"),
        (drawn(("ellipse", (40, 40, 45, 45))), "a speck"),
        (drawn(("rectangle", (10, 98, 190, 102))), "less ink than a digit has"),
        (
            drawn(("ellipse", (10, 60, 80, 140)), ("ellipse", (110, 60, 180, 140)), width=9),
            "more than one large piece",
        ),
        (noise(), "many separate pieces"),
    ],
)
def test_what_is_unlike_a_digit_is_named(page: Image.Image, reason: str, tmp_path: Path) -> None:
    page.save(tmp_path / "page.png")
    assert reason in str(doubt(read_picture(tmp_path / "page.png"), 1.0))


@pytest.mark.slow
def test_fewer_than_one_in_a_hundred_test_pictures_is_doubted(dataset: mnist.Dataset) -> None:
    doubted = 0
    for pixels in dataset.test.images[:COUNT]:
        ink = find_ink(pixels.float()[None] / 255)
        assert ink is not None
        doubted += doubt(Picture(centre(ink.levels), ink, 28, 28), 1.0) is not None
    assert doubted < COUNT / 100


def test_an_unsure_network_is_a_reason_of_its_own(dataset: mnist.Dataset) -> None:
    ink = find_ink(dataset.test.images[0].float()[None] / 255)
    assert ink is not None
    picture = Picture(centre(ink.levels), ink, 28, 28)
    assert doubt(picture, 0.9) is None
    assert doubt(picture, 0.4) == "the network is unsure"
    assert doubt(picture, float("nan")) == "the network is unsure"


def test_a_blank_picture_has_no_ink() -> None:
    assert find_ink(torch.full((1, 50, 40), 0.5)) is None
    assert find_ink(torch.zeros(4, 1, 1)) is None
