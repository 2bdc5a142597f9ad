"""What a network must keep to: each way of missing it is named with its line, leaving nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from conftest import Cli, document
from torch import nn

from mnistcli.engine import checkpoint
from mnistcli.errors import UsageError
from mnistcli.models.contract import check_fresh, check_training
from mnistcli.models.registry import build, resolve

CODE = """
import sys
import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.steps = nn.Linear(784, 10), 0

    def forward(self, images):
        self.steps += self.training
        logits = self.layer(images.flatten(1))
        return self.train_by(logits) if self.training else logits

    def train_by(self, logits):
        return logits


MODEL = model = Linear()
def same(): return MODEL
def script(): return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
def double(): return Linear().double()
def meta():
    with torch.device("meta"):
        return Linear()
def double_for_all():
    torch.set_default_dtype(torch.float64)
    return Linear()
def on_meta_for_all():
    torch.set_default_device("meta")
    return Linear()
def without_gradients():
    torch.set_grad_enabled(False)
    return Linear()
def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
def lazy_unused():
    net = Linear()
    net.spare = nn.LazyLinear(3)
    return net
def tied():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Linear(10, 10), nn.Linear(10, 10))
    net[3].weight = net[2].weight
    return net

class Exits(Linear):
    def train_by(self, logits): sys.exit(0)

class Interrupts(Linear):
    def train_by(self, logits): raise KeyboardInterrupt
class Grows(Linear):
    def train_by(self, logits):
        self.register_buffer("more", torch.ones(3))
        return logits
class Replaces(Linear):
    def train_by(self, logits):
        self.layer.bias = nn.Parameter(self.layer.bias.detach())
        return logits
class Detaches(Linear):
    def train_by(self, logits): return logits.detach()
class Once(Linear):
    def __init__(self):
        super().__init__()
        self.names = (name for name in "ab")
class Sparse(Linear):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(2, 10, sparse=True)
    def train_by(self, logits): return logits + self.table(logits.argmax(1) % 2)
class Fours(Linear):
    def train_by(self, logits): return logits.reshape(-1, 4, 10).flatten(0, 1)
class Draws(Linear):
    def train_by(self, logits):
        import random
        return logits * random.random() + torch.rand(10)
class Breaks(Linear):
    def __init__(self, step: int = 2, code: bool = False):
        super().__init__()
        self.step, self.code = step, code
    def train_by(self, logits):
        if self.steps == self.step:
            raise SystemExit(0) if self.code else KeyError("label")
        return logits
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The code above as a person's file."""
    path = tmp_path / "net.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def line(tiny_data: Path, net: Path) -> list[str]:
    """A short run, to which the network's name and options are added."""
    words = ["train", "--batch-size", "32", "--threads", "1", "--no-plots", "--compile", "off"]
    return [*words, "--data-dir", str(tiny_data), "--model"]


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("model", "is a network: name a function or class that builds a new one"),
        ("script", "is a TorchScript module: return the nn.Module that it was made from"),
        ("double", "keeps its parameter 'layer.weight' in torch.float64"),
        ("meta", "builds 'layer.weight' on meta: build on the CPU"),
        ("double_for_all", "calls torch.set_default_dtype"),
        ("on_meta_for_all", "calls torch.set_default_device"),
        ("without_gradients", "calls torch.set_grad_enabled"),
        ("lazy_unused", "leaves its parameter 'spare.weight' without a shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_what_cannot_be_trained_is_refused_when_it_is_built(
    factory: str, expected: str, net: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        build(resolve(f"{net}:{factory}"), {})
    assert expected in caught.value.what
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("Exits", "fails in training: SystemExit: 0"),
        ("Interrupts", "fails in training: KeyboardInterrupt"),
        ("Grows", "changes 'more' in training, from nothing to [3]"),
        ("Replaces", "replaces its parameter 'layer.bias' in training"),
        ("Detaches", "returns logits without a gradient in training"),
        ("Once", "can't be copied: TypeError"),
        ("Sparse", "has a sparse gradient for 'table.weight'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(
    factory: str, expected: str, line: list[str], net: Path, cli: Cli
) -> None:
    for words in ([], ["--dry-run"]):
        done = cli(*line, f"{net}:{factory}", "--out", str(net.parent / "run"), *words)
        assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    assert not (net.parent / "run").exists()


@pytest.mark.parametrize("factory", ["lazy", "tied", "Fours"])
@pytest.mark.slow
def test_unusual_networks_train_and_are_evaluated(
    factory: str, line: list[str], net: Path, cli: Cli, tiny_data: Path
) -> None:
    run, name = str(net.parent / "run"), f"{net}:{factory}"
    trained = cli(*line, name, "--epochs", "1", "--out", run, "--json")
    assert trained.returncode == 0, trained.stderr
    words = ["evaluate", run, "--model", name, "--data-dir", str(tiny_data), "--json"]
    assert document(cli(*words).stdout)["correct"] == document(trained.stdout)["last"]["correct"]


def test_a_factory_that_returns_one_network_twice_is_refused(net: Path) -> None:
    entry = resolve(f"{net}:Linear")
    model = build(entry, {})
    check_fresh(model, build(entry, {}), entry)
    with pytest.raises(UsageError, match="the same network each time"):
        check_fresh(model, model, entry)


def test_the_rehearsal_of_a_step_moves_neither_network_nor_generators(net: Path) -> None:
    entry = resolve(f"{net}:Draws")
    model = build(entry, {})
    before = checkpoint.weights_hash(model.state_dict())
    states = torch.get_rng_state(), random.getstate()
    check_training(model, entry, pictures=8, dtype=torch.bfloat16)
    assert checkpoint.weights_hash(model.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("model", ["v4", "v6"])
def test_batch_norm_over_one_value_asks_for_a_larger_batch(
    model: str, line: list[str], cli: Cli, tmp_path: Path
) -> None:
    for words in ([], ["--dry-run"]):
        done = cli(*line, model, "--batch-size", "1", "--out", str(tmp_path / "run"), *words)
        assert done.returncode == 2
        assert f"{model} can't train on batches of one picture: ValueError" in done.stderr
        assert done.stderr.splitlines()[-1] == "hint: a larger --batch-size"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("code", "said"), [("false", "KeyError: 'label'"), ("true", "SystemExit")])
@pytest.mark.slow
def test_a_fault_in_the_first_epoch_leaves_no_folder_behind(
    code: str, said: str, line: list[str], net: Path, cli: Cli
) -> None:
    new, empty = net.parent / "new", net.parent / "empty"
    number = next(i for i, text in enumerate(CODE.splitlines(), 1) if "raise SystemExit" in text)
    empty.mkdir()
    for folder in (new, empty):
        done = cli(*line, f"{net}:Breaks", "--set", f"model_args.code={code}", "--out", str(folder))
        assert (done.returncode, said in done.stderr) == (2, True)
        assert f"{net}:{number}" in done.stderr
    assert not new.exists()
    assert list(empty.iterdir()) == []


def test_a_fault_in_a_later_epoch_keeps_the_epochs_before_it(
    line: list[str], net: Path, cli: Cli
) -> None:
    run = net.parent / "run"
    done = cli(*line, f"{net}:Breaks", "--set", "model_args.step=5", "--out", str(run))
    assert (done.returncode, "fails in training" in done.stderr) == (2, True)
    assert len(checkpoint.read(run / "last.pt")["history"]) == 1


def test_a_network_whose_checkpoint_could_not_be_read_is_too_large() -> None:
    with torch.device("meta"):
        fits, large = nn.Linear(4000, 10_000), nn.Linear(5000, 10_000)
    many = nn.ModuleList(nn.Linear(1, 1) for _ in range(2000))
    checkpoint.check_size(fits, where="here")
    for network in (large, many):
        with pytest.raises(UsageError, match="too large: its checkpoint may need"):
            checkpoint.check_size(network, where="here")


def test_a_run_that_diverges_at_once_keeps_its_folder(
    line: list[str], net: Path, cli: Cli, tmp_path: Path
) -> None:
    words = ["--lr", "1e30", "--set", "schedule={name: constant}", "--out", str(tmp_path / "run")]
    assert cli(*line, f"{net}:Linear", *words).returncode == 6
    assert (tmp_path / "run" / "recipe.yaml").is_file()
