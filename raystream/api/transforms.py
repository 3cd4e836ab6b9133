"""What each verb of a stream checks, the operator it means, and what flows out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw

from raystream.api import changelogs
from raystream.api.callsite import located, user_line
from raystream.api.checks import is_count, is_text
from raystream.api.columns import StreamColumns, check_name, check_schema, is_expression
from raystream.api.draft import Tip
from raystream.contracts.functions import Function, check_async_function, check_function
from raystream.contracts.rejects import DEAD_LETTERS
from raystream.contracts.watermark import Punctuated, Strategy, WatermarkStrategy
from raystream.errors import PlanError
from raystream.flow.time import positive
from raystream.graph.logical import LogicalNode, StreamType, label
from raystream.operators import columns as steps
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.async_map import AsyncMapSpec
from raystream.operators.columns import ColumnsSpec
from raystream.operators.explode import ExplodeSpec, explode_schema
from raystream.operators.map_batches import MapBatchesSpec, check_batch_format
from raystream.operators.operator import Spec
from raystream.operators.row_functions import FilterFunctionSpec, FlatMapSpec, MapSpec
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.timestamps import is_time_type
from raystream.operators.with_schema import WithSchemaSpec

Made: TypeAlias = tuple[Spec, StreamType]
Kwargs: TypeAlias = Mapping[str, Any] | None


def user_function(verb: str, fn: Any, kwargs: Kwargs, where: str) -> Function:
    """Read a function with its ``fn_kwargs``.

    Raises: PlanError if it cannot be called.
    """
    function = Function(fn, dict(kwargs or {}))
    check_function(function, verb=verb, where=where)
    return function


def map_rows(node: LogicalNode, fn: Any, schema: Any, kwargs: Kwargs) -> Made:
    """Call a function with each row."""
    where = user_line()
    made = changelogs.mapped(node, declared(node, "map", schema, where), where)
    return MapSpec(user_function("map", fn, kwargs, where), made.wire, "map", where), made


@dataclass(frozen=True)
class Awaiting:
    """How an async function is called: what ``async_map`` takes beside it."""

    capacity: Any = 100
    timeout: Any = None
    ordered: Any = True
    retries: Any = 0


def async_map_rows(
    node: LogicalNode,
    fn: Any,
    schema: Any,
    kwargs: Kwargs,
    *,
    how: Awaiting,
    keys: tuple[str, ...] | None = None,
) -> Made:
    """Await a function of each row, many at a time; ``keys`` are those of a keyed stream."""
    where = user_line()
    made = declared(node, "async_map", schema, where)
    function = Function(fn, dict(kwargs or {}))
    check_async_function(function, verb="async_map", where=where)
    for name, value, least in (("capacity", how.capacity, 1), ("retries", how.retries, 0)):
        if not is_count(value, least):
            raise PlanError(
                f"async_map(): {name} is an int of at least {least}, got {value!r:.60}", where=where
            )
    if not isinstance(how.ordered, bool):
        raise PlanError(f"async_map(): ordered is a bool, got {how.ordered!r:.60}", where=where)
    with located(where):
        timeout_us = None if how.timeout is None else positive(how.timeout, "timeout")
    spec = AsyncMapSpec(
        function,
        keys if keys is None or node.type.schema is not None else (),
        made.wire,
        "async_map",
        where,
        how.capacity,
        timeout_us,
        how.ordered,
        how.retries,
    )
    return spec, made


def flat_map_rows(node: LogicalNode, fn: Any, schema: Any, kwargs: Kwargs) -> Made:
    """Call a function that gives any number of rows with each row."""
    where = user_line()
    made = declared(node, "flat_map", schema, where)
    function = user_function("flat_map", fn, kwargs, where)
    return FlatMapSpec(function, made.wire, "flat_map", where), made


def filter_rows(node: LogicalNode, predicate: Any, kwargs: Kwargs) -> Made:
    """Keep rows by an expression or a function."""
    where = user_line()
    if callable(predicate) and not is_expression(predicate):
        function = user_function("filter", predicate, kwargs, where)
        return FilterFunctionSpec(function, "filter", where), node.type
    columns = StreamColumns(node, "filter", where)
    if not (isinstance(predicate, str) or is_expression(predicate)):
        raise columns.error(
            f"filter() takes an expression or a function of the row, got {predicate!r:.60}",
            hint='filter(rs.col("price") > 100), or filter(lambda row: row["price"] > 100)',
        )
    columns.schema  # noqa: B018  refuses an object stream
    return _step(columns, "filter", steps.Filter(columns.expression(predicate), where))


def map_batches(
    node: LogicalNode,
    fn: Any,
    schema: Any,
    kwargs: Kwargs,
    *,
    batch_size: int | None,
    batch_format: str,
    timestamp: str | None,
) -> Made:
    """Call a function with each batch."""
    where = user_line()
    check_batch_format(batch_format, batch_size, where)
    made = node.type if schema is None else declared(node, "map_batches", schema, where)
    if timestamp is not None:
        _check_timestamp(node, made, timestamp, where)
    function = user_function("map_batches", fn, kwargs, where)
    spec = MapBatchesSpec(
        function, made.wire, "map_batches", where, batch_size, batch_format, timestamp
    )
    return spec, made


def select(node: LogicalNode, columns: Sequence[Any], exprs: Mapping[str, Any]) -> Made:
    """Choose and compute columns."""
    checks = StreamColumns(node, "select", user_line())
    chosen = checks.named(columns, exprs)
    if not chosen:
        raise checks.error("select() takes at least one column")
    return _step(checks, "select", steps.Select(chosen, checks.where))


def with_columns(node: LogicalNode, exprs: Mapping[str, Any]) -> Made:
    """Add or replace columns."""
    checks = StreamColumns(node, "with_columns", user_line())
    computed = {name: checks.expression(value) for name, value in exprs.items()}
    for name in computed:
        check_name(name, "with_columns", checks.where)
    return _step(checks, "with_columns", steps.WithColumns(tuple(computed.items()), checks.where))


def drop(node: LogicalNode, names: Sequence[str]) -> Made:
    """Leave columns out."""
    checks = StreamColumns(node, "drop", user_line())
    checks.check_all(names)
    if set(names) == set(checks.schema.names):
        raise checks.error("drop() would leave no column")
    return _step(checks, "drop", steps.Drop(tuple(dict.fromkeys(names)), checks.where))


def rename(node: LogicalNode, names: Mapping[str, str]) -> Made:
    """Call columns something else."""
    checks = StreamColumns(node, "rename", user_line())
    checks.check_all(names)
    renamed = [names.get(name, name) for name in checks.schema.names]
    for new in names.values():
        check_name(new, "rename", checks.where)
        if renamed.count(new) > 1:
            raise checks.error(f'rename() makes column "{new}" twice')
    return _step(checks, "rename", steps.Rename(tuple(names.items()), checks.where))


def explode(node: LogicalNode, column: str) -> Made:
    """Give a row for each element of a list."""
    checks = StreamColumns(node, "explode", user_line())
    checks.check_all([column])
    made = explode_schema(checks.schema, column, checks.where, checks.stream)
    type_out = StreamType(made, node.type.timed, node.type.changelog)
    return ExplodeSpec(column, type_out.wire), type_out


def with_schema(node: LogicalNode, schema: Any) -> Made:
    """Turn dicts into columns."""
    where = user_line()
    if node.type.schema is not None:
        raise PlanError(
            "with_schema() turns dicts into columns, and this stream has columns already",
            where=where,
            hint="select(), rename() and with_columns(x=rs.col(…).cast(…)) change them",
        )
    made = declared(node, "with_schema", schema, where)
    return WithSchemaSpec(made.wire, where), made


def side_output(tip: Tip, tag: str, schema: Any) -> Tip:
    """Read what the operator of a stream sends beside its own output.

    Raises: PlanError where it sends nothing under that tag.
    """
    where, node = user_line(), tip.node
    if not is_text(tag):
        raise PlanError(f"side_output() takes a tag, got {tag!r:.60}", where=where)
    if node.spec is None or (node.sides is not None and tag not in node.sides):
        tags = ", ".join(f'"{one}"' for one in node.sides or ()) or "none"
        raise PlanError(
            f'"{label(node)}" has no side output "{tag}". It has: {tags}',
            where=where,
            hint="read it from the stream that the operator itself gives: "
            "process(…).side_output(tag), window(…).late_to(tag).aggregate(…).side_output(tag)",
        )
    known = None if node.sides is None else node.sides[tag]
    if known is not None and schema is None:
        made = known
    else:
        made = declared(node, "side_output", schema, where)
    spec = SideOutputSpec(tag, made.wire, "side_output", where)
    return Tip(tip.draft, node).then("side_output", spec, made, where, changes=True)


def dead_letters(tip: Tip) -> Tip:
    """Read the rows that the operator of a stream gives up; one stream however often it is asked.

    Raises: PlanError where there is no operator. Whether its policy keeps letters is seen when the
    plan is read.
    """
    where, node = user_line(), tip.node
    if node.spec is None:
        raise PlanError(
            "dead_letters behind union(): a union is no operator of its own",
            where=where,
            hint="read them from the streams before or behind it",
        )
    for other in tip.draft.graph.nodes:
        spec: Any = other.spec
        reads = isinstance(spec, SideOutputSpec) and spec.tag == DEAD_LETTERS
        if reads and other.inputs[0].node is node:
            return Tip(tip.draft, other)
    letters = SideOutputSpec(DEAD_LETTERS, None, "dead_letters", where)
    # Without event time: a row may be dead because it has none.
    made = StreamType(None)
    return Tip(tip.draft, node).then("dead_letters", letters, made, where, changes=True)


def assign_timestamps(node: LogicalNode, watermark: Strategy) -> Made:
    """Give rows an event time.

    Raises: PlanError for what only a source can do: alignment.
    """
    where = user_line()
    check_watermark(node, watermark, "assign_timestamps", where)
    if watermark.alignment is not None:
        raise PlanError(
            "assign_timestamps() cannot hold a stream back: alignment= is for sources",
            where=where,
            hint="give the strategy to job.source(…, watermark=…)",
        )
    made = StreamType(node.type.schema, timed=True, changelog=node.type.changelog)
    return AssignTimestampsSpec(watermark, made.wire, "assign_timestamps", where), made


def check_watermark(node: LogicalNode, watermark: Any, verb: str, where: str) -> None:
    """Refuse a strategy that cannot be read from the stream.

    Raises: PlanError for an unknown column, one that holds no points in time, or a function that
    cannot be called.
    """
    if not isinstance(watermark, WatermarkStrategy | Punctuated):
        raise PlanError(
            f"{verb}() takes a rs.WatermarkStrategy, got {watermark!r:.60}",
            where=where,
            hint='rs.WatermarkStrategy("time", out_of_orderness="5s")',
        )
    read = [watermark.fn] if isinstance(watermark, Punctuated) else []
    if not isinstance(watermark.timestamp, str | nw.Expr):
        read.append(watermark.timestamp)
    for fn in read:
        check_function(Function(fn), verb=verb, where=where)
    timestamp = watermark.timestamp
    columns = StreamColumns(node, verb, where)
    if node.type.schema is None:
        if is_expression(timestamp):
            raise columns.error(
                "event time of objects is read by a key of the dict or a function of the row, "
                "not by an expression"
            )
        return
    if isinstance(timestamp, str):
        kind = columns.type_of(columns.check(timestamp))
    elif isinstance(timestamp, nw.Expr):
        (kind,) = columns.types({"timestamp": timestamp}).values()
    else:
        return
    if not is_time_type(kind):
        named = f'column "{timestamp}"' if isinstance(timestamp, str) else "the expression"
        raise columns.error(
            f"{named} is {kind}; event time is read from a timestamp, a date or an integer"
        )


def columns_spec(columns: StreamColumns, verb: str, step: steps.Step) -> Made:
    """Give the operator of one columnar step.

    Raises: PlanError for what its expressions cannot compute.
    """
    return _step(columns, verb, step)


def _step(columns: StreamColumns, verb: str, step: steps.Step) -> Made:
    timed = columns.type.timed
    schema = steps.output_schema(columns.schema, timed, step, columns.where, columns.stream)
    made = StreamType(schema, timed, changelogs.key_behind(columns.type, step, schema))
    return ColumnsSpec(verb, (step,), made.wire), made


def declared(node: LogicalNode, verb: str, schema: Any, where: str) -> StreamType:
    """Give the type of a result whose ``schema=`` was given, or was not."""
    given = None if schema is None else check_schema(schema, verb, where)
    return StreamType(given, node.type.timed)


def _check_timestamp(node: LogicalNode, made: StreamType, column: str, where: str) -> None:
    if made.schema is None:
        raise PlanError(
            "map_batches(): timestamp= names a column of the result, which has none", where=where
        )
    if not node.type.timed:
        raise PlanError(
            f'map_batches(): timestamp="{column}", but the stream has no event time',
            where=where,
            hint="use assign_timestamps() behind map_batches()",
        )
    result = LogicalNode("map_batches", None, made, (), where, name="map_batches")
    kind = StreamColumns(result, "map_batches", where)
    if not is_time_type(kind.type_of(kind.check(column))):
        raise PlanError(
            f'map_batches(): column "{column}" is {kind.type_of(column)}; event time is read from '
            "a timestamp, a date or an integer",
            where=where,
        )
