"""Rows gathered in windows: what may be asked of them, and which operator answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from raystream.api import display, transforms
from raystream.api.aggregates import (
    HiddenColumns,
    bind,
    check_object_aggregates,
    read_aggregates,
)
from raystream.api.callsite import located, user_line
from raystream.api.checks import is_count, is_text
from raystream.api.columns import StreamColumns
from raystream.api.draft import Tip, check_not_broadcast
from raystream.api.ordering import object_order, read_order
from raystream.api.streams import Stream
from raystream.api.window_checks import (
    WINDOW_COLUMNS,
    Choices,
    check_clock,
    check_fires,
    check_window,
    reads_event_time,
    sees_rows,
    takes_columns,
    takes_objects,
)
from raystream.contracts import evictors
from raystream.contracts.aggregate import Aggregate, Bound
from raystream.contracts.evictor import Evictor
from raystream.contracts.trigger import Trigger
from raystream.contracts.window import (
    CountWindow,
    Cumulative,
    GridWindow,
    Sliding,
    Tumbling,
    Window,
    is_timed,
)
from raystream.contracts.window_unaligned import Session, SlidingCount
from raystream.flow.exchange import ToOne
from raystream.flow.time import Duration, micros
from raystream.graph.logical import Prepared, StreamType
from raystream.operators.object_window import ObjectWindowSpec
from raystream.operators.operator import Spec
from raystream.operators.session_aggregate import SessionAggregateSpec
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_lists import Applying, Ranking
from raystream.operators.window_outcomes import (
    Aggregating,
    Keeping,
    Outcome,
    Reducing,
    of_columns,
)
from raystream.operators.window_rows import WindowRowsSpec
from raystream.operators.window_top_k import WindowTopKSpec

WINDOW_TIME = pa.timestamp("us", "UTC")


class WindowedStream:
    """Rows gathered in windows, of each key or of all."""

    def __init__(
        self,
        tip: Tip,
        window: Window,
        keys: tuple[str, ...],
        *,
        single: bool = False,
        choices: Choices | None = None,
    ) -> None:
        self._tip = tip
        self._window = window
        self._keys = keys
        self._single = single
        self._choices = choices or Choices()

    def __repr__(self) -> str:
        return f"<WindowedStream {self._window}>"

    def _repr_html_(self) -> str:
        return display.windows_picture(self._window, self._keys)

    # Choices

    def allowed_lateness(self, lateness: Duration) -> WindowedStream:
        """Keep windows for so long after they have fired: each late row fires its window again."""
        columns = self._columns("allowed_lateness")
        with located(columns.where):
            lateness_us = micros(lateness)
        if lateness_us < 0:
            raise columns.error(
                f"allowed_lateness() takes a duration of at least 0, got {lateness!r}"
            )
        return self._with(lateness_us=lateness_us)

    def late_to(self, tag: str) -> WindowedStream:
        """Send rows whose windows are all gone to ``side_output(tag)`` of the stream that comes."""
        if not is_text(tag):
            raise self._columns("late_to").error(f"late_to() takes a tag, got {tag!r:.60}")
        return self._with(late_tag=tag)

    def trigger(self, trigger: Trigger) -> WindowedStream:
        """Let a trigger say when windows fire."""
        columns = self._columns("trigger")
        if not isinstance(trigger, Trigger):
            raise columns.error(
                f"trigger() takes a trigger, got {trigger!r:.60}",
                hint="rs.triggers.Count(100), or an instance of a subclass of rs.Trigger",
            )
        if isinstance(self._window, CountWindow):
            raise columns.error(
                f"trigger(): a window of {self._window} fires by its count",
                hint="rs.Global() fires by a trigger alone",
            )
        if reads_event_time(trigger) and not columns.type.timed:
            raise columns.error(
                f'trigger() needs event time, and stream "{columns.stream}" has none',
                hint='job.source(…, watermark=rs.WatermarkStrategy("time"))',
            )
        check_clock(self._window, trigger, columns)
        return self._with(trigger=trigger)

    def evictor(self, evictor: Evictor) -> WindowedStream:
        """Let an evictor choose which rows of a window a firing sees; the others are gone."""
        columns = self._columns("evictor")
        if not isinstance(evictor, Evictor):
            raise columns.error(
                f"evictor() takes an evictor, got {evictor!r:.60}",
                hint="rs.evictors.Count(10), or an instance of a subclass of rs.Evictor",
            )
        if isinstance(self._window, SlidingCount):
            raise columns.error(
                f"evictor(): a window of {self._window} keeps its last rows already",
                hint="rs.Global() with a trigger and an evictor says it in parts",
            )
        if isinstance(evictor, evictors.Time) and not columns.type.timed:
            raise columns.error(
                f'evictors.Time needs event time, and stream "{columns.stream}" has none',
                hint="rs.evictors.Count(10) goes by the number of rows",
            )
        return self._with(evictor=evictor)

    # Outcomes

    def aggregate(self, **aggregates: Any) -> Stream:
        """Give one row for each key and window: keys, ``window_start``, ``window_end``, aggregates.

        Windows of counts and the global one have no bounds. The event time is the last microsecond
        of the window.
        """
        columns = self._columns("aggregate")
        taken = dict.fromkeys(self._keys, "a key column")
        bounds = WINDOW_COLUMNS if is_timed(self._window) else ()
        taken |= dict.fromkeys(bounds, "the window")
        read = read_aggregates(aggregates, taken, "aggregate", columns.where)
        whole = takes_columns(self._window, self._choices, read)
        if columns.type.schema is None:
            check_object_aggregates(columns, read)
            if takes_objects(self._window, self._choices):
                return self._of_objects(columns, read)
            outcome = Aggregating(tuple(read.items()))
            return self._by_row("window", columns, outcome, None)
        hidden = HiddenColumns(columns)
        bound = bind(hidden, read)
        fields = [columns.schema.field(key) for key in self._keys]
        fields += [pa.field(name, WINDOW_TIME) for name in bounds]
        fields += [pa.field(one.name, one.output) for one in bound]
        made = StreamType(pa.schema(fields), self._timed)
        if not whole:
            outcome = Aggregating(of_columns(bound))
            return self._by_row("window", columns, outcome, made.schema, hidden)
        assert made.wire is not None, "aggregates of columns are columns"
        if sees_rows(self._window, self._choices):
            hidden.plain.update(columns.schema.names)
        with located(columns.where):
            spec = self._aggregate_spec(bound, made.wire, tuple(hidden.computed))
        prepared = hidden.prepared(self._keys)
        return self._keep("window", spec, made, columns.where, prepared)

    def reduce(
        self, fn: Callable[..., Any], *, fn_kwargs: Mapping[str, Any] | None = None
    ) -> Stream:
        """Join the rows of each window two by two: ``fn(earlier, row)``; columns stay."""
        columns = self._columns("reduce")
        function = transforms.user_function("reduce", fn, fn_kwargs, columns.where)
        return self._by_row("reduce", columns, Reducing(function), columns.type.schema)

    def apply(
        self,
        fn: Callable[..., Any],
        schema: pa.Schema | None = None,
        *,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give what ``fn(key, window, rows)`` yields; ``rows`` are in order of arrival.

        ``window`` has ``start`` and ``end`` in microseconds; without a key, ``key`` is None.
        """
        columns = self._columns("apply")
        function = transforms.user_function("apply", fn, fn_kwargs, columns.where)
        made = transforms.declared(self._tip.node, "apply", schema, columns.where)
        return self._by_row("apply", columns, Applying(function), made.schema)

    def top_k(
        self,
        k: int,
        by: Any,
        *,
        descending: bool | Sequence[bool] = True,
        ties: bool = False,
        rank: str | None = None,
    ) -> Stream:
        """Keep the ``k`` best rows of each key and window, whole; ``rank`` adds their place."""
        columns = self._columns("top_k")
        if not is_count(k):
            raise columns.error(f"top_k() takes a positive int, got {k!r}")
        if columns.type.schema is None:
            pairs = object_order(columns, by, descending)
            return self._by_row("top_k", columns, Ranking(k, pairs, ties, rank), None)
        schema = columns.schema
        if rank is not None and rank in schema.names:
            raise columns.error(f'top_k(): the name "{rank}" is taken by a column')
        hidden = HiddenColumns(columns)
        hidden.plain.update(schema.names)
        order = read_order(hidden, by, descending)
        if rank is not None:
            schema = schema.append(pa.field(rank, pa.int64()))
        if not takes_columns(self._window, self._choices, None):
            outcome = Ranking(k, order, ties, rank)
            return self._by_row("top_k", columns, outcome, schema, hidden)
        made = StreamType(schema, timed=True)
        assert made.wire is not None, "rows of columns are columns"
        spec = WindowTopKSpec(self._keys, self._grid, k, order, ties, rank, made.wire)
        return self._keep("top_k", spec, made, columns.where, hidden.prepared(self._keys))

    def deduplicate(self, keep: str = "first") -> Stream:
        """Keep one row of each key and window, whole: the first to arrive, or the latest.

        ``keep="last"`` keeps the one with the greatest event time; of equals, the first to arrive.
        """
        columns = self._columns("deduplicate")
        if keep not in ("first", "last"):
            raise columns.error(f'deduplicate(keep=) is "first" or "last", got {keep!r:.60}')
        return self._by_row("deduplicate", columns, Keeping(keep), columns.type.schema)

    # Below the surface

    def _columns(self, verb: str) -> StreamColumns:
        return StreamColumns(self._tip.node, verb, user_line())

    def _with(self, **choices: Any) -> WindowedStream:
        chosen = replace(self._choices, **choices)
        return WindowedStream(
            self._tip, self._window, self._keys, single=self._single, choices=chosen
        )

    @property
    def _grid(self) -> GridWindow:
        assert isinstance(self._window, (Tumbling, Sliding, Cumulative)), (
            "operators of columns take a grid"
        )
        return self._window

    @property
    def _timed(self) -> bool:
        """Whether what comes out has event time."""
        return is_timed(self._window) or self._tip.node.type.timed

    def _aggregate_spec(
        self, bound: tuple[Bound, ...], output: pa.Schema, hidden: tuple[str, ...]
    ) -> Spec:
        lateness_us, tag = self._choices.lateness_us, self._choices.late_tag
        if isinstance(self._window, Session):
            return SessionAggregateSpec(self._keys, self._window, bound, output, tag, hidden)
        return WindowAggregateSpec(
            self._keys,
            self._grid,
            bound,
            output,
            lateness_us=lateness_us,
            late_tag=tag,
            hidden=hidden,
        )

    def _of_objects(self, columns: StreamColumns, read: Mapping[str, Aggregate]) -> Stream:
        items = tuple(read.items())
        spec = ObjectWindowSpec(self._grid, items, self._keys, "window", columns.where)
        return self._keep("window", spec, StreamType(None, timed=True), columns.where)

    def _by_row(
        self,
        verb: str,
        columns: StreamColumns,
        outcome: Outcome,
        schema: pa.Schema | None,
        hidden: HiddenColumns | None = None,
    ) -> Stream:
        """Write down the operator that goes row by row; ``hidden`` is what it needs."""
        choices, given = self._choices, columns.type.schema
        check_fires(self._tip.node, self._window, choices.trigger, columns)
        prepared, visible = None, ()
        if hidden is not None:
            if given is not None and sees_rows(self._window, choices):
                hidden.plain.update(given.names)
            prepared = hidden.prepared(self._keys)
        if prepared is not None and prepared.type.schema is not None and hidden is not None:
            names = prepared.type.schema.names
            visible = tuple(name for name in names if name not in hidden.computed)
        made = StreamType(schema, self._timed)
        spec = WindowRowsSpec(
            window=self._window,
            outcome=outcome,
            keys=None if given is None else tuple(given.field(key) for key in self._keys),
            key_names=self._keys,
            output=made.wire,
            timed=made.timed,
            operator=verb,
            where=columns.where,
            lateness_us=choices.lateness_us,
            late_tag=choices.late_tag,
            trigger=choices.trigger,
            evictor=choices.evictor,
            hidden=() if hidden is None else tuple(hidden.computed),
            visible=visible,
        )
        return self._keep(verb, spec, made, columns.where, prepared)

    def _keep(
        self,
        verb: str,
        spec: Spec,
        type: StreamType,
        where: str,
        prepared: Prepared | None = None,
    ) -> Stream:
        tag = self._choices.late_tag
        made = self._tip.then(
            verb,
            spec,
            type,
            where,
            prepared=prepared,
            stateful=True,
            single=self._single,
            sides={} if tag is None else {tag: self._tip.node.type},
        )
        return Stream(made)


def window_all(tip: Tip, window: Window) -> WindowedStream:
    """Gather all rows of a stream in windows, in one subtask."""
    where = user_line()
    check_not_broadcast(tip, "window_all", where)
    check_window(tip.node, window, (), "window_all", where)
    return WindowedStream(Tip(tip.draft, tip.node, ToOne()), window, (), single=True)
