"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print a value on one line; what JSON does not know as text."""
    click.echo(json.dumps(value, default=_text, ensure_ascii=False))


def print_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below their names, each column as wide as it must be."""
    cells = [list(names), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
