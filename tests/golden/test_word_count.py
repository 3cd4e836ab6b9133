"""Words of a real text, counted by the script, by the command line and by a Counter."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from goldens import ROOT, program

SCRIPT = ROOT / "jobs" / "word_count.py"

VERSE = """Über allen Gipfeln
Ist Ruh,

In allen  Wipfeln
Spürest du
Kaum einen Hauch;"""


def words(text: Path) -> Counter[str]:
    return Counter(word for word in text.read_text().lower().replace("\n", " ").split(" ") if word)


def printed(output: str) -> list[tuple[str, int]]:
    rows = [ast.literal_eval(line) for line in output.splitlines()]
    assert all(row.keys() == {"word", "n"} for row in rows)
    return sorted((row["word"], row["n"]) for row in rows)


@pytest.fixture
def verse(tmp_path) -> Path:
    path = tmp_path / "verse.txt"
    path.write_text(VERSE)
    return path


def on_the_command_line(text: Path, *flags: str, ray: str | None = None) -> list[tuple[str, int]]:
    command = ("-m", "raystream.ops.cli", "run", SCRIPT, *flags, "--", text)
    return printed(program(*command, ray=ray))


@pytest.mark.slow
@pytest.mark.parametrize("parallelism", ["1", "2"])
def test_a_licence_has_the_words_that_a_counter_finds(parallelism):
    text = ROOT / "LICENSE"
    counted = on_the_command_line(text, "--runtime", "local", "-p", parallelism)
    assert counted == sorted(words(text).items())
    assert sum(n for _, n in counted) > 1_500


@pytest.mark.slow
def test_letters_beyond_ascii_empty_lines_and_two_blanks_are_no_trouble(verse):
    counted = on_the_command_line(verse, "--runtime", "local")
    assert counted == sorted(words(verse).items())
    assert ("über", 1) in counted


@pytest.mark.slow
@pytest.mark.cluster
def test_the_script_alone_and_the_command_line_count_the_same_on_ray(ray_cluster, verse):
    expected = sorted(words(verse).items())
    assert printed(program(SCRIPT, verse, ray=ray_cluster)) == expected
    assert on_the_command_line(verse, "-p", "2", ray=ray_cluster) == expected
