"""Folding, row-wise C and integers: each computes what the network does."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import exports
import int8
import pytest
import torch
from conftest import Cli, network
from random_nets import random_net
from torch import Tensor, nn

from mnistcli.data import mnist
from mnistcli.data.augment import normalise, to_input
from mnistcli.engine.evaluate import read
from mnistcli.export.building import Unknown
from mnistcli.export.c import Source, write_c
from mnistcli.export.check import C_FLAGS, run_c
from mnistcli.export.fold import graph_of
from mnistcli.export.graph import Convolution, Graph, run
from mnistcli.export.integer import run_integers
from mnistcli.export.quantise import quantise
from mnistcli.export.schedule import gathers, plan, rows_read
from mnistcli.models.registry import MODELS
from mnistcli.results import stored

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
NAMES = tuple(MODELS)
needs_compiler = pytest.mark.skipif(not COMPILERS, reason="no C compiler here")


def pictures(seed: int, count: int) -> Tensor:
    """Return noise, some of it sparse, and plain black and white."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
    noise[::2] *= torch.rand(noise[::2].shape, generator=generator) < 0.2
    noise[0], noise[-1] = 0, 255
    return noise


@pytest.mark.parametrize("name", NAMES)
def test_a_folded_network_computes_what_the_network_does(name: str, dataset: mnist.Dataset) -> None:
    model, images = network(name).eval(), dataset.test.images[:50]
    found = run(graph_of(model), normalise(to_input(images)))[-1].flatten(1)
    assert (found - read(model, images)).abs().max() < 1e-4


@pytest.mark.parametrize("seed", range(40))
def test_folding_knows_many_shapes(seed: int) -> None:
    model, images = random_net(seed), pictures(seed, 8)
    with torch.no_grad():
        wanted = read(model, images).double()
        found = run(graph_of(model), normalise(to_input(images)).double())[-1].flatten(1)
    assert (found - wanted).abs().max() < 1e-4 * (1 + wanted.abs().max())


def test_batch_norm_leaves_no_layer_of_its_own() -> None:
    kinds = Counter(type(layer).__name__ for layer in graph_of(network("v4").eval()).layers)
    assert kinds == {"Convolution": 9, "Pool": 2}


class ReadTwice(nn.Module):
    """A map that is read before its activation as well as behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 10, 28), nn.BatchNorm2d(10)

    def forward(self, values: Tensor) -> Tensor:
        first = self.first(values)
        return (first + torch.relu(self.norm(first))).flatten(1)


def test_what_is_read_elsewhere_is_not_folded_into() -> None:
    model, images = ReadTwice().eval(), pictures(0, 8)
    assert model.norm.running_var is not None
    model.norm.running_var.fill_(0.1)
    found = run(graph_of(model), normalise(to_input(images)))[-1].flatten(1)
    assert (found - read(model, images)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.GELU(), "GELU"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "circular"),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), "dilation"),
        (nn.MaxPool2d(3, 1, padding=1), "padding"),
        (nn.GroupNorm(2, 4), "GroupNorm"),
        (nn.BatchNorm2d(4, track_running_stats=False), "running statistics"),
    ],
)
def test_an_unknown_layer_is_named(layer: nn.Module, named: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(Unknown, match=named):
        graph_of(model.eval())


@pytest.mark.parametrize("seed", range(20))
def test_no_row_is_overwritten_before_it_is_read(seed: int) -> None:
    graph = graph_of(random_net(seed))
    schedule = plan(graph)
    kept: list[dict[int, int]] = [{} for _ in graph.shapes]  # place in the ring: row
    made = [0] * len(graph.shapes)
    for number in schedule.order:
        layer = graph.layers[number - 1] if number else None
        row, rows, done = made[number], [], 1
        if layer is not None and gathers(layer):
            done = layer.window.kernel[0]
            row, rows = made[number] // done, [0]
            rows = [row * layer.window.stride[0] + made[number] % done]
        for read_from in layer.inputs if layer is not None else ():
            height = graph.shapes[read_from][1]
            for y in rows or rows_read(layer, row, height):  # type: ignore[arg-type]
                assert kept[read_from][y % schedule.rings[read_from]] == y
        kept[number][row % schedule.rings[number]] = row
        made[number] += 1
    assert kept[-1] == {0: 0}


def test_maps_stay_within_their_budgets() -> None:
    """Small microcontrollers have 8 or 16 KiB."""
    memory = {name: write_c(graph_of(network(name).eval()), name).memory for name in ("v4", "v6")}
    assert memory["v6"] < 8 * 1024
    assert memory["v4"] < 16 * 1024


def _written(model: nn.Module, calibration: Tensor) -> tuple[Graph, Source, Source]:
    graph = graph_of(model)
    with torch.no_grad():
        return graph, write_c(graph, "test"), write_c(graph, "test", quantise(graph, calibration))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["v1", "v3", "v6"])
def test_c_answers_as_the_network_does(name: str, dataset: mnist.Dataset) -> None:
    model, images = network(name).eval(), dataset.test.images[:100]
    _, source, _ = _written(model, dataset.train.images[:16])
    found, wanted = run_c(source.text, images, integers=False), read(model, images)
    assert (found.logits - wanted).abs().max() < 1e-4
    assert found.digits.equal(found.logits.argmax(dim=1))


def agree(seed: int, count: int) -> None:
    """Hold C against torch for a random network: floats nearly, integers bit for bit."""
    model, images = random_net(seed), pictures(seed, count)
    graph = graph_of(model)
    with torch.no_grad():
        integers = quantise(graph, pictures(seed + 1, 32))
        sanitised = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
        text = write_c(graph, "fuzz", integers).text
        found = run_c(text, images, integers=True, flags=sanitised)
        assert (found.logits * 2**16).long().equal(run_integers(integers, images))
        floats = run_c(write_c(graph, "fuzz").text, images, integers=False, flags=sanitised)
        wanted = read(model, images)
    assert (floats.logits - wanted).abs().max() < 1e-4 * (1 + wanted.abs().max())


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("seed", [*range(4), 46])  # 46 has a maximum of maxima
def test_c_and_torch_agree_on_random_networks(seed: int) -> None:
    agree(seed, 100)


@needs_compiler
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4, 104))
def test_c_and_torch_agree_on_ten_thousand_pictures_and_a_hundred_networks(seed: int) -> None:
    agree(seed, 100)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.slow
def test_the_file_compiles_without_a_warning(
    compiler: str, dataset: mnist.Dataset, tmp_path: Path
) -> None:
    _, *sources = _written(network("v3").eval(), dataset.train.images[:16])
    for source in sources:
        file = tmp_path / "network.c"
        file.write_text(source.text)
        words = [compiler, *C_FLAGS, "-pedantic", "-Wconversion", "-Wno-sign-conversion"]
        done = subprocess.run(
            [*words, "-c", file, "-o", "/dev/null"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "malloc" not in source.text


def test_integers_stay_near_the_network(dataset: mnist.Dataset) -> None:
    graph = graph_of(network("v6").eval())
    with torch.no_grad():
        integers = quantise(graph, dataset.train.images[:64])
        images = dataset.test.images[:64]
        found = run_integers(integers, images).double() / 2**16
        wanted = run(graph, normalise(to_input(images)).double())[-1].flatten(1)
    for one in integers.layers:
        if isinstance(one.layer, Convolution):
            assert one.weight is not None
            assert one.weight.abs().max() <= 127
    spread = wanted.std()
    assert (found - wanted).square().mean().sqrt() < 0.1 * spread


def test_the_table_of_the_page_is_that_of_the_record() -> None:
    root = Path(__file__).parents[1]
    rows = json.loads((root / "checkpoints" / "records" / "export.json").read_text())
    found = [(row["model"], row["format"]) for row in rows]
    assert found == [(n, to) for n in exports.NAMES for to in exports.FORMATS if (n, to) in found]
    readme = (root / "checkpoints" / "README.md").read_text()
    shown = readme.partition("<!-- exports -->\n")[2].partition("<!-- /exports -->")[0]
    assert shown.strip() == exports.table(rows)


@pytest.mark.slow
def test_what_integers_cost_is_measured_on_the_split_of_the_run(
    train_small: Cli, small_data: Path, tmp_path: Path
) -> None:
    train_small("--epochs", "1")
    dataset = mnist.load(small_data)
    row = int8.measured(tmp_path / "run", dataset)
    result = stored.of_folder(tmp_path / "run")
    assert (row["fp32"], row["total"]) == (result["last"]["correct"], 130)
    assert abs(row["int8"] - row["fp32"]) <= row["changed"]
    assert int8.summary([row]).startswith("test, 1 networks: fp32 ")


def test_what_integers_cost_is_written_as_recorded() -> None:
    root = Path(__file__).parents[1] / "checkpoints"
    rows = json.loads((root / "records" / "int8.json").read_text())
    text = (root / "README.md").read_text()
    assert all(line in text for line in int8.summary(rows).splitlines())
