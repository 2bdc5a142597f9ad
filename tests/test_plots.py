"""The PNG pictures of a run: drawn from what it has, never in the way of its result."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Cli, document, values
from PIL import Image
from test_live import metrics

from mnistcli import recipe
from mnistcli.data import mnist
from mnistcli.data.warped import warped
from mnistcli.events import Mistake
from mnistcli.view import plots

PICTURES = ("curves.png", "confusion.png", "misclassified.png")


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image.size


@pytest.mark.processes
def test_matplotlib_is_imported_where_a_picture_is_drawn() -> None:
    program = "import sys, mnistcli.view.plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_curves_are_drawn_for_one_epoch_and_for_many() -> None:
    course = [replace(metrics(i, cuda=True), eval_correct=9_000 + i, best_correct=9_000 + i)
              for i in range(1, 16)]  # fmt: skip
    pictures = [plots.curves(course[:count], "v3", "99.4") for count in (1, 15)]
    assert pictures[0] != pictures[1]
    assert min(size(pictures[1])) > 600


@pytest.mark.slow
def test_a_sheet_has_room_for_sixty_and_says_so_for_none() -> None:
    one = Mistake(7, 4, 9, 0.87, bytes(range(196)) * 4)
    none, few, many = (plots.misclassified([one] * count, "v3") for count in (0, 11, 100))
    assert size(none)[1] < size(few)[1] < size(many)[1]
    assert size(none)[0] == size(many)[0]


@pytest.mark.slow
def test_a_run_leaves_its_pictures(train_small: Cli, tmp_path: Path) -> None:
    assert train_small("--plots").returncode == 0
    for name in PICTURES:
        assert min(size((tmp_path / "run" / name).read_bytes())) > 100
    assert train_small(out="bare").returncode == 0
    assert not any((tmp_path / "bare" / name).exists() for name in PICTURES)


@pytest.mark.processes
@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_no_file_or_variable_of_a_user_decides_how_a_picture_looks(
    backend: str, tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: black\nfont.size: x")
    course = "[metrics(i, cuda=True) for i in (1, 2)]"
    program = (
        "import sys; from test_live import metrics; from mnistcli.view import plots; "
        f"sys.stdout.buffer.write(plots.curves({course}, 'v3', '99.4'))"
    )
    paths = os.pathsep.join([str(Path(plots.__file__).parents[2]), str(Path(__file__).parent)])
    variables = {"PYTHONPATH": paths, "MPLBACKEND": backend, "MPLCONFIGDIR": "/proc/none"}
    line, everything = [sys.executable, "-c", program], os.environ | variables
    done = subprocess.run(line, capture_output=True, cwd=tmp_path, env=everything)
    assert done.stderr == b""
    assert done.stdout == plots.curves([metrics(i, cuda=True) for i in (1, 2)], "v3", "99.4")


@pytest.mark.slow
def test_a_missing_matplotlib_loses_nothing(
    train_small: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = train_small("--plots")
    assert done.returncode == 0
    assert "notice: pictures not drawn" in done.stderr
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_evaluate_draws_into_a_folder_and_lists_each_mistake(
    train_small: Cli, cli: Cli, small_data: Path, tmp_path: Path
) -> None:
    train_small()
    line = ["evaluate", str(tmp_path / "run"), "--data-dir", str(small_data)]
    done = cli(*line, "--out", str(tmp_path / "new" / "pictures"))
    wrong = [values(line) for line in done.stdout.splitlines() if line.startswith("misclassified")]
    result = values(done.stdout.splitlines()[-1])
    assert len(wrong) == int(result["total"]) - int(result["correct"])
    assert all(one["true"] != one["predicted"] for one in wrong)
    assert {path.name for path in (tmp_path / "new" / "pictures").iterdir()} == set(PICTURES[1:])
    report = document(cli(*line, "--json").stdout)
    assert [str(one["index"]) for one in report["misclassified"]] == [one["index"] for one in wrong]
    sure = [one["confidence"] for one in report["misclassified"]]
    assert sure == sorted(sure, reverse=True)


@pytest.mark.slow
def test_summary_draws_what_training_sees(cli: Cli, small_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "seen.png"
    done = cli("summary", "v3", "--augmented", str(file), "--data-dir", str(small_data))
    assert done.returncode == 0, done.stderr
    assert file.read_bytes().startswith(b"\x89PNG")
    assert cli("summary", "--augmented", str(file)).returncode == 2


def test_warped_pictures_are_those_of_the_recipe(dataset: mnist.Dataset) -> None:
    ten = recipe.load("v3")
    pictures = warped(dataset.train, ten)
    assert len(pictures) == 100
    assert all(one != pictures[0] for one in pictures[1:10])
    still = ten.model_copy(update={"augment": ten.augment.model_copy(update=dict.fromkeys(
        ("rotation_degrees", "shift_fraction", "scale_fraction", "shear_degrees",
         "elastic_alpha"), 0.0))})  # fmt: skip
    assert set(warped(dataset.train, still)[:10]) == {pictures[0]}
