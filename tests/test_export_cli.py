"""`mnistcli export` as a user meets it: files, gates, documents, and what is missing."""

from __future__ import annotations

import json
import shutil
from importlib import util
from pathlib import Path

import pytest
from conftest import Cli, document, values

from mnistcli.data import mnist
from mnistcli.export import c_file, check

needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler here")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@needs_compiler
@pytest.mark.slow
def test_c_is_written_compiled_and_found_to_answer_alike(cli: Cli, small_data: Path) -> None:
    done = cli("export", "v6", "--to", "c", "--data-dir", str(small_data), "--require", "same")
    assert done.returncode == 0, done.stderr
    found = values(done.stdout.splitlines()[0])
    assert (found["changed"], found["total"]) == ("0", "130")
    assert float(found["largest_difference"]) < 1e-4
    assert (
        "int mnist_predict(const uint8_t image[784], float scores[10])" in Path("v6.c").read_text()
    )


@needs_compiler
@pytest.mark.slow
def test_integers_are_reported_as_one_document(cli: Cli, small_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "digits.c"
    words = ("--to", "c-int8", "--out", str(file), "--data-dir", str(small_data), "--json")
    done = cli("export", "v6", *words)
    report = document(done.stdout)
    assert report["file"] == str(file)
    assert report["weights_bytes"] < 8 * 1024
    assert report["memory_bytes"] < 2 * 1024
    assert report["bytes"] == file.stat().st_size
    assert abs(report["after"]["correct"] - report["before"]["correct"]) <= report["changed"]
    assert " float " not in file.read_text()


@needs_compiler
@pytest.mark.slow
def test_a_gate_that_fails_exits_3_with_its_report(
    cli: Cli, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = check.run_c

    def other(*arguments: object, **named: bool) -> check.Answers:
        found = answers(*arguments, **named)  # type: ignore[arg-type]
        found.digits[:3] = (found.digits[:3] + 1) % 10
        return found

    monkeypatch.setattr(check, "run_c", other)
    words = ("export", "v6", "--to", "c", "--data-dir", str(small_data), "--json")
    assert cli(*words, "--max-changed", "3").returncode == 0
    done = cli(*words, "--max-changed", "2")
    assert done.returncode == 3
    assert document(done.stdout)["changed"] == 3
    assert "3 of 130 answers changed, 2 may" in done.stderr
    assert cli(*words, "--require", "same").returncode == 3


@pytest.mark.slow
def test_without_a_compiler_the_file_is_written_and_a_gate_exits_5(
    cli: Cli, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    words = ("export", "v6", "--to", "c", "--data-dir", str(small_data))
    done = cli(*words)
    assert done.returncode == 0
    assert "not checked: no-such-compiler does not run" in done.stderr
    assert Path("v6.c").exists()
    assert cli(*words, "--require", "same").returncode == 5


@pytest.mark.slow
def test_an_unknown_layer_is_a_sentence(cli: Cli, small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def tiny():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.GELU())\n"
    )
    words = ("--epochs", "1", "--data-dir", str(small_data), "--no-plots", "--threads", "1")
    assert cli("train", "net.py:tiny", *words, "--out", "run").returncode == 0
    done = cli("export", "run", "--model", "net.py:tiny", "--to", "c")
    assert done.returncode == 2
    assert "uses GELU, which C and int8 don't support" in done.stderr
    assert not Path("tiny.c").exists()


@pytest.mark.slow
def test_onnx_names_the_packages_that_are_missing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = util.find_spec
    from mnistcli.export import programs

    monkeypatch.setattr(programs, "find_spec", lambda name: None if "onnx" in name else found(name))
    done = cli("export", "v6", "--to", "onnx")
    assert done.returncode == 5
    assert "pip install onnx onnxscript onnxruntime" in done.stderr
    assert "Traceback" not in done.stderr


def test_raw_input_is_not_for_c(cli: Cli) -> None:
    assert cli("export", "v6", "--to", "c", "--raw-input").returncode == 2


@pytest.mark.parametrize("raw", [(), ("--raw-input",)])
@pytest.mark.slow
def test_pt2_answers_alike(cli: Cli, small_data: Path, raw: tuple[str, ...]) -> None:
    words = ("--to", "pt2", "--data-dir", str(small_data), "--require", "same", "--json", *raw)
    done = cli("export", "v6", *words)
    assert done.returncode == 0, done.stderr
    report = document(done.stdout)
    assert report["largest_difference"] < 1e-4
    assert report["metadata"]["input"].startswith("images: uint8" if raw else "images: float32")


@pytest.mark.parametrize("raw", [(), ("--raw-input",)])
@pytest.mark.slow
def test_onnx_answers_alike_and_says_what_goes_in(
    cli: Cli, small_data: Path, dataset: mnist.Dataset, raw: tuple[str, ...]
) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra [export] is not installed")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    words = ("--to", "onnx", "--data-dir", str(small_data), "--require", "same", "--json", *raw)
    done = cli("export", "v6", *words)
    assert done.returncode == 0, done.stderr
    assert document(done.stdout)["opset"] == 18
    proto = onnx.load("v6.onnx")
    assert {p.key for p in proto.metadata_props} >= {"model", "input", "output", "weights_sha256"}
    if raw:
        session = onnxruntime.InferenceSession("v6.onnx")
        digits, _ = session.run(None, {"images": dataset.test.images[:7].numpy()})
        assert (digits == dataset.test.labels[:7].numpy()).sum() >= 6


@needs_compiler
@pytest.mark.slow
def test_evaluation_in_int8_answers_as_the_c_file_does(cli: Cli, small_data: Path) -> None:
    words = ("--data-dir", str(small_data), "--json")
    exported = document(cli("export", "v3", "--to", "c-int8", *words).stdout)
    done = cli("evaluate", "v3", "--precision", "int8", *words)
    evaluated = document(done.stdout)
    assert evaluated["precision"] == "int8"
    assert evaluated["correct"] == exported["after"]["correct"]
    whole = document(cli("evaluate", "v3", *words).stdout)
    assert whole["precision"] == "fp32"
    assert whole["loss"] != evaluated["loss"]


def test_a_name_ends_no_comment_of_the_c_file() -> None:
    assert c_file._in_comment("a*/b/*c\n\\é") == "a* /b/ *c?\\?"


@pytest.mark.slow
def test_a_runs_exports_are_in_its_report(
    train_small: Cli, cli: Cli, small_data: Path, tmp_path: Path
) -> None:
    train_small("--epochs", "1")
    run, page, data = str(tmp_path / "run"), tmp_path / "run.html", ("--data-dir", str(small_data))
    assert "**Exports**" not in cli("report", run).stdout
    for _ in range(2):  # the second takes the first one's place
        done = cli("export", run, "--to", "pt2", "--json", *data)
        assert done.returncode == 0, done.stderr
    found = document(done.stdout)
    cli("report", run, "--html", str(page))
    right, total = found["after"]["correct"], found["total"]
    cells = f'<td style="text-align:right">{right:,} of {total:,}</td>'
    assert page.read_text().count(cells) == 1
    assert f">{found['bytes']:,}</td>" in page.read_text()
    record = tmp_path / "run" / "exports.json"
    record.write_text(record.read_text().replace(found["weights_sha256"], "0" * 64))
    assert "**Exports**" not in cli("report", run).stdout  # of other weights
    record.write_text("[{}]")
    done = cli("report", run)
    assert done.returncode == 4
    assert "exports.json" in done.stderr
    assert "not noted" in cli("export", run, "--to", "pt2", *data).stderr


def test_the_report_of_a_network_has_the_exports_of_its_packaged_weights(cli: Cli) -> None:
    path = Path(__file__).parents[1] / "checkpoints" / "records" / "export.json"
    rows = [row for row in json.loads(path.read_text()) if row["model"] == "v6"]
    text = cli("report", "v6").stdout
    assert "**Exports** of the packaged weights" in text
    for row in rows:
        assert f"| {row['format']} | {row['bytes']:,} |" in text
