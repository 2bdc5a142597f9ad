"""Small real data, and the command line run in this process or in one of its own."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Small trainings gain nothing from a second thread, and beside a busy process they stand still.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import once
import pytest
import torch
from forkserver import Server
from interrupted import Runs

import mnistcli
from mnistcli import recipe
from mnistcli.cli import signals
from mnistcli.cli.app import run
from mnistcli.data import mnist
from mnistcli.engine.kernels import compiled
from mnistcli.models.registry import MODELS, build

# A shell without job control starts background commands with SIGINT ignored: children inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # and nohup ignores SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

once.remember()

Cli = Callable[..., subprocess.CompletedProcess[str]]
HERE = Path(__file__).parent
Golden = Callable[[str, str], None]
OTHER_LANES = {"cuda", "soak", "processes", "faults", "slow"}
KEPT = pytest.StashKey[str]()  # the folder of what this session has compiled


def pytest_configure(config: pytest.Config) -> None:
    """Let every process of this session find the kernels that one has compiled: see cxx.py."""
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found and "TESTS_COMPILED" not in os.environ:  # a worker has it from the first process
        folder = tempfile.mkdtemp(prefix="tests-of-mnistcli-")
        config.stash[KEPT] = os.environ["TESTS_COMPILED"] = folder
        remember = shlex.join([sys.executable, "-IS", str(HERE / "cxx.py")])
        os.environ["CXX"] = f"{remember} {found} --"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--overwrite", action="store_true", help="write the files of tests/golden")


def pytest_unconfigure(config: pytest.Config) -> None:
    if KEPT in config.stash:
        shutil.rmtree(config.stash[KEPT])
        del os.environ["TESTS_COMPILED"]


@pytest.hookimpl(tryfirst=True)  # before -m is applied
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes by a fixture, the rows of the fault matrix, and all the rest."""
    for item in items:
        if {"forked", "runs"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker("processes")
        if item.name.startswith("test_row_"):
            item.add_marker("faults")
        if not OTHER_LANES & {mark.name for mark in item.iter_markers()}:
            item.add_marker("fast")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, at most eight, as tests wait for what they start; on one core, none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min((cores or 1) + 1, 8) if cores != 1 else 0


def network(name: str, **changes: Any) -> torch.nn.Module:
    """Return a registered network as its own recipe names it, but for the changes."""
    return build(MODELS[name], recipe.model_args(name) | changes)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Hold a text against the file of a name in tests/golden, or with --overwrite write it."""

    def check(name: str, text: str) -> None:
        path = HERE / "golden" / name
        lines = text.replace(mnistcli.__version__, "VERSION").splitlines()
        text = "\n".join(map(str.rstrip, lines)) + "\n"
        if request.config.getoption("--overwrite"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), "is it meant so? pytest --overwrite"

    return check


@pytest.fixture(scope="session")
def dataset() -> mnist.Dataset:
    """The packaged MNIST."""
    return mnist.load()


@pytest.fixture(scope="session")
def small_data(dataset: mnist.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four IDX files: the first 384 training and 130 test pictures of MNIST."""
    folder = tmp_path_factory.mktemp("idx")
    for prefix, part, count in (("train", dataset.train, 384), ("t10k", dataset.test, 130)):
        write_idx(folder, prefix, mnist.Labelled(part.images[:count], part.labels[:count]))
    return folder


@pytest.fixture(scope="session")
def tiny_data(dataset: mnist.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As small_data, of 96 and 40 pictures: an epoch of three batches of 32 takes 0.1 s."""
    folder = tmp_path_factory.mktemp("tiny-idx")
    for prefix, part, count in (("train", dataset.train, 96), ("t10k", dataset.test, 40)):
        write_idx(folder, prefix, mnist.Labelled(part.images[:count], part.labels[:count]))
    return folder


@pytest.fixture(scope="session")
def kernels() -> None:
    """Skip where no C++ compiler works."""
    if not isinstance(fault := compiled(), ctypes.CDLL):
        pytest.skip(fault)


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts command lines as processes, torch imported already."""
    server = Server(tmp_path_factory.mktemp("forked"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def runs(forked: Server, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(forked, tiny_data, tmp_path_factory.mktemp("runs"))


def write_idx(folder: Path, prefix: str, part: mnist.Labelled) -> None:
    """Write pictures and labels as plain IDX files."""
    count = len(part.labels)
    header = struct.pack(">4I", 2051, count, 28, 28)
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + part.images.numpy().tobytes())
    labels = struct.pack(">2I", 2049, count) + bytes(part.labels.tolist())
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


@pytest.fixture
def rank_line(tiny_data: Path) -> list[str]:
    """A command line of one thread a rank, to which seeds and a folder are added."""
    base = ["train", "--data-dir", str(tiny_data), "--threads", "1", "--no-plots"]
    return [*base, "--batch-size", "16"]


@pytest.fixture(autouse=True)
def _same_process_for_every_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fixed terminal, no colour, no variable of ours, a fresh stop flag, the same threads."""
    for name in ("MNISTCLI_DATA_DIR", "MNISTCLI_DEVICE", "MNISTCLI_PROGRESS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    threads = torch.get_num_threads()
    signals.flag.signum, signals.flag.deferred = None, False
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command line in this process; its output is a pipe."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in arguments]
        monkeypatch.setattr(sys, "argv", ["mnistcli", *words])
        code = run(words)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, captured.out, captured.err)

    return call


@pytest.fixture
def train_small(cli: Cli, small_data: Path, tmp_path: Path) -> Cli:
    """Train v3 for two short epochs into `tmp_path/run` unless the arguments say otherwise."""

    def call(*arguments: str, out: str = "run") -> subprocess.CompletedProcess[str]:
        base = ["train", "--model", "v3", "--epochs", "2", "--data-dir", str(small_data)]
        fixed = ["--no-plots", "--threads", "1", "--out", str(tmp_path / out)]
        return cli(*base, *fixed, *arguments)

    return call


def spawn(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `mnistcli` as a process of its own, with pipes."""
    command = [sys.executable, "-m", "mnistcli", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    return subprocess.Popen(command, **(pipes | {"env": environment} | options))


def torchrun(*arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    """Start two ranks by torchrun's own command."""
    words = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run"]  # as the script `torchrun`
    command = [*launcher, *words, "-m", "mnistcli"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *arguments], **pipes)  # type: ignore[call-overload]


def plant_sentinels(folder: Path) -> None:
    """Write files that Python must not take for its own modules: each would say that it ran."""
    for name in ("statistics", "random", "json"):
        said = f"open({str(folder / 'executed')!r}, 'w')"
        (folder / f"{name}.py").write_text(f"{said}\nraise ImportError('not Python's own')\n")


def values(line: str) -> dict[str, str]:
    """Return the key=value pairs of a plain line."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document that `text` is."""
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed
