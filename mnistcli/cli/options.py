"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mnistcli import recipe as recipes
from mnistcli.errors import GateError, UsageError, nearest
from mnistcli.models.registry import MODELS, known_names
from mnistcli.results.goal import GATES, Check, Limits, failures
from mnistcli.view.output import Output

Progress = Literal["auto", "live", "plain", "none"]

_OUTPUT, _GATES, _MACHINE = "Output", "Gates", "Machine and data"
_MOST_RUNS = 100


def at_home(value: Any) -> Any:
    """Read `~/` as the home folder where the shell does not: in `--out=~/x` and `'~/runs/*'`."""
    if isinstance(value, list):
        return [at_home(one) for one in value]
    text = str(value)
    return type(value)(os.path.expanduser(text)) if text.startswith("~/") else value


def completion(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function for the shell that offers the names that begin like its argument."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    """Offer the registered names and the entry points."""
    return completion(known_names())(incomplete)


def complete_recipes(incomplete: str) -> list[str]:
    """Offer the packaged recipes; the shell itself offers files where none fits."""
    return completion(recipes.names())(incomplete)


def complete_runs(incomplete: str) -> list[str]:
    """Offer the latest run folders below ./checkpoints that fit."""
    from mnistcli.results.runlog import run_folders

    folders = [run for model in Path("checkpoints").glob("*/") for run in run_folders(model)]
    runs = sorted(map(str, folders))
    return completion(reversed(runs))(incomplete)[:_MOST_RUNS]


def complete_resume(incomplete: str) -> list[str]:
    """Offer `auto` and the runs."""
    return [*completion(["auto"])(incomplete), *complete_runs(incomplete)]


def complete_trained(incomplete: str) -> list[str]:
    """Offer what has weights: models and runs."""
    return [*complete_models(incomplete), *complete_runs(incomplete)]


def complete_references(incomplete: str) -> list[str]:
    """Offer what a row can be made of: models, recipes and runs."""
    return sorted({*complete_trained(incomplete), *complete_recipes(incomplete)})


def _in_percent(target: float) -> float:
    """Refuse a share in place of percent; 0 stays, any accuracy is above it."""
    if 0 < target <= 1:
        percent = (Decimal(repr(target)) * 100).normalize()
        what = f"--target is in percent, and {target!r} means {target!r} %"
        raise UsageError(what, hint=f"did you mean --target {percent:f}?")
    return target


References = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL|RECIPE|RUN|GLOB",
        help="Models or recipes with published results, or run folders.",
        autocompletion=complete_references,
        show_default="all registered models from their records",
        callback=at_home,
    ),
]
Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT|MODEL",
        help="A checkpoint file, a run folder, or the name of a model with packaged weights.",
        autocompletion=complete_trained,
        callback=at_home,
    ),
]
OwnCode = Annotated[
    str | None,
    typer.Option(
        help="The code of your own network: path/net.py:factory.",
        show_default="the checkpoint's",
        callback=at_home,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Write one JSON document to stdout.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option(
        "-q", "--quiet", help="Write the result line and errors only.", rich_help_panel=_OUTPUT
    ),
]
ProgressMode = Annotated[
    Progress,
    typer.Option(
        "--progress",
        envvar="MNISTCLI_PROGRESS",
        help="Draw live on a terminal, write plain lines, or show no progress.",
        rich_help_panel=_OUTPUT,
    ),
]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback", help="Show the Python traceback of an error.", rich_help_panel=_OUTPUT
    ),
]
Require = Annotated[
    list[str],
    typer.Option(
        "--require",
        metavar="GATE",
        help=f"Exit with 3 unless this gate passes: {', '.join(GATES)}. Repeatable.",
        autocompletion=completion(GATES),
        show_default="none",
        rich_help_panel=_GATES,
    ),
]
MaxParams = Annotated[
    int,
    typer.Option(
        min=1,
        help="The network must have fewer parameters than this.",
        rich_help_panel=_GATES,
    ),
]
MaxEpochs = Annotated[
    int,
    typer.Option(min=1, help="The run must have at most this many epochs.", rich_help_panel=_GATES),
]
Target = Annotated[
    float,
    typer.Option(
        min=0,
        max=100,
        help="The accuracy must be above this, in percent.",
        callback=_in_percent,
        rich_help_panel=_GATES,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="MNISTCLI_DATA_DIR",
        help="A folder with four IDX files (plain or .gz), or torchvision's root. MNIST's own "
        "teacher is not used with it.",
        show_default="the packaged MNIST",
        callback=at_home,
        readable=False,
        rich_help_panel=_MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="MNISTCLI_DEVICE",
        help="Where to compute: auto, cpu, cuda or cuda:N.",
        rich_help_panel=_MACHINE,
    ),
]
Plots = Annotated[
    bool,
    typer.Option(
        "--plots/--no-plots",
        help="Draw curves, confusion matrix and misclassified digits as PNG files.",
        rich_help_panel="Run folder",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check everything and say what would be done, without doing it.",
        rich_help_panel="Run folder",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(help="Number format of the training steps.", rich_help_panel=_MACHINE),
]
Compile = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        help="Compiled kernels on the CPU, a recorded graph on CUDA; auto: where it saves time.",
        rich_help_panel=_MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="CPU threads per process. On the CPU without compiled kernels, the exact result "
        "depends on this number: repeat a run with the same one.",
        show_default="one per core that is free at the start, divided among the processes",
        rich_help_panel=_MACHINE,
    ),
]


def processor() -> str:
    """Return this machine's processor, as runs on it name it."""
    import torch

    from mnistcli.engine.machine import device_name

    return device_name(torch.device("cpu"))


def say_which(output: Output, target: str, path: Path) -> None:
    """Say that a packaged name means a run folder here."""
    if target in MODELS and path == Path(target, "last.pt"):
        output.talk(f"notice: {target} is the run folder here, not the packaged {target}")


def limits(max_params: int = 8000, max_epochs: int = 15, target: float = 99.4) -> Limits:
    """Return the gates' bounds, the target kept as the decimal that was typed."""
    return Limits(max_params, max_epochs, repr(target))


def check_gates(required: list[str], *, known: Sequence[str] = GATES) -> None:
    """Refuse a gate that this command can't judge."""
    for gate in required:
        if gate not in known:
            what = "this command can't judge gate" if gate in GATES else "unknown gate"
            raise UsageError(f"{what} {gate!r}", where="--require", hint=nearest(gate, known))


def conclude(
    output: Output, report: dict[str, Any], required: list[str], runs: list[list[Check]]
) -> None:
    """Write the JSON document; raise GateError with it unless every run passes its gates."""
    failed = sorted({gate for checks in runs for gate in failures(checks, required)})
    if failed:
        raise GateError(f"required gate failed: {', '.join(failed)}", report)
    output.document(report)
