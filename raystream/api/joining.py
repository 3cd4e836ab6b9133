"""The verbs ``join`` and ``as_of_join``: which join was meant, and what it is checked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from raystream.api.callsite import located, user_line
from raystream.api.columns import StreamColumns
from raystream.api.draft import Tip, check_not_broadcast
from raystream.api.join_checks import check_how, check_timed, interval, join_plan, key_names
from raystream.api.join_windows import check_join_window, check_tolerance
from raystream.api.regular_joins import gives_changes, table_key, ttl_us
from raystream.contracts.window import Window
from raystream.errors import PlanError
from raystream.flow.batch import visible_schema
from raystream.flow.exchange import Hash
from raystream.flow.normal import normal_record, normal_schema
from raystream.flow.time import Duration
from raystream.graph.logical import Input, LogicalNode, StreamType, label
from raystream.operators.as_of_join import AsOfJoinSpec
from raystream.operators.interval_join import IntervalJoinSpec
from raystream.operators.join_plan import JoinPlan
from raystream.operators.operator import Spec
from raystream.operators.regular_join import RegularJoinSpec
from raystream.operators.table_join import TableJoinSpec
from raystream.operators.window_join import WindowJoinSpec

if TYPE_CHECKING:
    from raystream.api.streams import Stream

Names: TypeAlias = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Sides:
    """Two streams that are to be joined, their keys, and what was said of the output."""

    left: Tip
    right: Tip
    columns: tuple[StreamColumns, StreamColumns]
    keys: tuple[tuple[str, ...], tuple[str, ...]]
    how: str
    suffix: str
    where: str


def join(
    self: Stream,
    right: Stream | pa.Table,
    *,
    on: Names | None = None,
    left_on: Names | None = None,
    right_on: Names | None = None,
    how: str = "inner",
    suffix: str = "_right",
    window: Window | None = None,
    within: tuple[Duration, Duration] | None = None,
    ttl: Duration | None = None,
) -> Stream:
    """Put each row beside those of another stream, or of a table, that have its key.

    ``window``: rows of one window. ``within=(lo, hi)``: rows with ``lo <= right - left <= hi``
    between their event times. ``ttl``: all rows, each for so long after it came, or ``"forever"``.
    A ``pa.Table`` is sent once to every subtask and takes none of the three. ``how`` is inner,
    left, right, full, semi or anti. Out come the left's columns, then the right's without its
    keys, a taken name with ``suffix``. Null keys match nothing.
    """
    from raystream.api.streams import Stream

    where = user_line()
    tip = self._tip
    keys = on, left_on, right_on
    ways = {"window": window, "within": within, "ttl": ttl}
    said = [name for name, value in ways.items() if value is not None]
    if isinstance(right, pa.Table):
        if said:
            raise PlanError(
                f"join(): {said[0]}= says how long rows wait, and a table waits for nothing",
                where=where,
                hint=f"leave {said[0]}= out",
            )
        side, table = _table_side(tip, right, where)
        sides = _sides(tip, side, "join", keys, how=how, suffix=suffix, where=where)
        return Stream(_table(sides, table))
    if not isinstance(right, Stream):
        raise PlanError(f"join() takes a stream or a pa.Table, got {right!r:.60}", where=where)
    if len(said) != 1:
        raise PlanError(
            f"join() takes one of window=, within= and ttl=, got {' and '.join(said) or 'none'}",
            where=where,
            hint='rows wait for their partners: in a window (window=rs.Tumbling("1h")), for some '
            'event time (within=("-1h", "1h")), or in a table (ttl="forever")',
        )
    other = right._tip  # noqa: SLF001  a verb of the class
    sides = _sides(tip, other, "join", keys, how=how, suffix=suffix, where=where)
    if window is not None:
        return Stream(_window(sides, window))
    if within is not None:
        return Stream(_interval(sides, within))
    assert ttl is not None, "one of the three was given"
    return Stream(_regular(sides, ttl))


def as_of_join(
    self: Stream,
    right: Stream,
    *,
    on: Names | None = None,
    left_on: Names | None = None,
    right_on: Names | None = None,
    how: str = "left",
    tolerance: Duration | None = None,
    suffix: str = "_right",
) -> Stream:
    """Put beside each row the newest one of another stream up to its event time.

    Of the right rows of its key it is the one with the greatest event time that is not above the
    left row's, nor more than ``tolerance`` below. A row comes out when the watermark passes it.
    """
    from raystream.api.streams import Stream

    where = user_line()
    if not isinstance(right, Stream):
        raise PlanError(f"as_of_join() takes a stream, got {right!r:.60}", where=where)
    tips = self._tip, right._tip  # noqa: SLF001  a verb of the class
    keys = on, left_on, right_on
    check_how(StreamColumns(tips[0].node, "as_of_join", where), how, ("left", "inner"))
    sides = _sides(*tips, "as_of_join", keys, how=how, suffix=suffix, where=where)
    return Stream(_as_of(sides, tolerance))


def _window(sides: Sides, window: Window) -> Tip:
    """Write a join in windows down."""
    left = sides.columns[0]
    timed = check_join_window(left, window)
    for side in sides.columns:
        check_timed(side, "window=")
    plan = join_plan(*sides.columns, sides.keys, sides.how, sides.suffix, timed=True)
    return written(sides, WindowJoinSpec(plan, timed), _plain(plan))


def _interval(sides: Sides, within: Any) -> Tip:
    """Write a join of rows within an interval of each other down."""
    lower_us, upper_us = interval(sides.columns[0], within)
    for columns in sides.columns:
        check_timed(columns, "within=")
    plan = join_plan(*sides.columns, sides.keys, sides.how, sides.suffix, timed=True)
    spec = IntervalJoinSpec(plan, lower_us, upper_us)
    return written(sides, spec, _plain(plan))


def _regular(sides: Sides, ttl: Any) -> Tip:
    """Write a join of whole streams down, whose rows stay for ``ttl``."""
    left, right = sides.left.node.type, sides.right.node.type
    length_us = ttl_us(sides.columns[0], ttl)
    timed = left.timed or right.timed
    changes = gives_changes(left, right, sides.how)
    plan = join_plan(
        *sides.columns, sides.keys, sides.how, sides.suffix, timed=timed, changes=changes
    )
    key = table_key(plan, left, right) if changes else None
    made = StreamType(visible_schema(plan.output), timed, key)
    return written(sides, RegularJoinSpec(plan, length_us), made, changes=True)


def _as_of(sides: Sides, tolerance: Duration | None) -> Tip:
    """Write a join with the newest row down."""
    tolerance_us = check_tolerance(sides.columns[0], tolerance)
    for side in sides.columns:
        check_timed(side, "")
    plan = join_plan(*sides.columns, sides.keys, sides.how, sides.suffix, timed=True)
    return written(sides, AsOfJoinSpec(plan, tolerance_us), _plain(plan))


def _plain(plan: JoinPlan) -> StreamType:
    """Give the type of a join whose rows have event time and stay as they are."""
    return StreamType(visible_schema(plan.output), timed=True)


def written(sides: Sides, spec: Spec, made: StreamType, *, changes: bool = False) -> Tip:
    """Write a join of two streams down: rows of one key meet in one subtask."""
    ends = zip((sides.left, sides.right), sides.keys, strict=True)
    inputs = [Input(tip.node, Hash(keys)) for tip, keys in ends]
    draft = sides.left.draft
    verb = sides.columns[0].verb
    node = draft.add(verb, spec, made, inputs, sides.where, stateful=True, changes=changes)
    return Tip(draft, node)


def _table(sides: Sides, table: pa.Table) -> Tip:
    """Write a join with a table down: rows stay where they are, every subtask has the table."""
    left, right = sides.columns
    check_how(left, sides.how, ("inner", "left", "semi", "anti"))
    type = sides.left.node.type
    changes = type.changelog is not None
    plan = join_plan(
        left, right, sides.keys, sides.how, sides.suffix, timed=type.timed, changes=changes
    )
    visible = visible_schema(plan.output)
    changelog = type.changelog
    if changelog is not None and not plan.left_only and _doubles(table, plan.right_keys):
        changelog = tuple(visible.names)
    made = StreamType(visible, type.timed, changelog)
    spec = TableJoinSpec(plan, table)
    return sides.left.then("join", spec, made, sides.where, changes=True)


def _doubles(table: pa.Table, keys: tuple[str, ...]) -> bool:
    """Tell whether a key has several rows."""
    return bool(table.select(keys).group_by(list(keys)).aggregate([]).num_rows < table.num_rows)


def _table_side(tip: Tip, table: pa.Table, where: str) -> tuple[Tip, pa.Table]:
    """Give a table as a stream that nobody runs, so that it is checked as one.

    Raises: PlanError if it has a column twice.
    """
    with located(where):
        schema = normal_schema(table.schema)
    records = [normal_record(record, schema) for record in table.to_batches()]
    node = LogicalNode("table", None, StreamType(schema), (), where, "the table")
    return Tip(tip.draft, node), pa.Table.from_batches(records, schema)


def _sides(
    left: Tip,
    right: Tip,
    verb: str,
    on: tuple[Any, Any, Any],
    *,
    how: Any,
    suffix: Any,
    where: str,
) -> Sides:
    if left.draft is not right.draft:
        raise PlanError(
            f'{verb}(): "{label(left.node)}" belongs to job "{left.draft.name}", '
            f'"{label(right.node)}" to "{right.draft.name}"',
            where=where,
        )
    for tip in (left, right):
        check_not_broadcast(tip, verb, where)
    columns = StreamColumns(left.node, verb, where), StreamColumns(right.node, verb, where)
    check_how(columns[0], how)
    keys = key_names(*columns, *on)
    return Sides(left, right, columns, keys, how, suffix, where)
