"""``raystream state ls`` and ``raystream state dump``: what a checkpoint or savepoint holds."""

from __future__ import annotations

import builtins
import dataclasses
import pickle
from typing import Any

import click
import pyarrow as pa

import raystream as rs
from raystream.ops.printing import json_option, print_json, print_table

path_argument = click.argument("path")


@click.group(short_help="Look into checkpoints and savepoints.")
def state() -> None:
    """Look into checkpoints and savepoints, with no job running.

    PATH is a manifest, the folder of a savepoint, or that of a job: then its newest checkpoint.
    """


@state.command("ls")
@path_argument
@json_option
def list_state(*, path: str, as_json: bool) -> None:
    """List what PATH holds, operator by operator."""
    held = rs.state.list(path)
    if as_json:
        print_json([dataclasses.asdict(one) for one in held])
        return
    rows = [
        (one.uid, one.verb, one.name, ", ".join(one.keys), one.type, one.rows, one.bytes)
        for one in held
    ]
    print_table(("uid", "verb", "name", "key", "type", "rows", "bytes"), rows)


@state.command("dump")
@path_argument
@click.argument("uid")
@click.argument("name", required=False)
@click.option("--allow-pickle", is_flag=True, help="Also run what is pickled: trust PATH.")
@json_option
def dump_state(*, path: str, uid: str, name: str | None, allow_pickle: bool, as_json: bool) -> None:
    """Print the state NAME of the operator UID: one line for each row."""
    table = _readable(rs.state.read(path, uid, name, allow_pickle=allow_pickle), allow_pickle)
    if as_json:
        print_json(table.to_pylist())
    else:
        print_table(table.column_names, [tuple(row.values()) for row in table.to_pylist()])


def _readable(table: pa.Table, trusted: bool) -> pa.Table:
    """Show Python values that Arrow has no type for as Python does."""
    for place, field in enumerate(table.schema):
        if trusted and field.name in ("pickled", "pickled_key", "__key"):
            column = pa.array(builtins.list(map(_shown, table.column(place).to_pylist())))
            table = table.set_column(place, field.name, column)
    return table


def _shown(raw: Any) -> str:
    if isinstance(raw, builtins.list):
        return f"[{', '.join(map(_shown, raw))}]"
    return repr(pickle.loads(raw))
