"""The pages that people read: short where promised, links that lead somewhere, true trees."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from mnistcli import errors

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in ("", "checkpoints", "configs", "configs/study", "tests")
    for page in (ROOT / folder).glob("*.md")
)


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 170
    assert len(text.split()) <= 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if heading else []
        slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not heading or heading in slugs, target


def test_files_that_a_change_touches_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| to add | touch |")[2]
    named = [name for name in re.findall(r"`([\w/]+\.py)`", table) if "NAME" not in name]
    assert len(named) > 8
    for name in named:
        path = name if name.startswith("mnistcli/") else f"mnistcli/{name}"
        assert (ROOT / path).is_file(), name


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn, above = {}, list[tuple[int, str]]()
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+)(?: +(\S+))?(?:  |$)", line):
            indent, name, code = len(found[1]), found[2], found[3]
            above = [(depth, parent) for depth, parent in above if depth < indent]
            drawn[name] = (above[-1][1] if above else None, code)
            above.append((indent, name))
    family = {
        name: one
        for name, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, BaseException) and one.__module__ == errors.__name__
    }
    assert drawn.keys() - {"Exception", "BaseException"} == family.keys()
    for name, one in family.items():
        parent, code = drawn[name]
        assert parent == one.__bases__[0].__name__
        if name not in ("SetError", "Interrupted", "SetEnded"):  # decided where they are raised
            assert code == str(one.exit_code), name
