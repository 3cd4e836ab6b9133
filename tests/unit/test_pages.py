"""The pages of docs/ are true: their code runs, from top to bottom, and what it asserts holds."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))

OF_OTHERS = {
    "clusters",  # commands for what is not here
    "kubernetes",  # the same; the files that it names are tested
    "reference",  # made from the docstrings, of which test_reference.py asks that it be so
}
"""Pages that have no code of their own to run."""

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def blocks(page: Path) -> list[tuple[int, str]]:
    """Give the Python of a page, and how many lines of the page stand before each block."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, one.start(1)), one.group(1)) for one in _BLOCK.finditer(text)]


def logs() -> list[tuple[int, list[logging.Handler]]]:
    """Tell how logging is set: a page may change it for its reader, and puts it back."""
    return [(one.level, [*one.handlers]) for one in map(logging.getLogger, (None, "raystream"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    before_page = logs()
    # What a block writes into "out" is not of this repository.
    monkeypatch.chdir(tmp_path)
    known = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for before, block in blocks(page):
            # The empty lines let a traceback name the line of the page.
            code = compile("\n" * before + block, str(page), "exec")
            exec(code, known)  # noqa: S102  it is our own page
    assert logs() == before_page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_it_says(page):
    found = [block for _, block in blocks(page)]
    if page.stem not in OF_OTHERS:
        assert len(found) >= 4
        assert sum(len(re.findall(r"^ *assert ", block, re.MULTILINE)) for block in found) >= 6
    # A block in another language, or in none, is a picture: nothing that looks like code hides.
    text = page.read_text(encoding="utf-8")
    fences = [line for line in text.split("\n") if line.startswith("```")]
    assert set(fences) <= {"```", "```python", "```text"}
    assert fences.count("```") * 2 == len(fences)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page):
    lost = [
        link
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert lost == []


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert PAGES
    for page in PAGES:
        assert f"](docs/{page.name})" in readme
