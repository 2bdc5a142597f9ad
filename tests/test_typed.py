"""What people type: words that are understood, explained, or answered with the nearest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Cli, document


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train v3 --model v4", "MODEL is 'v3', and --model is 'v4'"),
        ("train baseline/v3", "--recipe baseline/v3"),
        ("train v3 --target 0.994", "--target 99.4?"),
        ("evaluate v3 --target 1.0", "means 1.0 %"),
        ("train v3 --set seed=5 --seeds 0-2", "--set seed=…"),
        ("train v3 --seed 5 --seeds 0-2", "exclude each other"),
        ("train v3 --seeds 0-" + "9" * 5000, "can't read seeds"),
        ("train v3 --seeds ٣", "can't read seeds"),
        ("train v3 --teacher v4 --set distillation.teacher=v6", "by its own option"),
        ("train v3 --no-teacher --set distillation.weight=1", "by its own option"),
        ("train v3 --resume=~/none", str(Path.home() / "none")),
        ("summary v6 --set epochs=3", "model_args.KEY=VALUE"),
        ("summary v6 --set model_args.stagse=8", "stages"),
        ("train v3 --recipe zzz", "baseline/v3 and"),
    ],
)
def test_what_people_type_is_understood_or_explained(line: str, expected: str, cli: Cli) -> None:
    done = cli(*line.split(" "))
    assert done.returncode in (2, 4)
    assert expected in done.stderr
    assert len(done.stderr) < 6_000


def test_a_network_is_named_by_its_place_or_by_its_option(cli: Cli) -> None:
    documents = [
        document(cli("train", *words.split(), "--print-recipe", "--json").stdout)
        for words in ("v6", "--model v6", "v6 --model v6", "--recipe v3 --set model=v6")
    ]
    assert documents[0] == documents[1] == documents[2]
    assert documents[3]["recipe"]["model_args"] == documents[0]["recipe"]["model_args"]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("v3 --set optim.lr=abc", "--set optim.lr=abc"),
        ("v3 --set optim.lr=abc --set epochs=x", "--set"),
        ("v3 --lr -1", "the options"),
    ],
)
def test_a_mistake_is_where_it_was_typed(line: str, where: str, cli: Cli) -> None:
    done = cli("train", *line.split(), "--json")
    assert document(done.stdout)["error"]["where"] == where


def test_a_mistake_of_the_file_is_there(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(cli("train", "v3", "--print-recipe").stdout.replace("lr: 0.2", "lr: -1"))
    done = cli("train", "--recipe", str(file), "--set", "optim.momentum=2", "--json")
    error = document(done.stdout)["error"]
    assert error["where"] == str(file)
    assert "lr" in error["what"]
    assert "momentum" in error["what"]


def test_summary_takes_the_networks_arguments(cli: Cli) -> None:
    line = ["summary", "v6", "--set", "model_args.stages=8-8 8-8 8", "--json"]
    assert document(cli(*line).stdout)["models"][0]["parameters"] == 2954


def test_a_path_behind_an_equals_sign_goes_home(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    done = cli("train", "v3", "--data-dir=~/pictures", "--dry-run", "--json")
    assert document(done.stdout)["error"]["where"].startswith("/nowhere/pictures")
    assert "'/nowhere/r.yaml'" in cli("train", "--recipe=~/r.yaml").stderr


@pytest.mark.parametrize(
    "line",
    [
        "evaluate v1 --data-dir={} --out=~/x/y --predictions=~/x/y",
        "compare v1 --plot=~/x/y",
        "compare --baseline=~/x/y",
        "compare ~/x/*",
        "report v1 --out=~/x/y",
        "report --update=~/x/y",
        "report v1 --svg=~/x/y",
        "bench --recipe=~/x/y",
        "predict ~/x/y a.png",
        "predict v1 ~/x/y",
        "summary ~/x/y.py:f",
        "bench ~/x/y.py:f",
    ],
)
@pytest.mark.slow
def test_every_path_goes_home(
    line: str, cli: Cli, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    done = cli(*line.format(tiny_data).split())
    assert done.returncode != 0
    assert "/nowhere/x" in done.stderr or "--svg draws one run" in done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trian", "train"),
        ("sumary v3", "summary"),
        ("train --modle v3", "--model"),
        ("compare --formt csv", "--format"),
        ("train --model v33", "v3"),
        ("evaluate v33", "v3"),
        ("bench v33", "v3"),
        ("compare v33", "v3"),
        ("report v33", "v3"),
        ("train --model v3 --recipe basline/v3", "baseline/v3"),
        ("train --model v3 --set optim.momentun=0.5", "momentum"),
        ("evaluate v3 --require accurcy", "accuracy"),
        ("doctor --require compler", "compiler"),
        ("compare --format tabel", "table"),
        ("train --model v3 --compile onn", "on"),
        ("summary net.py", "net.py:FACTORY"),
    ],
)
def test_a_wrong_word_names_the_nearest(line: str, expected: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert done.returncode in (2, 4)
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert re.search(rf"(?<![\w/-]){re.escape(expected)}(?!\w)", f"{error} {hint}")


@pytest.mark.parametrize(
    "line", ["--json trian", "trian --json", "--json summary v0", "summary --json v0", "--json"]
)
def test_json_anywhere_on_the_line_is_one_document(line: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert (done.returncode, document(done.stdout)["error"]["exit_code"]) == (2, 2)


def test_json_before_the_command_is_json(cli: Cli) -> None:
    assert document(cli("--json", "summary", "v3").stdout)["command"] == "summary"
    assert "mnistcli" in document(cli("--version", "--json").stdout)["text"]
