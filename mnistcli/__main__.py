"""Entry point of `mnistcli` and of `python -m mnistcli`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` puts the current folder first: a random.py there would be run for Python's own.
    # At the end it still serves own networks.
    sys.path.append(sys.path.pop(0))

import gc

from mnistcli import streams
from mnistcli.cli import signals
from mnistcli.errors import Interrupted


def main() -> None:
    """Run the command line and exit with the documented code; signals count from the start."""
    arguments = sys.argv[1:]
    streams.open_standard()
    gc.disable()  # a start makes no garbage: 6 % of the processor time that --help takes
    with signals.translated():
        signals.flag.deferred = True  # an import cut short can't be made good
        from mnistcli.cli.app import fail, run

        if not {"-h", "--help"} & {*arguments}:
            gc.enable()
        try:
            signals.flag.deferred = False
            if (signum := signals.flag()) is not None:
                raise Interrupted(signum)
            code = run(arguments)
        except Interrupted as stop:
            code = fail(stop, arguments)
    if signals.flag() is not None:
        signals.end_at_once(code)
    gc.freeze()  # else Python's exit searches all that torch holds for garbage: 0.2 to 0.5 s
    sys.exit(code)


if __name__ == "__main__":
    main()
