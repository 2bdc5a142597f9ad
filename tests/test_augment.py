"""Our geometry against torchvision's, and the properties that training relies on."""

from __future__ import annotations

import math

import pytest
import torch

from mnistcli.data import augment, mnist
from mnistcli.data.batches import training_batches
from mnistcli.data.order import generator
from mnistcli.recipe import Augment, load

NEUTRAL = Augment(
    rotation_degrees=0, shift_fraction=0, scale_fraction=0, scale_axes="joint", shear_degrees=0,
    elastic_alpha=0, elastic_sigma_pixels=4,
)  # fmt: skip


def images(dataset: mnist.Dataset, count: int) -> torch.Tensor:
    return augment.to_input(dataset.test.images[:count])


@pytest.mark.parametrize(
    ("angle", "shift", "scale", "shear"),
    [
        (7, (0, 0), 1, 0),
        (0, (3, -2), 1, 0),
        (0, (0, 0), 0.9, 0),
        (0, (0, 0), 1, 12),
        (-9, (2, 1), 1.1, 5),
    ],
)
def test_affine_is_torchvisions(
    angle: float, shift: tuple[int, int], scale: float, shear: float, dataset: mnist.Dataset
) -> None:
    pictures = images(dataset, 16)
    from torchvision.transforms import InterpolationMode  # 2 s, which no other test needs
    from torchvision.transforms.functional import affine

    expected = affine(
        pictures, angle, list(shift), scale, [shear, 0.0], interpolation=InterpolationMode.BILINEAR
    )
    matrix = augment.affine_matrix(
        torch.tensor([math.radians(angle)]),
        torch.tensor([shift]) / 28,
        torch.tensor([[scale, scale]]),
        torch.tensor([math.radians(shear)]),
    )
    warps = augment.compose(matrix.expand(16, 2, 3))
    assert torch.allclose(augment.apply(pictures, warps), expected, atol=2e-4)


@pytest.mark.slow
def test_elastic_moves_pixels_as_far_as_torchvisions() -> None:
    """Root mean square and correlation of the displacement, away from the border."""
    torch.manual_seed(0)
    from torchvision.transforms import ElasticTransform

    transform = ElasticTransform(alpha=10.0, sigma=4.0)
    theirs = torch.cat([
        ElasticTransform.get_params(transform.alpha, transform.sigma, [28, 28]) for _ in range(400)
    ]) * 14  # fmt: skip
    drawn = augment.draw(
        NEUTRAL.model_copy(update={"elastic_alpha": 10.0}), 400, generator(0, "t", 0)
    )
    assert drawn is not None
    still = augment.compose(torch.eye(2, 3)[None])
    ours = (drawn.fields() - still.fields()).permute(0, 2, 3, 1) * 14
    inner = slice(10, 18)
    for field in (theirs, ours):
        assert field[:, inner, inner].pow(2).mean().sqrt().item() == pytest.approx(0.203, rel=0.06)
    lag = 4  # of a Gaussian blur's autocorrelation, exp(-lag² / 4σ²)
    for field in (theirs, ours):
        a, b = field[:, 10:14, inner].flatten(), field[:, 10 + lag : 14 + lag, inner].flatten()
        correlation = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
        assert correlation == pytest.approx(math.exp(-(lag**2) / (4 * 4**2)), abs=0.06)


def test_neutral_augmentation_is_the_identity(dataset: mnist.Dataset) -> None:
    assert augment.draw(NEUTRAL, 8, generator(0, "t", 0)) is None
    still = augment.affine_matrix(
        torch.zeros(8), torch.zeros(8, 2), torch.ones(8, 2), torch.zeros(8)
    )
    pictures = images(dataset, 8)
    warped = augment.apply(pictures, augment.compose(still, torch.zeros(8, 2, 8, 8), 4.0))
    assert torch.allclose(warped, pictures, atol=1e-5)


def test_warps_are_affine_grids_without_elastic() -> None:
    matrix = torch.tensor([[[0.9, -0.2, 0.1], [0.3, 1.1, -0.4]]])
    grid = torch.nn.functional.affine_grid(matrix, [1, 1, 28, 28], align_corners=False)
    assert torch.allclose(augment.compose(matrix).fields().permute(0, 2, 3, 1), grid, atol=1e-6)


def test_draws_stay_inside_their_ranges_and_differ() -> None:
    ranges = NEUTRAL.model_copy(update={"shift_fraction": 0.1})
    drawn = augment.draw(ranges, 500, generator(0, "t", 0))
    assert drawn is not None
    still = augment.compose(torch.eye(2, 3)[None])
    shift = (drawn.fields() - still.fields())[:, :, 13, 13]
    assert 0.19 < shift.abs().max().item() <= 0.2 + 1e-6
    assert len(shift[:, 0].unique()) > 490


def test_augmentation_fades_over_the_last_epochs() -> None:
    ranges = NEUTRAL.model_copy(update={"rotation_degrees": 8.0, "fade_epochs": 3})
    angles = [ranges.faded(left).rotation_degrees for left in (15, 4, 3, 2, 1)]
    assert angles == [8.0, 8.0, 6.0, 4.0, 2.0]


def test_batches_are_the_same_for_the_same_epoch_and_fresh_for_the_next(
    dataset: mnist.Dataset,
) -> None:
    recipe = load("v3", settings=["batch_size=96"])
    part = mnist.Labelled(dataset.train.images[:200], dataset.train.labels[:200])
    once, again = (list(training_batches(part, recipe, 1)) for _ in range(2))
    later = list(training_batches(part, recipe, 2))
    assert [tuple(x.shape) for x, _ in once] == [(96, 1, 28, 28)] * 3
    assert all(torch.equal(a[0], b[0]) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0][0], later[0][0])
    assert once[0][0].mean().item() == pytest.approx(0.0, abs=0.1)
