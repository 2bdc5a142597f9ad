"""Our CPU kernels give torch's numbers: pooling bit for bit, batch normalisation to rounding."""

from __future__ import annotations

import copy
import ctypes
import itertools

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


def bits(values: Tensor) -> Tensor:
    return values.view(torch.int16 if values.dtype == torch.bfloat16 else torch.int32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 16, 40])
def test_a_windows_gradient_goes_where_torchs_goes_for_every_kind_of_value(
    dtype: torch.dtype, channels: int
) -> None:
    kinds = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0]
    windows = torch.tensor(list(itertools.product(kinds, repeat=4))).view(-1, 1, 2, 2)
    windows = windows.to(dtype).repeat(1, channels, 1, 1)
    gradient = torch.randn(len(windows), channels, 1, 1).to(dtype)
    gradient[::7], gradient[1::7] = -0.0, float("inf")
    found = []
    for layout in (torch.channels_last, torch.contiguous_format):
        features = windows.to(memory_format=layout).requires_grad_()
        for pooled in (fused.max_pool_2x2(features), F.max_pool2d(features, 2)):
            finite = bits(pooled)[~pooled.isnan()]
            found.append((finite, bits(torch.autograd.grad(pooled, features, gradient)[0])))
    for values, gradients in found[1:]:
        assert torch.equal(values, found[0][0])
        assert torch.equal(gradients, found[0][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mean", [0.0, 1.0, 30.0, 1e3, -1e4])
@pytest.mark.parametrize("deviation", [1e-2, 0.1, 1.0, 1e2])
def test_the_first_steps_statistics_are_exact_however_far_the_data_lie_from_zero(
    dtype: torch.dtype, mean: float, deviation: float
) -> None:
    """The bound is that of the comment in fused.cpp; the affine step adds fp32's of mean / sd."""
    torch.manual_seed(0)
    features = (torch.randn(16, 10, 14, 14) * deviation + mean).to(dtype)
    norm, exact = nn.BatchNorm2d(10, momentum=1.0), nn.BatchNorm2d(10, momentum=1.0).double()
    norm.running_var.zero_()
    output = fused.batch_norm_act(features, norm, nn.ReLU())
    wanted = F.relu(exact(features.double()))
    torch.testing.assert_close(norm.running_var.double(), exact.running_var, rtol=4e-5, atol=4e-10)
    torch.testing.assert_close(norm.running_mean.double(), exact.running_mean, rtol=1e-6, atol=1e-6)
    ratio = exact.running_mean.abs().max() / exact.running_var.clamp(min=1e-5).min().sqrt()
    near = 2**-8 if dtype == torch.bfloat16 else 4e-5
    torch.testing.assert_close(
        output.double(), wanted, rtol=near, atol=4e-5 + 2**-23 * float(ratio)
    )


@pytest.mark.parametrize("running_mean", [1e3, -1e6, 1e14, 1e30, float("nan")])
def test_a_running_mean_far_from_the_data_spoils_nothing(running_mean: float) -> None:
    norm, features, _ = normalised((8, 10, 6, 6))
    plain = copy.deepcopy(norm)
    norm.running_mean.fill_(running_mean)
    torch.testing.assert_close(
        fused.batch_norm_act(features, norm, nn.ReLU()), F.relu(plain(features))
    )
    torch.testing.assert_close(norm.running_var, plain.running_var)


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
    special, plain = (net.to(memory_format=torch.channels_last) for net in (special, plain))
    images = torch.randn(4, 1, 12, 12)
    ours, theirs = special(images), plain(images)
    assert type(ours.grad_fn).__name__ == "_MaxPool2x2Backward"
    assert type(ours.grad_fn.next_functions[0][0]).__name__ == "_BatchNormActBackward"
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(special.state_dict(), plain.state_dict())
    torch.testing.assert_close(special.eval()(images), plain.eval()(images))


def test_hardswish_lets_no_infinite_gradient_through_below_minus_three() -> None:
    norm = nn.BatchNorm2d(2)
    nn.init.constant_(norm.bias, -9.0)
    features = torch.randn(2, 2, 3, 3).requires_grad_()
    output = fused.batch_norm_act(features, norm, nn.Hardswish())
    output.backward(torch.full_like(output, float("inf")))
    assert not features.grad.any()
    assert not norm.bias.grad.any()


def twins(*layers: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Return a network specialised and as it is, with the same weights."""
    plain = nn.Sequential(*layers)
    for parameter in plain.parameters():
        nn.init.uniform_(parameter, 0.3, 1.5)
    special = copy.deepcopy(plain)
    fused.specialise(special)
    return special, plain


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_second_derivatives_are_torchs(activation: nn.Module) -> None:
    torch.manual_seed(0)
    nets = twins(nn.BatchNorm2d(6), activation, nn.MaxPool2d(2), nn.BatchNorm2d(6), activation)
    features = torch.randn(4, 6, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    features.register_hook(lambda gradient: gradient * 3)  # once for each derivative
    found = []
    for net in nets:
        wanted = [features, *net.parameters()]
        first = torch.autograd.grad(net(features).square().sum(), wanted, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].sum(), wanted)
        found.append([*first, *second])
    largest = max(float(theirs.detach().abs().max()) for theirs in found[1])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


def test_many_gradients_at_once_and_saved_tensors_that_move_are_torchs() -> None:
    torch.manual_seed(0)
    nets = twins(nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    features = torch.randn(4, 6, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    many = torch.randn(3, 4, 6, 4, 4)
    found = []
    for net in nets:
        (batched,) = torch.autograd.grad(net(features), features, many, is_grads_batched=True)
        with torch.autograd.graph.save_on_cpu():  # which gives them back in another layout
            output = net(features)
        found.append([*batched, *torch.autograd.grad(output, features, many[0])])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_pools_and_sequences_with_a_norm_and_its_activation_are_replaced() -> None:
    net = nn.Sequential(
        nn.Sequential(nn.BatchNorm2d(2), nn.Identity(), nn.ReLU()),
        nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()),
        nn.MaxPool2d(2),
    )
    fused.specialise(net)
    assert [("forward" in vars(module)) for module in net] == [False, True, True]


def test_a_single_value_a_channel_is_torchs_to_refuse() -> None:
    single = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    fused.specialise(single)
    with pytest.raises(ValueError, match="more than 1 value"):
        single(torch.zeros(1, 4, 1, 1))
