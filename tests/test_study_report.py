"""A study written up: Markdown with its pictures, and one HTML page that needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Cli

from mnistcli.view.page import to_page

STUDY = """
question: Which <b>rate</b> | is best?
base: plain/v3
common: {epochs: 1, batch_size: 32, ema_decay: null, augment: null}
arms: {slow: {optim.lr: 0.02}}
seeds: 0-2
sd: 1
"""


class Tags(HTMLParser):
    """Collects what a page would load, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read_page(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


@pytest.mark.slow
def test_a_study_is_written_up_in_markdown_and_as_a_page(
    tiny_data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rate.yaml").write_text(STUDY)
    line = ["study", "rate.yaml", "--data-dir", str(tiny_data), "--threads", "1", "--out", "rate"]
    assert cli(*line).returncode == 0
    text = cli("report", "rate").stdout
    places = [text.index(f"## {name}") for name in ("Target", "Result", "Analysis", "How it was")]
    assert places == sorted(places)
    assert "![arms](<rate/arms.png>)" in text
    assert "registered before the first run" in text
    done = cli("report", "rate", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    page = Path("page.html").read_text()
    tags = read_page(page)
    assert len(tags.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in tags.sources)
    assert "<b>rate" not in page
    assert not re.search(r"https?://", page)
    Path("rate/arms.png").unlink()  # a report is written without a picture that is gone
    assert cli("report", "rate", "--html", "page.html").returncode == 0


def test_networks_have_a_page_too(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "v6.html"
    done = cli("report", "v6", "--html", str(page), "--out", str(tmp_path / "v6.md"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v6.md").read_text().startswith("# Results")
    read_page(page.read_text())
    assert "<table>" in page.read_text()


def test_what_looks_like_html_is_text_and_no_strange_picture_is_read(tmp_path: Path) -> None:
    page = to_page("# <script>x</script>\n\n[a](javascript:x) <img src=x onerror=y>", tmp_path)
    tags = read_page(page)
    assert "<script" not in page
    assert "<img" not in page
    assert tags.sources == []
