"""Changelogs: which key their table has behind a verb, and the ways into them and out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.api.callsite import user_line
from raystream.api.checks import is_text
from raystream.api.columns import StreamColumns, check_name, same_type
from raystream.api.draft import Tip, check_not_broadcast
from raystream.api.join_checks import check_key
from raystream.errors import PlanError
from raystream.flow.exchange import Broadcast, Exchange, Forward, Hash, ToOne
from raystream.graph.logical import LogicalNode, StreamType, label
from raystream.operators.columns import Step, names_behind
from raystream.operators.to_changelog import ToChangelogSpec
from raystream.operators.to_rows import ToRowsSpec

TAKES_CHANGES = frozenset({"filter", "select", "with_columns", "drop", "rename", "map", "key_by"})
"""Verbs of one row at a time that a changelog goes through as it is."""


def key_behind(type: StreamType, step: Step, schema: pa.Schema) -> tuple[str, ...] | None:
    """Name the key of a changelog's table behind a columnar step, which makes ``schema``.

    Where a key column is lost, or made anew, rows are told apart by all that they hold.
    """
    key = type.changelog
    if key is None:
        return None
    assert type.schema is not None, "a changelog has columns"
    if set(key) == set(type.schema.names):
        return tuple(schema.names)
    return names_behind(step, key) or tuple(schema.names)


def mapped(node: LogicalNode, made: StreamType, where: str) -> StreamType:
    """Give the type of what a function makes of each row, which a changelog goes on with.

    Raises: PlanError where the changes would be those of objects.
    """
    if node.type.changelog is None:
        return made
    if made.schema is None:
        raise PlanError(
            f'map() cannot take "{label(node)}", a changelog, without schema=: a table has columns',
            where=where,
            hint='give schema=, or make each change a plain row before: to_rows(op="op")',
        )
    return StreamType(made.schema, made.timed, tuple(made.schema.names))


def check_keeps_order(tip: Tip, exchange: Exchange, where: str) -> None:
    """Refuse to part changes of one key, or to make them known twice.

    Raises: PlanError.
    """
    if tip.node.type.changelog is None or isinstance(exchange, Forward | ToOne | Broadcast):
        return
    raise PlanError(
        f'"{label(tip.node)}" is a changelog: dealt out by {exchange} its changes would lose their '
        "order",
        where=where,
        hint="leave it out: a changelog goes by its key where it must; to_one() brings all to one "
        'subtask, and to_rows(op="op") makes plain rows of it',
    )


def to_rows(tip: Tip, op: str) -> Tip:
    """Make each change a plain row.

    Raises: PlanError where the stream is no changelog, or the name is taken.
    """
    node = tip.node
    columns = StreamColumns(node, "to_rows", user_line())
    check_name(op, "to_rows", columns.where)
    if node.type.changelog is None:
        raise columns.error(
            f'to_rows() takes a changelog; "{columns.stream}" carries plain rows already'
        )
    if op in columns.schema.names:
        raise columns.error(f'to_rows(): the name "{op}" is taken by a column', hint="give op=")
    made = StreamType(columns.schema.append(pa.field(op, pa.string())), node.type.timed)
    assert made.wire is not None, "a changelog has columns"
    return tip.then("to_rows", ToRowsSpec(op, made.wire), made, columns.where, changes=True)


def to_changelog(tip: Tip, key: str | Sequence[str], op: str) -> Tip:
    """Take rows for the changes of a table.

    Raises: PlanError where the stream is a changelog already, carries objects, or has not the
    columns; where no kind can be read, or no key.
    """
    node = tip.node
    columns = StreamColumns(node, "to_changelog", user_line())
    if node.type.changelog is not None:
        raise columns.error(f'"{columns.stream}" is a changelog already')
    check_not_broadcast(tip, "to_changelog", columns.where)
    schema, keys = columns.schema, _key(columns, key)
    if not is_text(op):
        raise columns.error(f"to_changelog(): op= names a column, got {op!r:.60}")
    kind = columns.type_of(columns.check(op))
    if not pa.types.is_string(kind):
        raise columns.error(
            f'to_changelog(): column "{op}" is {kind}; kinds are texts',
            hint='with_columns(op=…) makes such a column of "+I", "-U", "+U" and "-D"',
        )
    if op in keys:
        raise columns.error(f'to_changelog(): "{op}" holds the kinds, it is no part of the key')
    left = schema.remove(schema.get_field_index(op))
    made = StreamType(left, node.type.timed, keys)
    assert node.type.wire is not None, "checked: the stream has columns"
    assert made.wire is not None, "the rows of a table have columns"
    spec = ToChangelogSpec(keys, op, node.type.wire, made.wire)
    keyed = Tip(tip.draft, node, Hash(keys))
    return keyed.then("to_changelog", spec, made, columns.where, stateful=True)


def _key(columns: StreamColumns, key: Any) -> tuple[str, ...]:
    keys = (key,) if isinstance(key, str) else tuple(key) if isinstance(key, list | tuple) else ()
    if not keys:
        raise columns.error(
            f"to_changelog(): key= names the key columns of the table, got {key!r:.60}",
            hint='to_changelog(key="id"), or to_changelog(key=["shop", "id"])',
        )
    columns.check_all(keys)
    if len(set(keys)) < len(keys):
        raise columns.error("to_changelog() names a key twice")
    for name in keys:
        check_key(columns, name)
    return keys


def union(first: Tip, others: Sequence[Tip]) -> Tip:
    """Join streams of the same columns; of changelogs, the changes of one table of all their rows.

    Raises: PlanError where they cannot be one: other columns, other jobs, rows and changes.
    """
    where, node = user_line(), first.node
    for tip in others:
        if tip.draft is not first.draft:
            raise PlanError(
                f'union(): "{label(node)}" belongs to job "{first.draft.name}", '
                f'"{label(tip.node)}" to "{tip.draft.name}"',
                where=where,
            )
        if (tip.node.type.changelog is None) != (node.type.changelog is None):
            rows, changes = (tip, first) if tip.node.type.changelog is None else (first, tip)
            raise PlanError(
                f'union(): "{label(changes.node)}" is a changelog, "{label(rows.node)}" carries '
                "plain rows",
                where=where,
                hint="make both one or the other: to_changelog(key=…, op=…) takes rows for "
                'changes, to_rows(op="op") makes rows of changes',
            )
        if difference := same_type(node.type, tip.node.type):
            raise PlanError(
                f'union(): "{label(node)}" and "{label(tip.node)}" differ: {difference}',
                where=where,
                hint="select() the same columns of both, or assign_timestamps() to both",
            )
    made, schema = node.type, node.type.schema
    if made.changelog is not None and schema is not None:
        # The same key may be in several of the tables: rows are told apart by all that they hold.
        made = StreamType(schema, made.timed, tuple(schema.names))
    inputs = [tip.input for tip in (first, *others)]
    return Tip(first.draft, first.draft.add("union", None, made, inputs, where, changes=True))
