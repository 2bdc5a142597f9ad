"""Random geometry as batched tensor operations: parameters drawn on the CPU, pixels on the device.

Rotation, shift, scale, shear and elastic distortion share one bilinear resampling.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.data.mnist import SIDE
from mnistcli.recipe import Augment

MEAN, STD = 0.1307, 0.3081  # of MNIST's 60,000 training pictures scaled to 0…1

# Cosines kept for the elastic field. With sigma 4 the ninth has 0.2 % of the first's amplitude.
_ELASTIC_TERMS = 8


class Geometry(NamedTuple):
    """One warp per picture, in separable form: field = basis · coefficients · basisᵀ.

    `coefficients` is float32 [N, 2, K, K] (x and y; rows of the picture first), `basis` [28, K]: a
    ramp from -1 to 1, then cosines. The fields are the input coordinates of each output pixel in
    the units of `torch.nn.functional.grid_sample`.
    """

    coefficients: Tensor
    basis: Tensor

    def to(self, device: torch.device) -> Geometry:
        """Copy both to a device."""
        return Geometry(*(part.to(device, non_blocking=True) for part in self))

    def rows(self, start: int, stop: int) -> Geometry:
        """Return the warps of pictures start to stop."""
        return Geometry(self.coefficients[start:stop], self.basis)

    def fields(self) -> Tensor:
        """Return the input coordinates [N, 2, 28, 28]."""
        return self.basis @ self.coefficients @ self.basis.T


def draw(augment: Augment, count: int, generator: torch.Generator) -> Geometry | None:
    """Draw `count` warps from a CPU generator, or return None where every range is 0."""
    ranges = (
        augment.rotation_degrees,
        augment.shift_fraction,
        augment.scale_fraction,
        augment.shear_degrees,
    )
    if not any(ranges) and not augment.elastic_alpha:
        return None
    uniform = torch.rand(count, 6, generator=generator) * 2 - 1
    angle = uniform[:, 0] * math.radians(augment.rotation_degrees)
    shift = uniform[:, 1:3] * augment.shift_fraction
    scale = 1 + uniform[:, 3:5] * augment.scale_fraction
    if augment.scale_axes == "joint":
        scale = scale[:, :1].expand(-1, 2)
    shear = uniform[:, 5] * math.radians(augment.shear_degrees)
    matrix = affine_matrix(angle, shift, scale, shear)
    if not augment.elastic_alpha:
        return compose(matrix)
    shape = (count, 2, _ELASTIC_TERMS, _ELASTIC_TERMS)
    # torchvision blurs uniform noise in ±1, sd 1/√3, and moves each pixel by alpha / 2 × it.
    pixels = augment.elastic_alpha / 2 / math.sqrt(3)
    noise = torch.randn(shape, generator=generator).mul_(pixels * 2 / SIDE)
    return compose(matrix, noise, augment.elastic_sigma_pixels)


def compose(matrix: Tensor, noise: Tensor | None = None, sigma_pixels: float = 0.0) -> Geometry:
    """Join affine maps [N, 2, 3] and white coefficients [N, 2, k, k] to one warp each.

    An affine map is two ramps and a constant, the first cosine: it costs the field nothing.
    """
    ramp = (torch.arange(SIDE) + 0.5) * (2 / SIDE) - 1
    cosines = blurred_cosines(sigma_pixels, 1 if noise is None else noise.shape[-1])
    constant = cosines[0, 0]
    terms = cosines.shape[1] + 1
    coefficients = torch.zeros(len(matrix), 2, terms, terms)
    if noise is not None:
        coefficients[:, :, 1:, 1:] = noise
    coefficients[:, :, 1, 0] = matrix[:, :, 0] / constant  # x runs along a row
    coefficients[:, :, 0, 1] = matrix[:, :, 1] / constant
    coefficients[:, :, 1, 1] += matrix[:, :, 2] / constant**2
    return Geometry(coefficients, torch.cat([ramp[:, None], cosines], dim=1))


def affine_matrix(angle: Tensor, shift: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Return the output-to-input maps [N, 2, 3] of rotate ∘ shear ∘ scale, then shift.

    Coordinates run from -1 to 1 over the picture, as `torch.nn.functional.affine_grid` has them;
    `angle` and `shear` [N] are in radians, counted as torchvision's `affine` counts degrees;
    `shift` [N, 2] is the share of the picture's side moved in x and y; `scale` is [N, 2].
    """
    cos, sin, tan = angle.cos(), angle.sin(), shear.tan()
    # inverse of R(angle) · [[1, -tan], [0, 1]] · diag(scale)
    top = torch.stack([cos - tan * sin, sin + tan * cos], dim=1) / scale[:, :1]
    bottom = torch.stack([-sin, cos], dim=1) / scale[:, 1:]
    linear = torch.stack([top, bottom], dim=1)
    offset = -(linear @ (2 * shift).unsqueeze(2))
    return torch.cat([linear, offset], dim=2)


def apply(images: Tensor, geometry: Geometry | None) -> Tensor:
    """Warp float pictures [N, 1, 28, 28] bilinearly, zeros outside; pure, on their device."""
    if geometry is None:
        return images
    grid = geometry.fields().permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def blurred_cosines(sigma_pixels: float, terms: int) -> Tensor:
    """Return [28, K]: white normal coefficients times this, in x and y, are Gaussian-blurred noise.

    A Gaussian blur with mirrored borders is diagonal in the cosine basis (DCT-II), where it
    multiplies frequency k by exp(-(πkσ/n)²/2); the high ones vanish, so that a few random numbers
    a picture replace one per pixel.
    """
    position = torch.arange(SIDE) + 0.5
    frequency = torch.arange(terms) * (math.pi / SIDE)
    cosines = torch.cos(position[:, None] * frequency) * math.sqrt(2 / SIDE)
    cosines[:, 0] /= math.sqrt(2)
    return cosines * torch.exp(-0.5 * (frequency * sigma_pixels) ** 2)


def normalise(images: Tensor) -> Tensor:
    """Map pictures in 0…1 to mean 0 and standard deviation 1 of MNIST's training set."""
    return (images - MEAN) / STD


def to_input(images: Tensor) -> Tensor:
    """Turn uint8 [N, 28, 28] into float32 [N, 1, 28, 28] in 0…1."""
    return images.unsqueeze(1).float() / 255
