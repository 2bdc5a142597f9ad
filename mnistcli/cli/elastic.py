"""torch's elastic launcher: this command line again, as many processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import mnistcli
from mnistcli.cli.processes import OURS
from mnistcli.errors import EnvironmentFault, Interrupted, MnistcliError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig


def launch_name() -> str:
    """Return a new name of a launch, which tells its ranks who started them."""
    return f"{OURS}{os.urandom(8).hex()}"


def start_ranks(
    name: str,
    jobs: int,
    max_restarts: int | None,
    words: list[str],
    progress: Callable[[], str],
    *,
    again: str,
) -> None:
    """Run a command line as `jobs` ranks until all have ended.

    `progress` says in words how far they came, `again` is the line that goes on.

    Raises:
        Interrupted: a signal stopped them.
        MnistcliError: one failed, and no restart is left; or they can't be started.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    for part in ("multiprocessing.api", "agent.server.api"):  # each signal would be a warning
        logging.getLogger(f"torch.distributed.elastic.{part}").setLevel(logging.ERROR)
    try:
        config = _config(name, jobs, 3 if max_restarts is None else max_restarts)
        elastic_launch(config, sys.executable)("-P", "-c", _rank_program(), *words)
    except SignalException as stop:
        raise Interrupted(stop.sigval, what=f"stopped; {progress()}", hint=again) from None
    except ChildFailedError as error:
        raise _fault(error, again) from None
    except (RendezvousError, DistError) as error:
        first = str(error).partition("\n")[0]
        raise EnvironmentFault(f"the processes can't be started: {first}") from error


def _rank_program() -> str:
    """Return what a rank runs: this very package, and modules from where this process has them.

    `python -m` would look in the current folder first, and run a random.py there for Python's own.
    """
    package = str(Path(mnistcli.__file__).parents[1])
    return (
        f"import sys; sys.path.insert(0, {package!r}); import mnistcli; "
        f"sys.path[:] = {sys.path!r}; from mnistcli.__main__ import main; main()"
    )


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


def _fault(error: ChildFailedError, again: str) -> MnistcliError:
    """Return why the ranks were given up, with the exit code of the first that failed."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    fault = MnistcliError(f"rank {rank} {how}; no restarts left", hint=again)
    fault.exit_code = code if 1 <= code <= 7 else 1
    return fault
