"""The live view's table: it fits the terminal, and what the project promises stays in it."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass, replace

import pytest
from conftest import Golden
from rich.console import Console

from mnistcli.events import EpochFinished, EpochMetrics, RunStarted
from mnistcli.view import epochs
from mnistcli.view.live import LiveView
from mnistcli.view.output import is_terminal
from mnistcli.view.replay import Recording
from mnistcli.view.tables import fill


def metrics(epoch: int, *, cuda: bool) -> EpochMetrics:
    memory = (102.4, 1096.0, None) if cuda else (None, None, 1096.0)
    return EpochMetrics(
        epoch, 0.4213, 52_452, 60_000, "test", 0.0712, 9_781, 10_000, 9_781, 0, 2.4e-3,
        *memory, 19_355.0, 1003.1, 0.75,
    )  # fmt: skip


def lines(width: int, *, cuda: bool, total: int = 15) -> list[str]:
    """Return what the live view leaves in the scrollback of a run of two epochs."""
    device = {"device": "cuda:0" if cuda else "cpu", "device_name": "NVIDIA A10G"}
    runtime = device | {"threads": 2, "precision": "bf16", "compiled": True}
    file = io.StringIO()
    view = LiveView(Recording("train", screen=Console(width=width, file=file, markup=False)))
    changes = ("optim.lr=0.02", "augment.elastic_alpha=0.0")
    view(
        RunStarted(
            "v3", 7820, "v3", changes, "muon", None, 0, total, "test", 60_000, runtime, "/runs/a"
        )
    )
    for epoch in (1, 2):
        one = epochs.EpochMetrics(**asdict(metrics(epoch, cuda=cuda)))
        view(EpochFinished(one, total, "/runs/a", (one,)))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("width", [50, 80, 140])
def test_no_line_is_wider_than_the_terminal_and_rows_match_their_titles(
    width: int, cuda: bool
) -> None:
    shown = lines(width, cuda=cuda, total=1500)
    assert max(map(len, shown)) <= width
    titles, first, second = shown[-3:]
    assert len(titles) == len(first) == len(second)
    assert "/1500" in second
    assert " ".join(shown[:-4]).count("augment.elastic_alpha=0.0") == 1


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("cuda", [True, False])
def test_the_table_is_as_kept_and_has_the_columns_that_are_promised(
    width: int, cuda: bool, golden: Golden
) -> None:
    shown = lines(width, cuda=cuda)
    golden(f"live/{'cuda' if cuda else 'cpu'}-{width}.txt", "\n".join(shown))
    titles = "epoch", "train loss", "train acc", "test acc", "correct", "best (age)", "lr"
    assert all(title in shown[-3] for title in titles)


def test_parts_fill_lines_without_being_broken() -> None:
    assert fill(["aa", "bb", "cccccc"], 7, separator=" · ") == ["aa · bb", "cccccc"]


def test_a_long_course_has_sixty_bars_from_first_to_last() -> None:
    bars = epochs.sparkline(list(range(1000)))
    assert (len(bars), bars[0], bars[-1]) == (60, "▁", "█")
    assert epochs.sparkline([5, 5]) == "▁▁"


@pytest.mark.parametrize(
    ("term", "encoding", "drawn"),
    [("xterm", "utf-8", True), ("xterm", "latin-1", False), ("dumb", "utf-8", False)],
)
def test_a_terminal_is_drawn_on_where_it_takes_blocks(
    term: str, encoding: str, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    main, worker = os.openpty()
    with open(worker, "w", encoding=encoding) as stream:
        assert is_terminal(stream) is drawn
    os.close(main)


@dataclass(frozen=True)
class WithNorm(EpochMetrics):
    gradient_norm: float | None = None


def test_a_new_figure_has_a_column_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "EpochMetrics", WithNorm)
    lacks = WithNorm(**asdict(metrics(1, cuda=False)))
    last = epochs.columns("test")[-1]
    shown = [last.show(epochs.row(one, 15)[last.key])
             for one in (lacks, replace(lacks, gradient_norm=0.123456))]  # fmt: skip
    assert (last.key, last.title, shown) == ("gradient_norm", "gradient norm", ["–", "0.1235"])
    assert lines(80, cuda=False)[-3].split()[-1] != "norm"
    assert lines(140, cuda=False)[-3].split()[-1] == "norm"
