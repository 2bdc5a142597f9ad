"""Our CPU kernels give torch's numbers: pooling bit for bit, batch normalisation to rounding."""

from __future__ import annotations

import copy
import ctypes

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.engine import fused

pytestmark = pytest.mark.skipif(
    not isinstance(fused.compile_kernels(), ctypes.CDLL), reason="no C++ compiler works here"
)
ACTIVATIONS = [nn.ReLU(), nn.Hardswish()]
SHAPES = [(8, 10, 28, 28), (3, 16, 14, 14), (4, 31, 6, 2), (2, 5, 7, 7), (1, 1, 2, 2)]


def normalised(shape: tuple[int, ...]) -> tuple[nn.BatchNorm2d, Tensor, Tensor]:
    """Return a layer with weights of its own, features far from zero, and a gradient."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(shape[1])
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, torch.randn(shape) * 3 + 5, torch.randn(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[2] % 2 == 0])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_pooling_and_its_gradient_are_torchs_bit_for_bit(
    dtype: torch.dtype, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    features = (torch.randn(shape) * 3).round().to(dtype)  # rounded: most windows have ties
    features = features.to(memory_format=layout).requires_grad_()
    ours, theirs = fused.max_pool_2x2(features), F.max_pool2d(features, 2)
    gradient = torch.randn_like(theirs)
    assert torch.equal(ours, theirs)
    pair = [torch.autograd.grad(pooled, features, gradient)[0] for pooled in (ours, theirs)]
    assert torch.equal(*pair)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_normalisation_with_an_activation_is_as_near_to_fp64_as_torch_is(
    shape: tuple[int, ...], activation: nn.Module
) -> None:
    norm, features, gradient = normalised(shape)
    exact = nn.BatchNorm2d(shape[1]).double()
    exact.load_state_dict(norm.state_dict())
    inputs, wide = features.requires_grad_(), features.detach().double().requires_grad_()
    ours, theirs = fused.batch_norm_act(inputs, norm, activation), activation(exact(wide))
    ours.backward(gradient)
    theirs.backward(gradient.double())
    for a, b in (
        (ours, theirs), (inputs.grad, wide.grad), (norm.weight.grad, exact.weight.grad),
        (norm.bias.grad, exact.bias.grad), (norm.running_mean, exact.running_mean),
        (norm.running_var, exact.running_var),
    ):  # fmt: skip
        torch.testing.assert_close(a.double(), b.double(), rtol=2e-5, atol=2e-5)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bf16_is_fp32_rounded_once(activation: nn.Module) -> None:
    norm, features, gradient = normalised((16, 10, 14, 14))
    low = features.bfloat16().requires_grad_()
    high = low.detach().float().requires_grad_()
    results = []
    for x in (low, high):
        y = fused.batch_norm_act(x, norm, activation)
        results.append((y, torch.autograd.grad(y, x, gradient.bfloat16().to(x.dtype))[0]))
        norm.reset_running_stats()
    for a, b in zip(*results, strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.equal(a, b.bfloat16())


def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    outputs = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        norm, features, _ = normalised((64, 12, 14, 14))
        outputs.append((fused.batch_norm_act(features, norm, nn.ReLU()), norm.running_var))
    for output, running_var in outputs[1:]:
        assert torch.equal(output, outputs[0][0])
        assert torch.equal(running_var, outputs[0][1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_finite_stays_so(activation: nn.Module) -> None:
    norm, features, _ = normalised((2, 4, 2, 2))
    features[1, 2, 1, 0] = float("nan")
    output = fused.batch_norm_act(features.requires_grad_(), norm, activation)
    (gradient,) = torch.autograd.grad(output.sum(), features)
    for values in (output, gradient):
        assert torch.isnan(values[:, 2]).all()
        assert torch.isfinite(values[:, :2]).all()
    assert torch.isnan(fused.max_pool_2x2(features)[1, 2]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_trains_through_the_kernels_and_evaluates_as_before(
    activation: nn.Module,
) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), activation, nn.MaxPool2d(2))
    special = copy.deepcopy(plain)
    fused.specialise(special)
    images = torch.randn(4, 1, 12, 12)
    ours, theirs = special(images), plain(images)
    assert type(ours.grad_fn).__name__ == "_MaxPool2x2Backward"
    assert type(ours.grad_fn.next_functions[0][0]).__name__ == "_BatchNormActBackward"
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(special.state_dict(), plain.state_dict())
    torch.testing.assert_close(special.eval()(images), plain.eval()(images))


def test_only_plain_layers_in_a_plain_sequence_are_replaced() -> None:
    pools = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1))
    fused.specialise(pools)
    assert [("forward" in vars(module)) for module in pools] == [True, False, False]
    bare = nn.Sequential(
        nn.BatchNorm2d(2), nn.Identity(), nn.BatchNorm2d(2, affine=False), nn.ReLU()
    )
    fused.specialise(bare)
    assert "forward" not in vars(bare)


def test_other_types_and_a_single_value_go_torchs_own_way() -> None:
    low = nn.Sequential(nn.BatchNorm2d(4).bfloat16(), nn.ReLU())
    fused.specialise(low)
    assert "forward" not in vars(low)
    single = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    fused.specialise(single)
    with pytest.raises(ValueError, match="more than 1 value"):
        single(torch.zeros(1, 4, 1, 1))
