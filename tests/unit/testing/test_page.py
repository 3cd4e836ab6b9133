"""The page about testing is true: its code runs, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    known = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)  # noqa: S102  it is our own page
    assert sum(block.count("assert ") for block in blocks) >= 10
