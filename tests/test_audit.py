"""The audit against declared figures, torch's own counter, sums by hand, and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import Cli, document
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from mnistcli import recipe
from mnistcli.audit import Audit, audit
from mnistcli.models.registry import MODELS, ModelEntry, build

ARGUMENTS = {name: recipe.model_args(name) for name in MODELS}


def audit_of(factory: str) -> Audit:
    """Audit a network of this file."""
    return audit(ModelEntry(factory, f"test_audit:{factory}"), {})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_totals_are_the_declared_ones(name: str) -> None:
    counted, entry = audit(MODELS[name], ARGUMENTS[name]), MODELS[name]
    assert (counted.parameters, counted.mult_adds) == (entry.parameters, entry.mult_adds)
    assert sum(layer.parameters for layer in counted.layers) == entry.parameters
    assert sum(layer.mult_adds for layer in counted.layers) == entry.mult_adds
    assert "other" not in [layer.name for layer in counted.layers]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_mult_adds_agree_with_torchs_flop_counter(name: str) -> None:
    model = build(MODELS[name], ARGUMENTS[name]).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, 28, 28))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    added = sum(p.numel() for m in norms for p in m.parameters())
    added += sum(m.out_features for m in linear)  # the biases
    assert counter.get_total_flops() / 2 + added == audit(MODELS[name], ARGUMENTS[name]).mult_adds


def test_the_skip_and_dropout_of_v3_are_shown() -> None:
    types = [layer.type for layer in audit(MODELS["v3"], ARGUMENTS["v3"]).layers]
    assert (types.count("SkipAdd"), types.count("Dropout")) == (1, 2)


class Runs(nn.Module):
    """A network given as parts and a function of them and the pictures."""

    def __init__(self, forward: object, *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.run = nn.ModuleList(parts), forward

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.run(images, *self.parts)  # type: ignore[operator]
        return logits


class Weights(nn.Module):
    """Holds parameters that functions read."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.held = nn.ParameterList(torch.randn(shape) * 0.1 for shape in shapes)


def functional() -> nn.Module:
    def run(x: Tensor, weights: Weights) -> Tensor:
        first, second = weights.held
        return F.conv2d(F.relu(F.conv2d(x, first)), second).mean((2, 3))

    return Runs(run, Weights((8, 1, 3, 3), (10, 8, 3, 3)))


def tokens() -> nn.Module:
    """Two transformer layers over 16 patches; their fused path would hide its products."""

    def run(x: Tensor, patches: nn.Module, encoder: nn.Module, head: nn.Module) -> Tensor:
        return head(encoder(patches(x).flatten(2).transpose(1, 2))[:, 0])  # type: ignore[no-any-return]

    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    return Runs(run, nn.Conv2d(1, 16, 7, stride=7), encoder, nn.Linear(16, 10))


def attends() -> nn.Module:
    def run(x: Tensor, project: nn.Module, head: nn.Module) -> Tensor:
        query, key, value = project(x[:, 0].transpose(1, 2)).chunk(3, -1)
        return head(F.scaled_dot_product_attention(query, key, value).mean(1))  # type: ignore[no-any-return]

    return Runs(run, nn.Linear(28, 84), nn.Linear(28, 10))


def recurrent(rows: nn.Module) -> nn.Module:
    def run(x: Tensor, rows: nn.Module, head: nn.Module) -> Tensor:
        return head(rows(x[:, 0])[0][:, -1])  # type: ignore[no-any-return]

    return Runs(run, rows, nn.LazyLinear(10))


def lstm() -> nn.Module:
    return recurrent(nn.LSTM(28, 24, batch_first=True))


def gru() -> nn.Module:
    return recurrent(nn.GRU(28, 12, num_layers=2, bidirectional=True, batch_first=True))


def convolutions() -> nn.Module:
    """Depthwise, grouped, and transposed with two groups."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, stride=4), nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 8, 1, groups=2, bias=False), nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2),
        nn.Flatten(), nn.Linear(400, 10, bias=False),
    )  # fmt: skip


def parametrised() -> nn.Module:
    layers = [weight_norm(nn.Conv2d(1, 4, 3)), nn.Flatten(), weight_norm(nn.Linear(2704, 10))]
    return nn.Sequential(*layers)


def twice() -> nn.Module:
    def run(x: Tensor, stem: nn.Module, body: nn.Module, head: nn.Module) -> Tensor:
        return head(body(F.max_pool2d(body(stem(x)), 2)).mean((2, 3)))  # type: ignore[no-any-return]

    return Runs(run, nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 10))


def products() -> nn.Module:
    """einsum, a linear layer over columns, and a norm that torch computes in parts."""

    def run(x: Tensor, norm: nn.Module, columns: nn.Module, weights: Weights) -> Tensor:
        pixels = columns(norm(x[:, 0]).transpose(1, 2))
        return torch.einsum("ncr,kcr->nk", pixels, weights.held[0])

    return Runs(run, nn.RMSNorm(28), nn.Linear(28, 5), Weights((10, 28, 5)))


def scripted() -> nn.Module:
    part = torch.jit.script(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU()))
    return nn.Sequential(part, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def unread() -> nn.Module:
    """A layer that no forward runs, and one whose weights a function reads."""

    def run(x: Tensor, hidden: nn.Module, read: nn.Linear) -> Tensor:
        return F.linear(x.flatten(1), read.weight)

    return Runs(run, nn.Conv2d(4, 4, 3), nn.Linear(784, 10))


# Written out: products of each layer, then what is added.
ENCODER = 16 * 48 * 16 + 2 * 16 * 16 * 16 + 16 * 16 * 16 + 2 * 16 * 32 * 16
ENCODER += 16 * 48 + 16 * 16 + 16 * 32 + 16 * 16 + 2 * 32
HAND = {
    "functional": 9 * 8 * 26**2 + 72 * 10 * 24**2,
    "tokens": 49 * 16 * 16 + 16 * 16 + 2 * ENCODER + 170,
    "attends": 28 * 28 * 84 + 28 * 84 + 2 * 28 * 28 * 28 + 290,
    "lstm": 28 * (96 * (28 + 24) + 2 * 96) + 250,
    "gru": 28 * 2 * (36 * (28 + 12) + 72 + 36 * (24 + 12) + 72) + 250,
    "convolutions": 49 * (16 * 4 + 4) + 25 * (9 * 4 + 4) + 25 * 8 * 2
    + 25 * 4 * 8 * 2 + 100 * 4 + 4000,
    "parametrised": 26**2 * (9 * 4 + 4) + 27040 + 10,
    "twice": 26**2 * (9 * 4 + 4) + (26**2 + 13**2) * (9 * 16 + 4) + 50,
    "products": 28 + 28 * 28 * 5 + 28 * 5 + 10 * 28 * 5,
    "scripted": 26**2 * (9 * 8 + 8) + 90,
    "unread": 7840,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("factory", HAND)
def test_mult_adds_agree_with_sums_by_hand_and_rows_with_totals(factory: str) -> None:
    counted = audit_of(factory)
    assert counted.mult_adds == HAND[factory]
    assert sum(layer.mult_adds for layer in counted.layers) == counted.mult_adds
    assert sum(layer.parameters for layer in counted.layers) == counted.parameters
    assert [layer.name for layer in counted.layers[:-1]].count("other") == 0


def test_a_shared_layer_has_its_parameters_once_and_a_row_for_each_call() -> None:
    rows = [layer for layer in audit_of("twice").layers if layer.name == "parts.1"]
    assert [(row.parameters, row.mult_adds) for row in rows] == [(148, 100_048), (0, 25_012)]
    assert [row.receptive_field for row in rows] == [5, 10]


def test_attention_and_parametrised_layers_are_one_row_each() -> None:
    types = [layer.type for layer in audit_of("tokens").layers]
    assert (types.count("MultiheadAttention"), types.count("")) == (2, 0)
    first = audit_of("parametrised").layers[0]
    assert (first.type, first.kernel, first.parameters) == ("ParametrizedConv2d", 3, 44)


def prints() -> nn.Module:
    def run(x: Tensor, part: nn.Module) -> Tensor:
        print("shape", x.shape)  # noqa: T201
        return F.interpolate(part(x), scale_factor=2).mean((2, 3))

    return Runs(run, nn.Conv2d(1, 10, (3, 1)))


def test_what_a_network_prints_is_kept_out_of_the_document(cli: Cli) -> None:
    done = cli("summary", "test_audit:prints", "--json")
    (counted,) = document(done.stdout)["models"]
    assert "shape" in done.stderr
    assert (counted["receptive_field"], counted["layers"][0]["kernel"]) == (None, [3, 1])
    assert counted["receptive_field_reason"] == "not followed through interpolate"
    assert len(counted["network"]) == 16


def test_a_terminal_gets_uneven_kernels_and_the_reason_below(cli: Cli) -> None:
    shown = cli("summary", "test_audit:prints", "--progress", "live").stdout
    assert "3×1" in shown
    assert shown.splitlines()[-1].endswith("no receptive field: not followed through interpolate")


class Breaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1) if not self.training else images.squeeze(2)
        logits: Tensor = self.head(pixels)
        return logits


def test_a_network_that_fails_in_training_is_counted_by_its_evaluation(cli: Cli) -> None:
    done = cli("summary", "test_audit:Breaks")
    assert (done.returncode, "parameters=7850" in done.stdout) == (0, True)


def test_an_audit_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    audit(MODELS["v3"], ARGUMENTS["v3"])
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
