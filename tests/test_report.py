"""`mnistcli report`: the write-up, its words, its links, and the README's table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli, document

from mnistcli import recipe
from mnistcli.models.registry import COMPARED
from mnistcli.results import runlog
from mnistcli.results.gather import gather

README = Path(__file__).parents[1] / "README.md"
IN_FULL = README.parent / "checkpoints" / "README.md"
STUDY = README.parent / "configs" / "study" / "README.md"


def test_every_model_has_target_result_and_analysis(cli: Cli) -> None:
    text = cli("report").stdout
    recorded = {run["model"] for run in gather([]).results}
    last = [name for name in COMPARED if name in recorded][-1]
    assert [line for line in text.splitlines() if line.startswith("## ")][-1] == f"## {last}"
    sections = text.split("\n## ")[1:]
    assert len(sections) >= 6
    for section in sections:
        places = [section.index(word) for word in ("**Target.**", "**Result.**", "**Analysis.**")]
        assert places == sorted(places)
        assert "none yet" not in section
        assert "Measured on:" in section
    notes = recipe.load("v3").notes
    assert notes is not None
    assert notes.target in text


@pytest.mark.slow
def test_a_runs_epochs_pictures_and_words_are_its_own(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--set", "notes.target=Fast.", "--set", "notes.analysis=It *was*.", out="a run")
    (tmp_path / "a run" / "curves.png").touch()
    (tmp_path / "docs").mkdir()
    out = tmp_path / "docs" / "report.md"
    done = cli("report", str(tmp_path / "a run"), "--out", str(out))
    assert done.stdout == f"result report={out} rows=1\n"
    text = out.read_text()
    assert "**Target.** Fast." in text
    assert "It *was*." in text
    assert "![v3, seed 0: curves](<../a run/curves.png>)" in text
    assert "misclassified" not in text
    assert "| 2/2 |" in text


@pytest.mark.slow
def test_the_terminal_of_one_run_is_drawn_and_of_several_refused(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small()
    done = cli("report", str(tmp_path / "run"), "--svg", str(tmp_path / "run.svg"), "-q")
    assert done.returncode == 0
    svg = (tmp_path / "run.svg").read_text()
    assert svg.startswith("<svg")
    last = runlog.read_metrics(tmp_path / "run")[-1]
    assert f"{last.eval_correct:,}" in svg
    train_small("--recipe", "baseline/v3", "--seed", "5", "--set", "augment.fade_epochs=1", out="b")
    cli("report", str(tmp_path / "b"), "--svg", str(tmp_path / "run.svg"), "-q")
    words = "--epochs 2 --recipe baseline/v3 --seed 5 --set augment.fade_epochs=1"
    assert words.replace(" ", "&#160;") in (tmp_path / "run.svg").read_text()
    assert cli("report", "v3", "--svg", str(tmp_path / "no.svg")).returncode == 2


@pytest.mark.slow
def test_a_changed_recipe_does_not_inherit_the_words(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--seeds", "0-1", "--set", "notes.target=Mine.")
    document_ = document(cli("report", str(tmp_path / "run"), "--json").stdout)
    notes = recipe.load("v3").notes
    assert notes is not None
    assert notes.analysis not in document_["markdown"]
    assert "none yet" in document_["markdown"]
    assert "**Target.** Mine." in document_["markdown"]
    assert "mean of 2 seeds (0, 1)" in document_["markdown"]


def test_words_decide_no_figure(tmp_path: Path) -> None:
    plain, said = recipe.load("v3"), recipe.load("v3", settings=["notes.target=x"])
    assert plain.digest() == said.digest()
    assert "notes" not in said.model_dump()
    assert recipe.differences(plain, said) == ()
    copy = tmp_path / "copy.yaml"
    copy.write_text(said.to_yaml())
    assert recipe.load(str(copy)) == said != plain
    assert recipe.load("v3", model="v2").notes is None


@pytest.mark.parametrize("page", [README, IN_FULL], ids=["by network", "in full"])
def test_published_results_are_what_the_command_writes(
    page: Path, cli: Cli, tmp_path: Path
) -> None:
    copy = tmp_path / "README.md"
    shutil.copy(page, copy)
    assert cli("report", "--update", str(copy)).returncode == 0
    assert copy.read_text() == page.read_text()


@pytest.mark.slow
def test_results_by_network_stand_beside_each_other(
    train_small: Cli, cli: Cli, tmp_path: Path
) -> None:
    train_small("--seeds", "0-2", "--no-teacher", out="runs")
    train_small("--recipe", "baseline/v3", out="old")
    page = tmp_path / "a.md"
    page.write_text("<!-- results by network -->\n\n<!-- /results -->\n")
    assert cli("report", str(tmp_path / "*"), "--update", str(page)).returncode == 0
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| v3")]
    _, name, design, parameters, alone, passes, taught, _, _ = (c.strip() for c in row.split("|"))
    assert (name, parameters, passes, taught) == ("v3", "7,820", "0 of 3", "–")
    assert design
    summary = document(cli("compare", str(tmp_path / "runs"), "--json").stdout)["rows"][0]
    low, high = summary["interval"]
    assert alone == f"{100 * summary['mean']:.2f} % ± {50 * (high - low):.2f} (3)"


@pytest.mark.processes
def test_the_studies_tables_are_what_the_script_writes(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    shutil.copy(STUDY, copy)
    script = [sys.executable, str(STUDY.with_name("publish.py")), "tables", "--readme", str(copy)]
    subprocess.run(script, check=True)
    assert copy.read_text() == STUDY.read_text()


@pytest.mark.parametrize("text", ["no markers", "<!-- results -->\n", None])
@pytest.mark.slow
def test_a_file_without_one_pair_of_markers_stays(
    text: str | None, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "README.md"
    if text is not None:
        path.write_text(text)
    assert cli("report", "--update", str(path)).returncode == 2
    assert text is None or path.read_text() == text


def test_an_update_keeps_mode_line_endings_and_all_outside_the_markers(
    cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "a.md"
    before, after = b"one\r\n<!-- results -->\r\n", b"\r\n<!-- /results -->\r\n\r\n\r\ntwo"
    path.write_bytes(before + b"old" + after)
    path.chmod(0o600)
    assert cli("report", "--update", str(path)).returncode == 0
    text = path.read_bytes()
    assert (text.startswith(before), text.endswith(after)) == (True, True)
    assert text.count(b"\n") == text.count(b"\r\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert cli("report", "--update", str(path)).returncode == 0
    assert path.read_bytes() == text


def test_a_second_opening_marker_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    text = "<!-- results -->\nmine\n<!-- results -->\n\n<!-- /results -->\n"
    path.write_text(text)
    assert (cli("report", "--update", str(path)).returncode, path.read_text()) == (2, text)
