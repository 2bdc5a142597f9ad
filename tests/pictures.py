"""Pictures of a digit as people have them: each function writes one and returns its path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageOps

Save = Callable[[Image.Image, Path], Path]


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


def cut_out(threshold: int, darkest: int) -> Save:
    """Grey ink with opaque edges on a transparent ground: a scan whose white was taken away."""

    def save(digit: Image.Image, path: Path) -> Path:
        ink = enlarged(digit)
        shade = ink.point(lambda v: 255 - v * (255 - darkest) // 255)
        Image.merge("LA", (shade, ink.point(lambda v: 255 * (v > threshold)))).save(path)
        return path

    return save


def faint_on_nothing(digit: Image.Image, path: Path) -> Path:
    """Black ink that is at most 45 % opaque."""
    ink = enlarged(digit)
    Image.merge("LA", (Image.new("L", ink.size), ink.point(lambda v: v * 45 // 100))).save(path)
    return path


def framed(width: int, inset: int, level: int) -> Save:
    """A rectangle of black around a digit of the level."""

    def save(digit: Image.Image, path: Path) -> Path:
        page = Image.new("L", (320, 320), 255)
        page.paste(level, (60, 60), enlarged(digit, 200))
        box = (inset, inset, 319 - inset, 319 - inset)
        ImageDraw.Draw(page).rectangle(box, outline=0, width=width)
        page.save(path)
        return path

    return save


def scanned_with_a_dark_edge(digit: Image.Image, path: Path) -> Path:
    """Two edges that the paper does not reach, one of them slanted, and dust."""
    page = Image.new("L", (400, 500), 245)
    page.paste(20, (120, 160), enlarged(digit, 200))
    draw = ImageDraw.Draw(page)
    draw.polygon([(0, 0), (30, 0), (8, 500), (0, 500)], fill=15)
    draw.rectangle((0, 480, 400, 500), fill=30)
    draw.ellipse((330, 70, 334, 74), fill=60)
    page.filter(ImageFilter.GaussianBlur(1.5)).save(path)
    return path


def filling_eight_by_eight(digit: Image.Image, path: Path) -> Path:
    """Cut to its ink, of 8×8 cells, enlarged: a stroke is a quarter of the picture."""
    cells = digit.crop(digit.getbbox()).resize((8, 8), Image.Resampling.BOX)
    enlarged(cells, 256).save(path)
    return path


def coloured(ink: str, paper: str) -> Save:
    def save(digit: Image.Image, path: Path) -> Path:
        ImageOps.colorize(enlarged(digit), paper, ink).save(path)
        return path

    return save


def one_bit(digit: Image.Image, path: Path) -> Path:
    ImageOps.invert(enlarged(digit)).convert("1").save(path)
    return path


def for_print(digit: Image.Image, path: Path) -> Path:
    path = path.with_suffix(".jpg")
    ImageOps.invert(enlarged(digit)).convert("RGB").convert("CMYK").save(path)
    return path


def animated(digit: Image.Image, path: Path) -> Path:
    """The digit, then white pages."""
    path, white = path.with_suffix(".gif"), Image.new("L", (300, 300), 255)
    ImageOps.invert(enlarged(digit)).save(path, save_all=True, append_images=[white] * 3)
    return path
