"""The reference is what the docstrings say, and names every public name once."""

from __future__ import annotations

import re

import make_reference as made
import pytest

import raystream as rs


def test_the_page_is_what_the_docstrings_say():
    written = made.PAGE.read_text(encoding="utf-8")
    assert written == made.page(), "python tests/support/make_reference.py makes it anew"


def test_every_public_name_is_in_one_group():
    grouped = [name for names in made.GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    theirs = {name for name in made.public() if made.of_narwhals(getattr(rs, name))}
    assert theirs >= {"col", "Int64", "Decimal"}
    assert {*grouped} == made.public() - theirs


def test_every_name_of_the_page_says_something():
    said = re.split("^###? ", made.page(), flags=re.MULTILINE)[1:]
    assert len(said) > 120
    for part in said:
        title, _, text = part.partition("\n")
        words = re.sub("^```text.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        if title.startswith("`"):
            assert re.search(r"\w.*\.$", words.strip()), title
    assert not re.findall(r"^- `[^`]*`: *\n(?!  )", made.page(), re.MULTILINE)


def plain(a: int, b: str = "x", *, c: float | None = None) -> bool: ...


def varied(self, *rows, n=1, **more): ...


@pytest.mark.parametrize(
    ("called", "method", "shown"),
    [
        (plain, False, "f(a: int, b: str = 'x', *, c: float | None = None) -> bool"),
        (plain, True, "f(a, b='x', *, c=None)"),
        (varied, True, "f(*rows, n=1, **more)"),
    ],
)
def test_a_signature_is_shown_as_it_is_written(called, method, shown):
    assert made.signature("f", called, method=method) == shown


def test_a_long_signature_has_a_line_for_each_parameter():
    def long(first_of_all: dict[str, tuple[int, int]], second: dict[str, list[bytes]]) -> int: ...

    name = "rs.a_name_that_is_long_enough_for_lines"
    assert made.signature(name, long).split("\n")[1:] == [
        "    first_of_all: dict[str, tuple[int, int]],",
        "    second: dict[str, list[bytes]],",
        ") -> int",
    ]


def test_a_default_that_lies_in_memory_is_not_shown():
    assert made.default_of(plain) == "…"
    assert made.default_of("10s") == "'10s'"
