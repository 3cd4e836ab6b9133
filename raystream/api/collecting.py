"""Run what one stream needs and bring its rows to the caller."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raystream.api import running
from raystream.api.callsite import located, user_line
from raystream.api.checks import is_count
from raystream.api.draft import Tip
from raystream.api.overrides import RUNTIMES
from raystream.errors import PlanError
from raystream.graph.logical import LogicalNode, StreamType, is_bounded, label
from raystream.operators.sink import SinkSpec

if TYPE_CHECKING:
    from raystream.connectors.memory import MemorySink


def rows(tip: Tip, limit: int | None, runtime: str) -> list[Any]:
    """Give a stream's rows: dicts of columns, or the objects."""
    sink = _run(tip, limit, runtime, "collect")
    with located(user_line()):
        return list(sink.rows)[:limit]


def table(tip: Tip, limit: int | None, runtime: str) -> pa.Table:
    """Give a stream's rows as a table; without rows it still has the stream's columns.

    Raises: SinkError if the objects of an object stream make no table.
    """
    sink = _run(tip, limit, runtime, "to_arrow")
    schema = tip.node.type.schema
    with located(user_line()):
        if schema is None:
            return sink.table()
        return sink.table(schema)[:limit]


def show(tip: Tip, n: int) -> None:
    """Print the first rows of a stream."""
    sink = _run(tip, n, "local", "show")
    schema = tip.node.type.schema
    if schema is None:
        for row in sink.rows:
            builtins.print(row)  # noqa: T201  show() prints
    else:
        lines = [list(row.values()) for row in sink.rows[:n]]
        builtins.print(grid(schema.names, lines))  # noqa: T201  show() prints


def grid(names: list[str], lines: list[list[Any]]) -> str:
    """Lay rows out under their column names."""
    texts = [names, *[[str(value) for value in line] for line in lines]]
    widths = [max(len(line[i]) for line in texts) for i in range(len(names))]
    ruled = [texts[0], ["─" * width for width in widths], *texts[1:]]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in ruled
    )


def _run(tip: Tip, limit: int | None, runtime: str, verb: str) -> MemorySink:
    from raystream.connectors.memory import MemorySink, TableSink

    where = user_line()
    if limit is not None and not is_count(limit, least=0):
        raise PlanError(f"{verb}(): a limit is an int of at least 0, got {limit!r}", where=where)
    if runtime not in RUNTIMES:
        raise PlanError(f'{verb}(): runtime is "ray" or "local", got {runtime!r}', where=where)
    if limit is None and not is_bounded(tip.node):
        raise PlanError(
            f'{verb}(): stream "{label(tip.node)}" has no end',
            where=where,
            hint=f"{verb}(limit=100) takes the first rows",
        )
    key = tip.node.type.changelog
    # What a table holds is known once all its changes are; only of one that ever changes is it the
    # changes that are counted.
    sink = (
        MemorySink(limit)
        if key is None
        else TableSink(key, None if is_bounded(tip.node) else limit)
    )
    spec = SinkSpec(sink, "collect", where)
    name = tip.draft.graph.free_name("collect")
    node = LogicalNode("collect", spec, StreamType(None), (tip.input,), where, name=name)
    if limit != 0:
        running.run(tip.draft, tip.draft.plan([node]), runtime)
    return sink
