"""The house rules that a reader relies on, held by the source itself."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mnistcli"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Imports point down: a module may import from its own layer and those below it.
LAYERS = (
    {"errors", "events", "files", "recipe", "streams", "sinks", "tensorboard"},
    {"models", "data"},
    {"engine"},
    {"audit", "diagnosis", "results", "bench"},
    {"runs"},
    {"export", "view"},
    {"assessment", "study"},
    {"cli", "__main__", "api", "__init__"},
)
# The same within a run's life.
RUNS = (
    {"resume", "trained"},
    {"plan"},
    {"set_folder", "outcome"},
    {"single", "ledger", "dry_run"},
    {"sets"},
    {"missing"},
)


def layer(part: str, layers: Sequence[set[str]] = LAYERS) -> int:
    return next(index for index, names in enumerate(layers) if part in names)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all of a source's syntax tree, read once: twenty tests look at it."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def owners(modules: set[str]) -> set[str]:
    return {
        part_of(path)
        for path in SOURCES
        if any(name.split(".")[0] in modules for name in imports(path))
    }


@functools.cache
def calls(path: Path) -> frozenset[str]:
    return frozenset(ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    for name in imports(path):
        head, *rest = name.split(".")
        if head == "mnistcli" and rest and rest[0] != "__version__":
            assert layer(rest[0]) <= layer(part_of(path)), f"{path.name} imports {name}"


def test_a_run_s_life_is_told_in_one_direction() -> None:
    for path in sorted((PACKAGE / "runs").glob("[!_]*.py")):
        for name in imports(path):
            if name.startswith("mnistcli.runs."):
                below = layer(name.split(".")[2], RUNS)
                assert below < layer(path.stem, RUNS), f"{path.name} imports {name}"


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 30


def test_each_library_has_its_owner() -> None:
    assert owners({"yaml"}) == {"recipe"}
    assert owners({"rich"}) == {"view"}
    assert owners({"typer"}) == {"cli"}
    assert owners({"torchinfo"}) == {"audit"}
    assert owners({"matplotlib"}) == {"view"}
    assert owners({"markdown_it"}) == {"view"}
    assert owners({"optuna"}) == {"study"}
    assert owners({"PIL"}) <= {"data", "bench"}
    assert owners({"click"}) == set()


@pytest.mark.parametrize(
    ("function", "owner"),
    [
        ("torch.save", "engine/checkpoint.py"),
        ("torch.load", "engine/checkpoint.py"),
        ("torch.manual_seed", "engine/runtime.py"),
        ("torch.set_num_threads", "engine/threads.py"),
        ("torch.rand", "data/"),
        ("torch.randn", ("data/", "bench/competent.py")),  # the rival draws for itself
        ("torch.randperm", ("data/", "bench/competent.py")),
    ],
)
def test_a_function_is_called_by_its_owner_only(
    function: str, owner: str | tuple[str, ...]
) -> None:
    callers = {str(path.relative_to(PACKAGE)) for path in SOURCES if function in calls(path)}
    assert all(caller.startswith(owner) for caller in callers), callers


def test_processes_meet_in_one_module_and_are_launched_by_another() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if any(name.startswith("torch.distributed") for name in imports(path))
    }
    of_types = {"runs/sets.py", "runs/ledger.py", "study/execution.py"}
    assert users == {"engine/parallel.py", "engine/meeting.py", "cli/elastic.py"} | of_types


def test_the_view_never_sees_a_network_and_alone_writes_to_the_streams() -> None:
    for path in SOURCES:
        used = set(imports(path))
        if part_of(path) == "view":
            assert not any(name.startswith(("torch", "mnistcli.models")) for name in used), path
        else:
            written = {"print", "sys.stdout.write", "sys.stderr.write", "typer.echo"}
            assert not written & calls(path), path


def test_nothing_unpickles_or_evaluates_text() -> None:
    """Row 10 of the fault matrix."""
    forbidden = {"pickle.load", "pickle.loads", "Unpickler", "pickle.Unpickler", "eval", "exec"}
    for path in SOURCES:
        assert not forbidden & calls(path), path
        assert not {"pickle", "marshal", "shelve"} & {n.split(".")[0] for n in imports(path)}, path
        assert "weights_only=False" not in path.read_text()
    loads = [c for path in SOURCES for c in find_calls(path, "torch.load")]
    assert len(loads) == 1
    assert "weights_only=True" in ast.unparse(loads[0])


def find_calls(path: Path, name: str) -> Iterator[ast.Call]:
    for node in nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            yield node


def test_one_writer_writes_every_file() -> None:
    """Metrics, results, tables and pictures are as safe as checkpoints."""
    for path in SOURCES:
        if path.name == "files.py":
            continue  # the writer
        last_words = {call.rsplit(".")[-1] for call in calls(path)}
        assert not {"write_text", "write_bytes", "savez", "fdopen"} & last_words, path
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "open":
                modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
                assert not set("wxa+") & set("".join(map(str, modes))), f"{path}:{node.lineno}"


WITHOUT_TORCH = {
    0: (
        "--help", "--version", "train --help", "evaluate --help", "compare --help", "report --help",
        "doctor --help", "export --help", "study --help", "train --model v3 --print-recipe",
    ),
    2: (
        "doctor --require cudda", "compare --seeds 0-2", "export v3 --to c --raw-input",
        "export v3 --to d", "summary v0", "train --model v0", "train --model v3 --set optim.lrr=1",
        "train --model v3 --seeds 4-1", "study none.yaml", "trian", "evaluate v3 --target 0.99",
        "train v3 --set lr=1", "train v3 --model v4", "summary v3 --set epochs=3",
        "train plain/v3", "train v3 --set seed=1 --seeds 0-2",
    ),
}  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize("code", WITHOUT_TORCH)
def test_help_and_usage_errors_import_no_torch(code: int) -> None:
    lines = WITHOUT_TORCH[code]
    program = (
        "import sys; from mnistcli.cli.app import run\n"
        f"for line in {lines!r}: print('>', line, run(line.split()), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("> ")]
    assert found == [f"> {line} {code} False" for line in lines], done.stderr


def test_functions_and_files_stay_short() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 260, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and path.parent.name != "cli":
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"


def test_the_training_step_never_waits_for_the_device() -> None:
    """A static check for what synchronises on CUDA; the cuda-marked test makes it an error."""
    waits = {"item", "cpu", "tolist", "numpy", "nonzero", "synchronize"}
    found = 0
    for name in ("engine/step.py", "engine/loss.py", "engine/optim.py", "engine/muon.py"):
        for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in (
                "train_step", "_backward_and_update", "loss", "update", "_current", "__call__",
                "_train", "replay", "_train_aside", "set_lr", "set_step", "step",
                "orthogonalise",
            ):  # fmt: skip
                found += 1
                called = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
                assert not waits & {word.rsplit(".")[-1] for word in called}, node.name
                assert not {"int", "float", "bool", "print"} & called, node.name
    assert found == 13
