"""docs/cli.md names every command, every exit code and every setting, and none besides."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from raystream.api.setting_table import SETTINGS
from raystream.config import WORDS
from raystream.ops.cli import commands
from raystream.ops.failures import EXITS

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")


def rows_of(heading: str) -> list[list[str]]:
    """Read the table below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def verbs(group: click.Group, before: str = "") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        inner = verbs(command, f"{name} ") if isinstance(command, click.Group) else {name}
        found |= {before + one for one in inner}
    return found


def test_the_exit_codes_are_those_of_the_code():
    assert {int(code): meaning for code, meaning in rows_of("Exit codes")} == EXITS


def test_each_command_stands_on_the_page():
    shown = {
        re.match(r"`([a-z]+(?: (?:ls|dump))?)", row[0]).group(1) for row in rows_of("Commands")
    }
    assert shown == verbs(commands)


@pytest.mark.parametrize("row", rows_of("Commands"), ids=lambda row: row[0])
def test_each_flag_that_the_page_names_is_there(row):
    words = re.match(r"`([a-z]+)(?: (ls|dump))?", row[0]).groups()
    command: click.Command = commands
    for word in filter(None, words):
        command = command.commands[word]
    known = {flag for param in command.params for flag in param.opts}
    assert set(re.findall(r"`(--?[a-z-]+)", row[1])) <= known


def test_each_setting_stands_on_the_page():
    shown = [row[0].strip("`") for row in rows_of("Settings")]
    # Limits are numbers, and many; those that are a choice of words stand here.
    told = [one.name for one in SETTINGS if one.group != "limits" or one.name in WORDS]
    assert shown == told
