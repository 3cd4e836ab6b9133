"""The page of the API says what its table of routes says."""

from __future__ import annotations

from pathlib import Path

from raystream.ops.http.openapi import table

PAGE = Path(__file__).parents[4] / "docs" / "http.md"


def test_the_page_has_the_table_of_routes():
    assert f"\n\n{table()}\n\n" in PAGE.read_text(encoding="utf-8")
