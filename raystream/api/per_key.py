"""What keeps rows for each key: deduplicate, top_k, and aggregates over the rows before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from raystream.api.aggregates import HiddenColumns, bind, read_aggregates
from raystream.api.callsite import located, user_line
from raystream.api.checks import is_count
from raystream.api.columns import StreamColumns
from raystream.api.draft import Tip
from raystream.api.ordering import object_order, read_order
from raystream.contracts.window_lengths import LENGTH_US_MAX
from raystream.errors import ConfigError, PlanError
from raystream.flow.time import Duration, positive
from raystream.graph.logical import LogicalNode, StreamType, is_bounded
from raystream.operators.deduplicate import DeduplicateSpec
from raystream.operators.object_deduplicate import ObjectDeduplicateSpec
from raystream.operators.object_top_k import ObjectTopKSpec
from raystream.operators.operator import Spec
from raystream.operators.over_aggregate import OverAggregateSpec
from raystream.operators.top_k import TopKSpec

EMITS = ("row", "batch", "final", "changes")


def check_emit(emit: Any, node: LogicalNode, where: str) -> None:
    """Refuse a word that says nothing about when results go out.

    Raises: PlanError; also for the end of an input that has none, and changes of objects.
    """
    if emit not in EMITS:
        raise PlanError(
            f"emit is one of {', '.join(EMITS)}, got {emit!r:.60}",
            where=where,
            hint="an aggregate cannot be called emit or over"
            if not isinstance(emit, str)
            else None,
        )
    if emit == "final" and not is_bounded(node):
        raise PlanError(
            'emit="final" waits for the end of the input, and this one has no end',
            where=where,
            hint='use emit="row" or emit="batch", or a window',
        )
    if emit == "changes" and node.type.schema is None:
        raise PlanError(
            'emit="changes" makes a table, which has columns; this stream carries objects',
            where=where,
            hint="call with_schema(schema) before key_by()",
        )


def deduplicate(tip: Tip, keys: tuple[str, ...], keep: str, ttl: Duration | None, emit: str) -> Tip:
    """Keep one row of each key.

    Raises: PlanError for a ``keep`` that is neither first nor last.
    """
    where = user_line()
    node = tip.node
    check_emit(emit, node, where)
    if keep not in ("first", "last"):
        raise PlanError(f'deduplicate() keeps "first" or "last", got {keep!r:.60}', where=where)
    columns = StreamColumns(node, "deduplicate", where)
    ttl_us = None if ttl is None else _length_us(columns, ttl, "deduplicate(ttl=)")
    if node.type.schema is None:
        spec: Spec = ObjectDeduplicateSpec(keep, emit, ttl_us)
        made = StreamType(None, node.type.timed)
        return tip.then("deduplicate", spec, made, where, stateful=True)
    made = StreamType(columns.schema, node.type.timed, keys if emit == "changes" else None)
    assert node.type.wire is not None, "checked: the stream has columns"
    assert made.wire is not None, "rows of columns are columns"
    spec = DeduplicateSpec(keys, keep, emit, ttl_us, node.type.wire, made.wire)
    return tip.then("deduplicate", spec, made, where, stateful=True)


def top_k(
    tip: Tip,
    keys: tuple[str, ...],
    k: int,
    by: Any,
    *,
    descending: bool | Sequence[bool],
    ties: bool,
    rank: str | None,
    emit: str,
) -> Tip:
    """Keep the best rows of each key.

    Raises: PlanError for a number, an order or a name that makes no sense.
    """
    where = user_line()
    node = tip.node
    check_emit(emit, node, where)
    columns = StreamColumns(node, "top_k", where)
    if not is_count(k):
        raise columns.error(f"top_k() takes a positive int, got {k!r}")
    if node.type.schema is None:
        return _object_top_k(tip, columns, k, by, descending, ties=ties, rank=rank, emit=emit)
    schema = columns.schema
    if rank is not None and rank in schema.names:
        raise columns.error(f'top_k(): the name "{rank}" is taken by a column')
    hidden = HiddenColumns(columns)
    hidden.plain.update(schema.names)
    order = read_order(hidden, by, descending)
    if rank is not None:
        schema = schema.append(pa.field(rank, pa.int64()))
    key: tuple[str, ...] | None = None
    if emit == "changes":
        # Ranks that ties share tell no row from another.
        key = tuple(schema.names) if rank is None or ties else (*keys, rank)
    made = StreamType(schema, node.type.timed, key)
    prepared = hidden.prepared(keys)
    given = node.type.wire if prepared is None else prepared.type.wire
    assert given is not None, "checked: the stream has columns"
    assert made.wire is not None, "rows of columns are columns"
    spec = TopKSpec(keys, k, order, ties, rank, emit, given, made.wire)
    return tip.then("top_k", spec, made, where, prepared=prepared, stateful=True, changes=True)


def _object_top_k(
    tip: Tip,
    columns: StreamColumns,
    k: int,
    by: Any,
    descending: bool | Sequence[bool],
    *,
    ties: bool,
    rank: str | None,
    emit: str,
) -> Tip:
    order = object_order(columns, by, descending)
    where, timed = columns.where, columns.type.timed
    spec = ObjectTopKSpec(k, order, ties, rank, emit, "top_k", where)
    return tip.then("top_k", spec, StreamType(None, timed), where, stateful=True)


def aggregate_over(
    tip: Tip, keys: tuple[str, ...], over: Any, aggregates: Mapping[str, Any], emit: str
) -> Tip:
    """Give every row whole, with aggregates over the rows of its key that stand before it.

    Raises: PlanError for an ``over`` that is neither a duration nor a number of rows.
    """
    where = user_line()
    node = tip.node
    columns = StreamColumns(node, "aggregate", where)
    if emit != "row":
        raise columns.error(f'aggregate(over=…) gives every row: emit="row", got {emit!r:.60}')
    if isinstance(over, bool) or (isinstance(over, int) and over < 1):
        raise columns.error(
            f"aggregate(over=) takes a duration or a positive number of rows, got {over!r}"
        )
    over_rows = over if isinstance(over, int) else None
    over_us = None if over_rows is not None else _length_us(columns, over, "aggregate(over=)")
    if over_us is not None and not node.type.timed:
        raise columns.error(
            f'aggregate(over={over!r}) needs event time, and stream "{columns.stream}" has none',
            hint='job.source(…, watermark=rs.WatermarkStrategy("time")), or assign_timestamps(…)',
        )
    taken = dict.fromkeys(columns.schema.names, "a column of the row")
    read = read_aggregates(aggregates, taken, "aggregate", where)
    hidden = HiddenColumns(columns)
    hidden.plain.update(columns.schema.names)
    bounds = bind(hidden, read)
    fields = [*columns.schema, *(pa.field(bound.name, bound.output) for bound in bounds)]
    made = StreamType(pa.schema(fields), node.type.timed)
    prepared = hidden.prepared(keys)
    given = node.type.wire if prepared is None else prepared.type.wire
    assert given is not None, "checked: the stream has columns"
    assert made.wire is not None, "rows of columns are columns"
    with located(where):
        spec = OverAggregateSpec(keys, bounds, over_us, over_rows, given, made.wire)
    return tip.then("aggregate", spec, made, where, prepared=prepared, stateful=True)


def _length_us(columns: StreamColumns, value: Any, name: str) -> int:
    try:
        length_us = positive(value, name)
    except ConfigError as error:
        raise columns.error(error.message, hint=error.hint) from error
    if length_us > LENGTH_US_MAX:
        raise columns.error(f"{name} is longer than 70,000 years: {value!r}")
    return length_us
