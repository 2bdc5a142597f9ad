"""Many ranks of `train`: what one does under torch's launcher, and the launcher behind `--jobs`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mnistcli
from mnistcli.cli import options, signals
from mnistcli.cli.plan import resume_command
from mnistcli.cli.processes import OURS
from mnistcli.cli.sink import defer, sink
from mnistcli.engine import ranks
from mnistcli.errors import Interrupted, MnistcliError, SetError, UsageError
from mnistcli.results import runlog, setlog
from mnistcli.results.goal import judge_result
from mnistcli.view.output import Output
from mnistcli.view.run import live_or_plain
from mnistcli.view.runset import SetView, show_set

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

    from mnistcli.setting import Plan

_AGAIN = "start the same line again with --resume auto"


def run_rank(plan: Plan, output: Output, *, plots: bool) -> None:
    """Do one rank's part; the first one shows the set, and concludes where no parent does.

    What the set's own exit code tells ends no rank by it: the launcher would start all again.
    """
    from mnistcli.runset import run_set
    from mnistcli.setting import Outside

    place = ranks.here()
    view = _view(plan, output) if place.leads else None

    writes = place.leads or plan.parallel == "runs"
    emit = sink(view, plots=plots) if writes else defer

    try:
        with view or nullcontext():
            run_set(plan, Outside(emit, signals.flag), place)
    except Interrupted as stop:
        stop.hint = _AGAIN
        raise
    signals.flag.deferred = False
    if place.leads and not place.launch.startswith(OURS):
        try:
            conclude(plan, output)
        except MnistcliError as fault:
            output.failure(fault)


def _view(plan: Plan, output: Output) -> Any:
    if plan.parallel == "data":
        return live_or_plain(output)
    return SetView(output, lines=output.progress != "none")


def conclude(plan: Plan, output: Output) -> None:
    """Show the end of a set from its folder, and write the document.

    Raises:
        SetError: runs have no result.
        GateError: all have, and a required gate was missed.
    """
    assert plan.out is not None
    document = setlog.read(plan.out)
    results = setlog.results(document["rows"], plan.limits)
    checks = [judge_result(one, plan.limits) for one in results]
    document |= {"path": str(setlog.set_file(plan.out))}
    show_set(output, document, results, checks)
    report = {"runs": results, "summary": document["summary"], "set": document}
    if faults := [row for row in document["rows"] if row["exit_code"]]:
        first = faults[0]
        raise SetError(
            f"{len(faults)} of {len(document['rows'])} runs have no result; "
            f"seed {first['seed']}: {first['error']}",
            report,
            exit_code=document["exit_code"],
            hint=first["hint"],
        )
    options.conclude(output, report, list(plan.require), checks)


def launch(plan: Plan, output: Output, jobs: int, max_restarts: int | None) -> None:
    """Start this command line once more as `jobs` ranks, and conclude when they are done."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for part in ("multiprocessing.api", "agent.server.api"):  # each signal would be a warning
        logging.getLogger(f"torch.distributed.elastic.{part}").setLevel(logging.ERROR)
    name = f"{OURS}{os.urandom(8).hex()}"
    words = list(sys.argv[1:])
    if plan.out is None:
        plan = _with_folder(plan)
        words += ["--out", str(plan.out)]
    again = resume_command(words, None)
    try:
        _begin(plan, name)
        config = _config(name, jobs, 3 if max_restarts is None else max_restarts)
        elastic_launch(config, sys.executable)("-P", "-c", _rank_program(), *words)
        conclude(plan, output)
    except Interrupted as stop:
        stop.hint = again
        raise
    except SignalException as stop:
        raise Interrupted(stop.sigval, what=_progress(plan), hint=again) from None
    except ChildFailedError as error:
        raise _fault(error, again) from None


def _rank_program() -> str:
    """Return what a rank runs: this very package, and modules from where this process has them.

    `python -m` would look in the current folder first, and run a random.py there for Python's own.
    """
    package = str(Path(mnistcli.__file__).parents[1])
    return (
        f"import sys; sys.path.insert(0, {package!r}); import mnistcli; "
        f"sys.path[:] = {sys.path!r}; from mnistcli.__main__ import main; main()"
    )


def _with_folder(plan: Plan) -> Plan:
    from mnistcli.results.resume import make_folder

    if plan.resume:
        raise UsageError("which set is to be continued?", hint="--out DIR")
    first, last = plan.seeds[0], plan.seeds[-1]
    label = f"s{first}" if first == last else f"s{first}-{last}"
    return replace(plan, out=make_folder(plan.recipe, label))


def _begin(plan: Plan, name: str) -> None:
    """Refuse once, here, what each rank would refuse anew after each restart; begin the record."""
    from mnistcli.runset import open_set
    from mnistcli.setting import Outside, prepare

    assert plan.out is not None
    setting = prepare(plan, Outside(lambda event: None, signals.flag))
    runlog.create(plan.out)
    with runlog.lock(plan.out):
        open_set(plan, name, setting)


def _config(name: str, jobs: int, max_restarts: int) -> LaunchConfig:
    """Return what torchrun --standalone would use; signals ignored here (nohup) stay ignored."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    handled = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    kept = [one.name for one in handled if signal.getsignal(one) is not signal.SIG_IGN]
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=jobs,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=max_restarts,
        signals_to_handle=",".join(kept),
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )


def _progress(plan: Plan) -> str:
    assert plan.out is not None
    document = setlog.read(plan.out)
    return f"stopped, {len(document['rows'])} of {len(plan.seeds)} runs are over"


def _fault(error: ChildFailedError, again: str) -> MnistcliError:
    """Return why the ranks were given up, with the exit code of the first that failed."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    fault = MnistcliError(f"rank {rank} {how}; no restarts left", hint=again)
    fault.exit_code = code if 1 <= code <= 7 else 1
    return fault
