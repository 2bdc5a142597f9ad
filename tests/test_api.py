"""`import mnistcli`: what it offers to Python, without a word on the screen."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from notebook import CELLS

import mnistcli
from mnistcli.data import mnist
from mnistcli.errors import UsageError
from mnistcli.events import EpochFinished, Event

PAGE = (Path(__file__).parents[1] / "configs" / "README.md").read_text()


@pytest.mark.processes
def test_the_import_alone_brings_no_torch() -> None:
    program = (
        "import sys, mnistcli; assert 'torch' not in sys.modules; print(len(dir(mnistcli)));"
        "mnistcli.networks; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["6", "True"], done.stderr


def test_what_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        mnistcli.lod  # noqa: B018


def test_networks_are_named_with_their_sizes() -> None:
    assert mnistcli.networks()["v3"].parameters == 7820


def test_pictures_of_any_kind_are_read_alike(dataset: mnist.Dataset) -> None:
    network, images = mnistcli.load("v6"), dataset.test.images[:150]
    wanted = network.predict(images)
    assert isinstance(wanted, torch.Tensor)
    assert int((wanted == dataset.test.labels[:150]).sum()) > 140
    for other in (images.numpy(), images.numpy().astype(np.float32) / 255, images.double() / 255):
        assert (np.asarray(network.predict(other)) == wanted.numpy()).all()
    assert network.predict(images[:, None])[:3].tolist() == wanted[:3].tolist()
    assert network.predict(images[0].numpy()).shape == (1,)


def test_pictures_that_are_none_are_refused() -> None:
    network = mnistcli.load("v6")
    for wrong, said in (
        (np.zeros((2, 28, 27), np.uint8), "shape"),
        (np.zeros((2, 28, 28), np.int64), "int64"),
        (np.full((2, 28, 28), 255.0), "beyond 0"),
    ):
        with pytest.raises(UsageError, match=said):
            network.predict(wrong)


def test_evaluation_has_its_counts(small_data: Path) -> None:
    found = mnistcli.load("v6").evaluate(small_data)
    assert (found.total, found.correct > 120) == (130, True)
    assert found.accuracy == found.correct / 130


@pytest.mark.slow
def test_training_says_nothing_and_leaves_the_process_as_it_was(
    tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[Event] = []
    before = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    result = mnistcli.train(
        "v6", epochs=2, data_dir=tiny_data, out=tmp_path / "run", batch_size=32,
        optim={"lr": 0.05}, distillation=None, threads=1, on_event=told.append,
    )  # fmt: skip
    assert capfd.readouterr() == ("", "")
    assert (signal.getsignal(signal.SIGINT), torch.get_num_threads()) == before
    assert [one.epoch for one in result.history] == [1, 2]
    assert result.load().trained.recipe.optim.lr == 0.05
    assert sum(isinstance(one, EpochFinished) for one in told) == 2
    assert result.load().evaluate(tiny_data).accuracy == result.accuracy
    assert (tmp_path / "run" / "metrics.csv").exists()


def test_progress_is_shown_where_it_is_asked_for(
    tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = {"data_dir": tiny_data, "out": tmp_path / "run", "threads": 1}
    mnistcli.train("v6", epochs=1, batch_size=32, distillation=None, progress="plain", **words)
    assert "epoch=1/1" in capfd.readouterr().out


def test_a_misspelt_value_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        mnistcli.train("v6", optim={"lrr": 1}, out=tmp_path / "run")
    assert "lr" in caught.value.hint + str(caught.value)


def test_a_registered_teacher_knows_mnist_alone(small_data: Path, tmp_path: Path) -> None:
    taught = {"teacher": "teacher", "weight": 0.5}
    with pytest.raises(UsageError, match="was trained on MNIST"):
        mnistcli.train("v6", data_dir=small_data, distillation=taught, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.processes
def test_the_lines_of_the_page_run(tiny_data: Path, tmp_path: Path) -> None:
    code = re.search(r"<!-- python -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    text = code[1].replace("epochs=15", f"epochs=1, batch_size=32, data_dir={str(tiny_data)!r}")
    text = text.replace('out="v3"', f"out={str(tmp_path / 'run')!r}")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_cells_of_a_notebook_run_outside_the_main_thread(
    small_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = {"DATA": str(small_data), "OUT": str(tmp_path / "run")}
    wrote: list[str] = []

    def run() -> None:
        for source, _ in CELLS:
            exec(source, names)
            wrote.append(capfd.readouterr().out)

    thread = threading.Thread(target=run)  # where a signal handler can't be set
    thread.start()
    thread.join()
    assert len(wrote) == len(CELLS)
    for (_, wanted), text in zip(CELLS, wrote, strict=True):
        assert bool(text) == (wanted is not None)
        assert (wanted or "") in text
