"""Cells of a notebook that uses `import mnistcli`, run by Jupyter's own kernel, without a screen.

    python tests/notebook.py      needs nbclient and ipykernel

Prints one line of JSON for the record: what each cell wrote. `tests/test_api.py` runs the same
cells in a thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import mnistcli

TRAIN = (
    "mnistcli.train('v6', epochs=1, batch_size=32, distillation=None, data_dir=DATA, threads=1, "
)
CELLS = [  # each with what it is to write
    ("import signal, mnistcli, numpy as np\nbefore = signal.getsignal(signal.SIGINT)", None),
    ("assert mnistcli.networks()['v3'].parameters == 7820", None),
    ("network = mnistcli.load('v6')", None),
    ("assert network.predict(np.zeros((3, 28, 28), np.uint8)).shape == (3,)", None),
    ("assert network.evaluate(DATA).accuracy > 0.9", None),
    (f"result = {TRAIN}out=OUT)", None),
    ("assert result.load().evaluate(DATA).accuracy == result.accuracy", None),
    (f"result = {TRAIN}out=OUT + '-plain', progress='plain')", "epoch=1/1"),
    (f"result = {TRAIN}out=OUT + '-live', progress='live')", "1/1"),
    ("assert signal.getsignal(signal.SIGINT) is before", None),
]


def main() -> None:
    """Run the cells; a cell that raises ends the program."""
    import nbclient
    import nbformat
    from conftest import write_idx

    from mnistcli.data import mnist

    dataset = mnist.load(None)
    with tempfile.TemporaryDirectory() as folder:
        for prefix, part, count in (("train", dataset.train, 384), ("t10k", dataset.test, 130)):
            few = mnist.Labelled(part.images[:count], part.labels[:count])
            write_idx(Path(folder), prefix, few)
        names = f"DATA, OUT = {folder!r}, {str(Path(folder, 'run'))!r}"
        sources = [names, *(source for source, _ in CELLS)]
        book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
        start = time.perf_counter()
        nbclient.NotebookClient(book, timeout=600).execute()
    wrote = ["".join(one.get("text", "") + str(one.get("data", "")) for one in cell.outputs)
             for cell in book.cells[1:]]  # fmt: skip
    for (source, wanted), text in zip(CELLS, wrote, strict=True):
        if (wanted or "") not in text or bool(text) != bool(wanted):
            raise SystemExit(f"{source!r} wrote {text!r}")
    print(json.dumps({  # noqa: T201
        "notebook": "tests/notebook.py", "mnistcli": mnistcli.__version__,
        "nbclient": nbclient.__version__, "cells": len(CELLS),
        "seconds": round(time.perf_counter() - start, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
