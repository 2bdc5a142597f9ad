"""A person's own picture of a digit, brought to the form of MNIST's: the only reader of pictures.

The form is that of LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86 (1998), III A, and of yann.lecun.com/exdb/mnist: light ink on black,
fitted into 20×20 by its longer side with grey edges, then its centre of mass moved to the middle
of 28×28.
"""

from __future__ import annotations

import math
import stat
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mnistcli.data.ink import Ink, Polarity, find_ink
from mnistcli.data.mnist import SIDE
from mnistcli.errors import ArtifactError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # no format that starts a program
MAX_PIXELS = 64_000_000

_BOX = 20
_WORK_SIDE = 512  # pixels of the longer side that the ink is sought at
_SHADED = 6  # grey bytes between a drawing's edges and all of it: it is in no single level
_LIGHT = 176  # a drawing in one level from here on is for a dark ground
_CENTRE = 14.0  # mean centre of mass of MNIST's pictures, in pixel indices


class Picture(NamedTuple):
    """What a network sees of a file: uint8 [28, 28], and how it was read.

    `width` and `height` are the file's, upright.
    """

    pixels: Tensor
    ink: Ink
    width: int
    height: int

    @property
    def polarity(self) -> Polarity:
        return self.ink.polarity


def read_picture(path: Path) -> Picture:
    """Read a picture file of any size and bring it to MNIST's form.

    Raises:
        ArtifactError: it can't be read, is too large, or shows no ink.
    """
    channels, width, height = _read(path)
    ink = find_ink(channels)
    if ink is None:
        raise ArtifactError("no digit found: the picture is blank", where=str(path))
    return Picture(centre(ink.levels), ink, width, height)


def centre(ink: Tensor) -> Tensor:
    """Fit ink [H, W] in 0…1 into 20×20 and put its centre of mass in the middle of [28, 28]."""
    cut = _cut(ink)
    scale = _BOX / max(cut.shape)
    size = [max(1, round(side * scale)) for side in cut.shape]
    fitted = F.interpolate(cut[None, None], size, mode="bilinear", antialias=True)[0, 0]
    fitted = (fitted / fitted.max()).clamp(0, 1)
    place = [_offset(fitted.sum(dim=1 - d)) for d in (0, 1)]
    picture = torch.zeros(SIDE, SIDE)
    picture[place[0] : place[0] + size[0], place[1] : place[1] + size[1]] = fitted
    return (picture * 255).round().to(torch.uint8)


def _cut(ink: Tensor) -> Tensor:
    """Return the part with the solid ink and the grey edge that touches it.

    The edge is at most a twentieth of the digit, as MNIST's pixel is: grain and shadows go on.
    """
    profiles = [ink.amax(dim=1).tolist(), ink.amax(dim=0).tolist()]
    solid = [[at for at, value in enumerate(profile) if value > 0.5] for profile in profiles]
    edge = math.ceil(max(span[-1] + 1 - span[0] for span in solid) / _BOX)
    bounds = []
    for profile, span in zip(profiles, solid, strict=True):
        start, stop = span[0], span[-1] + 1
        while start > max(0, span[0] - edge) and profile[start - 1] > 0:
            start -= 1
        while stop < min(len(profile), span[-1] + 1 + edge) and profile[stop] > 0:
            stop += 1
        bounds.append(slice(start, stop))
    return ink[bounds[0], bounds[1]]


def _offset(mass: Tensor) -> int:
    """Return where a profile starts so that its centre is in the middle, inside the picture."""
    middle = float((mass * torch.arange(len(mass))).sum() / mass.sum())
    return min(max(0, math.floor(_CENTRE - middle + 0.5)), SIDE - len(mass))


def _read(path: Path) -> tuple[Tensor, int, int]:
    """Return the channels of a file's first picture, upright, and its full width and height.

    What is no file of a known size is not opened: a pipe would wait, a device might never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise ArtifactError(f"{what}, not a picture's file", where=str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on a file's make-up
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width}×{image.height} pixels")
                image.load()
                upright = ImageOps.exif_transpose(image)
                width, height = upright.size
                return _channels(_shrink(upright)), width, height
    except ArtifactError:
        raise
    except Exception as error:  # whatever Pillow raises on a damaged file
        what, hint = _fault(error)
        raise ArtifactError(what, where=str(path), hint=hint) from error


def _fault(error: Exception) -> tuple[str, str]:
    """Return what is wrong with a picture's file, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "no such picture", ""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture", f"a file in one of {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"refused: more than {MAX_PIXELS:,} pixels", "make the picture smaller"
    if isinstance(error, OSError) and error.strerror:
        return f"can't be read: {error.strerror}", ""
    return f"damaged: {error}", ""


def _shrink(image: Image.Image) -> Image.Image:
    """Bring a picture to mode F, L, RGB or RGBA and to at most 512 a side; it may be changed."""
    if image.mode[0] in "IF":
        mode = "F"
    elif image.has_transparency_data:
        mode = "RGBA"
    else:
        mode = "L" if image.mode in ("1", "L") else "RGB"
    small = image if image.mode == mode else image.convert(mode)
    small.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    return small


def _channels(image: Image.Image) -> Tensor:
    """Return a small picture's grey, and the colours that it has, float32 [C, H, W] in 0…1."""
    if image.mode == "F":  # 16 and 32 bits: their own darkest and lightest are 0 and 1
        levels = _levels(image).double()
        low, high = float(levels.min()), float(levels.max())
        if not math.isfinite(low + high):
            raise ValueError("its levels are not finite")
        return ((levels - low) / max(high - low, 1e-9)).float()[None]
    if image.mode == "RGBA":
        solid = image.getchannel("A")
        ground = _ground(_levels(image.convert("RGB").convert("L")), _levels(solid))
        image = Image.composite(
            image.convert("RGB"), Image.new("RGB", image.size, (ground,) * 3), solid
        )
    colours = image.split() if image.mode == "RGB" else ()
    return torch.stack([_levels(band) for band in (image.convert("L"), *colours)]) / 255


def _ground(shade: Tensor, solid: Tensor) -> int:
    """Return the grey byte to put behind a transparent picture.

    A mostly solid one has its paper's level there too. A drawing on nothing was made on white
    where its edges are lighter than its inside, on black where they are darker; where it has one
    level, what contrasts with that level is behind it.
    """
    drawn = solid > solid.max() / 2
    covered = shade[drawn]
    if not len(covered):
        return 0
    if len(covered) > drawn.numel() / 2:
        return int(covered.median())
    edge = drawn & (F.max_pool2d((~drawn).float()[None], 3, 1, 1)[0] > 0)
    lighter = float(shade[edge].mean() - covered.mean())
    if abs(lighter) > _SHADED:
        return 255 if lighter > 0 else 0
    return 255 if covered.median() < _LIGHT else 0


def _levels(band: Image.Image) -> Tensor:
    """Return one band as float32 [H, W]."""
    data = torch.frombuffer(bytearray(band.convert("F").tobytes()), dtype=torch.float32)
    return data.reshape(band.height, band.width)
