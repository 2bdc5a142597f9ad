"""A finished run's terminal as SVG."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Cli

from mnistcli.results.goal import Limits
from mnistcli.results.runlog import read_json, read_metrics
from mnistcli.view.replay import terminal_svg


@pytest.mark.slow
def test_the_picture_holds_the_runs_own_figures(train_small: Cli, tmp_path: Path) -> None:
    train_small()
    result, history = read_json(tmp_path / "run" / "result.json"), read_metrics(tmp_path / "run")
    assert result is not None
    command = "mnistcli train --model v3 --epochs 2"
    svg = terminal_svg(result, history, Limits(), command=command, folder="checkpoints/v3/run")
    words = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    for expected in (command, "7,820", "2/2", f"{100 * history[-1].accuracy:.2f}%", "FAIL"):
        assert expected in words
    assert str(tmp_path) not in words
    assert "url(" not in svg.replace("url(#", "")
    assert svg == terminal_svg(
        result, history, Limits(), command=command, folder="checkpoints/v3/run"
    )
