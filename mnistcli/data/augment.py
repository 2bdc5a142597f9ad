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


class Elastic(NamedTuple):
    """Smooth random displacements: `basis` [28, K] times `coefficients` [N, 2, K, K] in x and y.

    Both are float32; the products are in pixels.
    """

    coefficients: Tensor
    basis: Tensor

    def pixels(self) -> Tensor:
        """Return the displacement fields [N, 2, 28, 28]."""
        return self.basis @ self.coefficients @ self.basis.T


class Geometry(NamedTuple):
    """One warp a picture.

    `matrix` is float32 [N, 2, 3] and maps output to input coordinates in the units of
    `torch.nn.functional.affine_grid` (-1 to 1 over the picture).
    """

    matrix: Tensor
    elastic: Elastic | None

    def to(self, device: torch.device) -> Geometry:
        """Copy everything to a device."""
        elastic = self.elastic
        if elastic is not None:
            elastic = Elastic(*(part.to(device, non_blocking=True) for part in elastic))
        return Geometry(self.matrix.to(device, non_blocking=True), elastic)

    def rows(self, start: int, stop: int) -> Geometry:
        """Return the warps of pictures start to stop."""
        elastic = self.elastic
        if elastic is not None:
            elastic = Elastic(elastic.coefficients[start:stop], elastic.basis)
        return Geometry(self.matrix[start:stop], elastic)


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
    elastic = None
    if augment.elastic_alpha:
        shape = (count, 2, _ELASTIC_TERMS, _ELASTIC_TERMS)
        # torchvision blurs uniform noise in ±1, sd 1/√3, and moves each pixel by alpha / 2 × it.
        scale_pixels = augment.elastic_alpha / 2 / math.sqrt(3)
        coefficients = torch.randn(shape, generator=generator) * scale_pixels
        elastic = Elastic(coefficients, elastic_basis(augment.elastic_sigma_pixels))
    return Geometry(affine_matrix(angle, shift, scale, shear), elastic)


def affine_matrix(angle: Tensor, shift: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Return the output-to-input maps [N, 2, 3] of rotate ∘ shear ∘ scale, then shift.

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
    grid = F.affine_grid(geometry.matrix, list(images.shape), align_corners=False)
    if geometry.elastic is not None:
        grid = grid + geometry.elastic.pixels().permute(0, 2, 3, 1) * (2 / SIDE)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def elastic_basis(sigma_pixels: float) -> Tensor:
    """Return [28, K]: white normal coefficients times this, in x and y, are Gaussian-blurred noise.

    A Gaussian blur with mirrored borders is diagonal in the cosine basis (DCT-II), where it
    multiplies frequency k by exp(-(πkσ/n)²/2); the high ones vanish, so that a few random numbers
    a picture replace one a pixel.
    """
    position = torch.arange(SIDE) + 0.5
    frequency = torch.arange(_ELASTIC_TERMS) * (math.pi / SIDE)
    cosines = torch.cos(position[:, None] * frequency) * math.sqrt(2 / SIDE)
    cosines[:, 0] /= math.sqrt(2)
    return cosines * torch.exp(-0.5 * (frequency * sigma_pixels) ** 2)


def normalise(images: Tensor) -> Tensor:
    """Map pictures in 0…1 to mean 0 and standard deviation 1 of MNIST's training set."""
    return (images - MEAN) / STD


def to_input(images: Tensor) -> Tensor:
    """Turn uint8 [N, 28, 28] into float32 [N, 1, 28, 28] in 0…1."""
    return images.unsqueeze(1).float() / 255
