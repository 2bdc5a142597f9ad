"""Entry point of `mnistcli` and of `python -m mnistcli`."""

import sys


def main() -> None:
    """Run the command line and exit with the documented code."""
    from mnistcli.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
