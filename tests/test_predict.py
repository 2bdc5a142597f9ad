"""`mnistcli predict` as a user and a script see it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Cli, document, values
from PIL import Image, ImageOps

from mnistcli.data import mnist


@pytest.fixture
def pictures(dataset: mnist.Dataset, tmp_path: Path) -> list[str]:
    """Three test digits (7, 2, 1) as a person would have them: large, dark on light."""
    paths = []
    for pixels, label in zip(
        dataset.test.images[:3], dataset.test.labels[:3].tolist(), strict=True
    ):
        digit = Image.frombytes("L", (28, 28), pixels.numpy().tobytes()).resize((200, 200))
        paths.append(str(tmp_path / f"a {label}.png"))
        ImageOps.invert(digit).save(paths[-1])
    return paths


def test_several_pictures_give_a_line_each(cli: Cli, pictures: list[str]) -> None:
    done = cli("predict", "v3", *pictures)
    assert done.returncode == 0
    rows = [values(line) for line in done.stdout.splitlines()]
    assert [row["digit"] for row in rows] == ["7", "2", "1"]
    assert {row["polarity"] for row in rows} == {"dark-on-light"}
    assert min(float(row["probability"]) for row in rows) > 0.9
    assert done.stdout.isascii()


def test_json_has_the_top_three(cli: Cli, pictures: list[str]) -> None:
    report = document(cli("predict", "v3", "--json", *pictures).stdout)
    first = report["pictures"][0]
    assert (first["digit"], first["file"], first["width"]) == (7, pictures[0], 200)
    shares = [guess["probability"] for guess in first["top"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


def test_an_unreadable_picture_exits_4_after_the_others(
    cli: Cli, pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    wrong = [str(tmp_path / "bad.png"), str(tmp_path / "absent.png")]
    done = cli("predict", "v3", pictures[0], *wrong, pictures[1])
    assert done.returncode == 4
    assert [values(line)["digit"] for line in done.stdout.splitlines()] == ["7", "2"]
    assert all(path in done.stderr for path in wrong)
    report = document(cli("predict", "v3", "--json", wrong[0], pictures[2]).stdout)
    assert (report["ok"], report["error"]["exit_code"]) == (False, 4)
    assert [one["digit"] for one in report["pictures"]] == [1]
    assert [one["file"] for one in report["unread"]] == [wrong[0]]


def test_a_terminal_draws_what_the_network_saw(
    cli: Cli, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    done = cli("predict", "v3", pictures[0], "--progress", "live")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("█" in line[:28] for line in lines) > 3
    assert any("dark on light" in line for line in lines)


def test_two_digits_are_doubted_beside_the_guess(
    cli: Cli, pictures: list[str], tmp_path: Path
) -> None:
    page = Image.new("L", (400, 200), 255)
    for number, path in enumerate(pictures[:2]):
        page.paste(Image.open(path), (200 * number, 0))
    page.save(tmp_path / "both.png")
    line = ("predict", "v3", pictures[0], str(tmp_path / "both.png"))
    done = cli(*line)
    assert done.returncode == 0
    sure, unlike = done.stdout.splitlines()
    assert "doubt=" not in sure
    assert 'doubt="more than one large piece' in unlike
    assert "doubt: more than one large piece" in cli(*line, "--progress", "live").stdout
    first, second = document(cli(*line, "--json").stdout)["pictures"]
    assert first["doubt"] is None
    assert second["doubt"].startswith("more than one large piece")


def test_names_with_control_codes_are_shown_escaped(
    cli: Cli, pictures: list[str], tmp_path: Path
) -> None:
    odd = str(tmp_path / "a\x1b[31m\nb.png")
    Path(odd).write_bytes(Path(pictures[0]).read_bytes())
    absent = odd + "\x07"
    for words in ([], ["--progress", "live"]):
        done = cli("predict", "v3", odd, absent, *words)
        assert done.returncode == 4
        assert "\x1b[31m" not in done.stdout + done.stderr
        assert "a\\x1b[31m\\nb.png\\x07" in done.stderr
        assert "\\nb.png" in done.stdout
    report = document(cli("predict", "v3", "--json", odd, absent).stdout)
    assert report["pictures"][0]["file"] == odd
    assert report["unread"][0]["file"] == absent


def test_a_wrong_checkpoint_is_named_before_any_picture(cli: Cli, pictures: list[str]) -> None:
    assert cli("predict", "v0", *pictures).returncode == 4
    assert cli("predict", "v3").returncode == 2
