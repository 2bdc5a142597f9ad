"""A person's own picture of a digit, brought to the form of MNIST's: the only reader of pictures.

The form is that of LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86 (1998), III A, and of yann.lecun.com/exdb/mnist: light ink on black,
fitted into 20×20 by its longer side with grey edges, then its centre of mass moved to the middle
of 28×28.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mnistcli.data.mnist import SIDE
from mnistcli.errors import ArtifactError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # no format that starts a program
MAX_PIXELS = 64_000_000
_KNOWN = f"a file in one of {', '.join(FORMATS)}"
Polarity = Literal["dark on light", "light on dark"]

_BOX = 20
_WORK_SIDE = 512  # pixels of the longer side that the ink is sought at
_GROUND_SIDE = 64  # and the ground below it
_LEAST_CONTRAST = 0.12  # of the whole range; paper's grain and JPEG's noise stay below
_DARKEST = 0.9995  # quantile that is ink: a thin 1 covers few pixels of a large picture
_NOISE = 0.15  # of the ink's depth: grain of the paper
_CENTRE = 14.0  # mean centre of mass of MNIST's pictures, in pixel indices


class Picture(NamedTuple):
    """What a network sees of a file: uint8 [28, 28], and how it was read.

    `width` and `height` are the file's, upright.
    """

    pixels: Tensor
    polarity: Polarity
    width: int
    height: int


def read_picture(path: Path) -> Picture:
    """Read a picture file of any size and bring it to MNIST's form.

    Raises:
        ArtifactError: it can't be read, is too large, or shows no ink.
    """
    grey, width, height = _read_grey(path)
    found = find_ink(grey)
    if found is None:
        raise ArtifactError("no digit found: the picture is blank", where=str(path))
    ink, polarity = found
    return Picture(centre(ink), polarity, width, height)


def find_ink(grey: Tensor) -> tuple[Tensor, Polarity] | None:
    """Return the ink [H, W] in 0…1 of a grey picture in 0…1, None where there is none.

    What is left of the ground after a white top-hat (uneven light) and below the grain is 0.
    """
    if float(grey.max() - grey.min()) < _LEAST_CONTRAST:
        return None
    dark_on_light = _is_dark_on_light(_small(grey))
    ink = _top_hat(1 - grey if dark_on_light else grey)
    darkest = ink.flatten().quantile(_DARKEST)
    depth = ink[ink >= darkest / 2].median()
    if float(depth) < _LEAST_CONTRAST:
        return None
    ink = ((ink / depth - _NOISE) / (1 - _NOISE)).clamp(0, 1)
    return ink, "dark on light" if dark_on_light else "light on dark"


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


def _read_grey(path: Path) -> tuple[Tensor, int, int]:
    """Return a file's grey levels in 0…1, at most 512 a side, and its upright width and height."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on a file's make-up
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ArtifactError(
                        f"refused: {image.width}×{image.height} pixels, at most {MAX_PIXELS:,}",
                        where=str(path),
                    )
                image.load()
                upright = ImageOps.exif_transpose(image)
        return _grey(upright), upright.width, upright.height
    except ArtifactError:
        raise
    except FileNotFoundError as error:
        raise ArtifactError("no such picture", where=str(path)) from error
    except UnidentifiedImageError as error:
        raise ArtifactError("not a picture", where=str(path), hint=_KNOWN) from error
    except Exception as error:  # whatever Pillow raises on a damaged file
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"can't read the picture: {reason}", where=str(path)) from error


def _grey(image: Image.Image) -> Tensor:
    """Return grey levels in 0…1 of a picture in any of Pillow's modes, made smaller first."""
    if image.mode[0] in "IF":  # 16 and 32 bits: their own darkest and lightest are 0 and 1
        levels = _levels(image.convert("F"))
        low, high = float(levels.min()), float(levels.max())
        if not math.isfinite(low + high):
            raise ValueError("its levels are not finite")
        return (levels - low) / max(high - low, 1e-9)
    if not image.has_transparency_data:
        return _levels(image.convert("L")) / 255
    bands = image.convert("RGBA")
    shade, solid = bands.convert("RGB").convert("L"), bands.getchannel("A")
    ground = Image.new("L", image.size, _ground(_levels(shade), _levels(solid)))
    return _levels(Image.composite(shade, ground, solid)) / 255


def _ground(shade: Tensor, solid: Tensor) -> int:
    """Return the grey byte to put behind a transparent picture.

    A mostly solid one has its paper's level there too; a drawing on nothing has the contrary.
    """
    covered = shade[solid > 127]
    if not len(covered):
        return 0
    level = int(covered.median())
    if len(covered) > solid.numel() / 2:
        return level
    return 255 if level < 128 else 0


def _levels(image: Image.Image) -> Tensor:
    """Return a picture of mode L or F, made at most 512 a side, as float32 [H, W]."""
    small = image.copy()
    small.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    data = torch.frombuffer(bytearray(small.convert("F").tobytes()), dtype=torch.float32)
    return data.reshape(small.height, small.width)


def _small(grey: Tensor) -> Tensor:
    """Return a picture [1, 1, h, w] of at most 64 a side, enough for what is smooth."""
    size = [min(side, _GROUND_SIDE) for side in grey.shape]
    return F.interpolate(grey[None, None], size, mode="area")


def _is_dark_on_light(small: Tensor) -> bool:
    """Return whether what stands out most from the border's level is darker than it.

    Levels are taken against their surroundings of half a side, so that a shadow is no ink.
    """
    kernel = [side // 4 * 2 + 1 for side in small.shape[2:]]
    padding = [side // 2 for side in kernel]
    mean = F.avg_pool2d(small, kernel, 1, padding, count_include_pad=False)
    levels = (small - mean)[0, 0]
    border = torch.cat([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    ground = border.median()
    return bool(ground - levels.min() > levels.max() - ground)


def _top_hat(light: Tensor) -> Tensor:
    """Return what stands out of its surroundings: the picture less its opening by a third.

    The window is wider than a stroke of the thickest pen that MNIST has.
    """
    small = _small(light)
    kernel = [side // 6 * 2 + 1 for side in small.shape[2:]]
    padding = [side // 2 for side in kernel]
    eroded = -F.max_pool2d(-small, kernel, 1, padding)
    opened = F.max_pool2d(eroded, kernel, 1, padding)
    ground = F.interpolate(opened, light.shape, mode="bilinear")[0, 0]
    return (light - ground).clamp(min=0)
