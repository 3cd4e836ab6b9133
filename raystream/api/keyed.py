"""Streams behind a key: running aggregates, functions with state, windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raystream.api import transforms
from raystream.api.aggregates import (
    HiddenColumns,
    bind,
    check_object_aggregates,
    read_aggregates,
)
from raystream.api.callsite import located, user_line
from raystream.api.checks import is_count
from raystream.api.columns import StreamColumns, is_expression
from raystream.api.draft import Tip
from raystream.api.streams import Stream
from raystream.contracts.aggregate import Bound
from raystream.contracts.window import Sliding, Tumbling, Window
from raystream.errors import PlanError
from raystream.flow.exchange import Hash, ToOne
from raystream.flow.key import check_key_type
from raystream.graph.logical import LogicalNode, Prepared, StreamType, is_bounded
from raystream.operators import columns as steps
from raystream.operators.key_by import KeyByFieldsSpec, KeyByFunctionSpec
from raystream.operators.map_with_state import MapWithStateSpec
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.object_window import ObjectWindowSpec
from raystream.operators.operator import Spec
from raystream.operators.reduce import ReduceSpec
from raystream.operators.running_aggregate import RunningAggregateSpec
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_top_k import WindowTopKSpec

EMITS = ("row", "batch", "final")
_WINDOW_COLUMNS = ("window_start", "window_end")
_WINDOW_TIME = pa.timestamp("us", "UTC")


class KeyedStream(Stream):
    """Rows of one key go to one subtask, in their order; what keeps state per key starts here."""

    def __init__(self, tip: Tip, keys: tuple[str, ...]) -> None:
        super().__init__(tip)
        self._keys = keys

    def aggregate(self, *, emit: str = "row", over: Any = None, **aggregates: Any) -> Stream:
        """Keep running aggregates of each key; out come the key columns and the aggregates.

        ``emit="row"`` gives the new values after each row, ``"batch"`` those of each touched key
        once a batch, ``"final"`` once, at the end of bounded input.
        """
        where = user_line()
        _check_emit(emit, self._tip.node, where)
        if over is not None:
            raise _later("aggregate(over=…)", where)
        columns = StreamColumns(self._tip.node, "aggregate", where)
        taken = dict.fromkeys(self._keys, "a key column")
        read = read_aggregates(aggregates, taken, "aggregate", where)
        if self.schema is None:
            check_object_aggregates(columns, read)
            spec: Spec = ObjectAggregateSpec(
                tuple(read.items()), emit, self._keys, "aggregate", where
            )
            return self._keep("aggregate", spec, StreamType(None, self._tip.node.type.timed), where)
        hidden = HiddenColumns(columns)
        bounds = bind(hidden, read)
        fields = [columns.schema.field(key) for key in self._keys]
        made = StreamType(pa.schema([*fields, *_fields(bounds)]), self._tip.node.type.timed)
        assert made.wire is not None, "aggregates of columns are columns"
        with located(where):
            spec = RunningAggregateSpec(self._keys, bounds, emit, made.wire)
        return self._keep("aggregate", spec, made, where, hidden.prepared(self._keys))

    def reduce(
        self,
        fn: Callable[..., Any],
        *,
        emit: str = "row",
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Join the rows of each key two by two: ``fn(earlier, row)``; the input's columns stay."""
        where = user_line()
        _check_emit(emit, self._tip.node, where)
        function = transforms.user_function("reduce", fn, fn_kwargs, where)
        type = self._tip.node.type
        spec = ReduceSpec(function, self._key_columns, type.wire, emit, "reduce", where)
        return self._keep("reduce", spec, type, where)

    def map_with_state(
        self,
        fn: Callable[..., Any],
        initial: Any = None,
        *,
        type: pa.DataType | None = None,
        ttl: Any = None,
        schema: pa.Schema | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Call ``fn(state, row) -> (state, out)`` with the state of the row's key.

        ``initial`` is a value copied for each key, or a callable that makes it. State None is
        forgotten, out None is no row.
        """
        where = user_line()
        if ttl is not None:
            raise _later("map_with_state(ttl=…)", where)
        made = transforms.declared(self._tip.node, "map_with_state", schema, where)
        function = transforms.user_function("map_with_state", fn, fn_kwargs, where)
        spec = MapWithStateSpec(
            function, initial, self._key_columns, made.wire, "map_with_state", where
        )
        return self._keep("map_with_state", spec, made, where)

    def window(self, window: Window) -> WindowedStream:
        """Gather the rows of each key in windows of event time."""
        where = user_line()
        check_window(self._tip.node, window, self._keys, "window", where)
        return WindowedStream(self._tip, window, self._keys)

    @property
    def _key_columns(self) -> tuple[str, ...] | None:
        return None if self.schema is None else self._keys

    @property
    def _ordering_keys(self) -> tuple[str, ...] | None:
        return self._keys

    def _keep(
        self,
        verb: str,
        spec: Spec,
        type: StreamType,
        where: str,
        prepared: Prepared | None = None,
    ) -> Stream:
        return Stream(self._tip.then(verb, spec, type, where, prepared=prepared, stateful=True))


class WindowedStream:
    """Rows gathered in windows, of each key or of all."""

    def __init__(
        self, tip: Tip, window: Window, keys: tuple[str, ...], *, single: bool = False
    ) -> None:
        self._tip = tip
        self._window = window
        self._keys = keys
        self._single = single

    def aggregate(self, **aggregates: Any) -> Stream:
        """Give one row for each key and window: keys, ``window_start``, ``window_end``, aggregates.

        Its event time is the last microsecond of the window.
        """
        where = user_line()
        node = self._tip.node
        columns = StreamColumns(node, "aggregate", where)
        taken = dict.fromkeys(self._keys, "a key column")
        taken |= dict.fromkeys(_WINDOW_COLUMNS, "the window")
        read = read_aggregates(aggregates, taken, "aggregate", where)
        if node.type.schema is None:
            check_object_aggregates(columns, read)
            spec: Spec = ObjectWindowSpec(
                self._window, tuple(read.items()), self._keys, "window", where
            )
            return self._keep("window", spec, StreamType(None, timed=True), where)
        hidden = HiddenColumns(columns)
        bounds = bind(hidden, read)
        fields = [columns.schema.field(key) for key in self._keys]
        fields += [pa.field(name, _WINDOW_TIME) for name in _WINDOW_COLUMNS]
        made = StreamType(pa.schema([*fields, *_fields(bounds)]), timed=True)
        assert made.wire is not None, "aggregates of columns are columns"
        with located(where):
            spec = WindowAggregateSpec(self._keys, self._window, bounds, made.wire)
        return self._keep("window", spec, made, where, hidden.prepared(self._keys))

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
        where = user_line()
        columns = StreamColumns(self._tip.node, "top_k", where)
        schema = columns.schema
        if not is_count(k):
            raise columns.error(f"top_k() takes a positive int, got {k!r}")
        if rank is not None and rank in schema.names:
            raise columns.error(f'top_k(): the name "{rank}" is taken by a column')
        hidden = HiddenColumns(columns)
        hidden.plain.update(schema.names)
        order = _order(hidden, by, descending)
        if rank is not None:
            schema = schema.append(pa.field(rank, pa.int64()))
        made = StreamType(schema, timed=True)
        assert made.wire is not None, "rows of columns are columns"
        spec = WindowTopKSpec(self._keys, self._window, k, order, ties, rank, made.wire)
        return self._keep("top_k", spec, made, where, hidden.prepared(self._keys))

    def _keep(
        self,
        verb: str,
        spec: Spec,
        type: StreamType,
        where: str,
        prepared: Prepared | None = None,
    ) -> Stream:
        made = self._tip.then(
            verb, spec, type, where, prepared=prepared, stateful=True, single=self._single
        )
        return Stream(made)


def key_by(
    tip: Tip,
    columns: Sequence[Any],
    exprs: Mapping[str, Any],
    fn_kwargs: Mapping[str, Any] | None = None,
) -> KeyedStream:
    """Key a stream by columns, by computed columns, or by a function of the row.

    Raises: PlanError if there is no key, or a key has a type that cannot be one.
    """
    where = user_line()
    node = tip.node
    checks = StreamColumns(node, "key_by", where)
    if not columns and not exprs:
        raise checks.error("key_by() has no key", hint='key_by("user"), or key_by(function)')
    functions = [one for one in columns if callable(one) and not is_expression(one)]
    if functions:
        if len(columns) + len(exprs) > 1:
            raise checks.error("key_by() takes one function, or columns, not both")
        function = transforms.user_function("key_by", functions[0], fn_kwargs, where)
        columnar = node.type.schema is not None
        spec: Spec = KeyByFunctionSpec(function, "key_by", where, columnar)
        return _keyed_objects(tip, spec, ("key",), where)
    if fn_kwargs is not None:
        raise checks.error("key_by(): fn_kwargs= goes to a function, and the keys are columns")
    if node.type.schema is None:
        names = _field_names(checks, columns, exprs)
        return _keyed_objects(tip, KeyByFieldsSpec(names, "key_by", where), names, where)
    chosen = checks.named(columns, exprs)
    keys = tuple(name for name, _ in chosen)
    computed = tuple((name, expr) for name, expr in chosen if expr is not None)
    if computed:
        made = transforms.columns_spec(checks, "key_by", steps.WithColumns(computed, where))
        node = tip.then("key_by", *made, where).node
        checks = StreamColumns(node, "key_by", where)
    for key in keys:
        _check_key(checks, key)
    return KeyedStream(Tip(tip.draft, node, Hash(keys)), keys)


def window_all(tip: Tip, window: Window) -> WindowedStream:
    """Gather all rows of a stream in windows, in one subtask."""
    where = user_line()
    check_window(tip.node, window, (), "window_all", where)
    return WindowedStream(Tip(tip.draft, tip.node, ToOne()), window, (), single=True)


def check_window(
    node: LogicalNode, window: Any, keys: tuple[str, ...], verb: str, where: str
) -> None:
    """Refuse what is no window, and windows where there is no event time to open them by.

    Raises: PlanError.
    """
    columns = StreamColumns(node, verb, where)
    if not isinstance(window, (Tumbling, Sliding)):
        raise columns.error(
            f"{verb}() takes a window, got {window!r:.60}",
            hint='rs.Tumbling("10s"), or rs.Sliding("10s", "2s")',
        )
    if not node.type.timed:
        raise columns.error(
            f'{verb}() needs event time, and stream "{columns.stream}" has none: its source has '
            "no watermark strategy",
            hint='job.source(…, watermark=rs.WatermarkStrategy("time")), or assign_timestamps(…)',
        )
    for key in keys:
        if key in _WINDOW_COLUMNS:
            raise columns.error(
                f'a key column cannot be called "{key}": the window\'s own column is',
                hint="rename() it before key_by()",
            )


def _keyed_objects(tip: Tip, spec: Spec, keys: tuple[str, ...], where: str) -> KeyedStream:
    node = tip.then("key_by", spec, StreamType(None, tip.node.type.timed), where).node
    return KeyedStream(Tip(tip.draft, node, Hash(keys)), keys)


def _check_key(checks: StreamColumns, key: str) -> None:
    try:
        check_key_type(checks.type_of(key))
    except PlanError as error:
        raise checks.error(f'key "{key}": {error.message}', hint=error.hint) from error


def _field_names(
    checks: StreamColumns, columns: Sequence[Any], exprs: Mapping[str, Any]
) -> tuple[str, ...]:
    if exprs or not all(isinstance(name, str) for name in columns):
        raise checks.error(
            f'key_by(): stream "{checks.stream}" carries objects, which expressions do not read',
            hint="name keys of the dict, give a function of the row, or call with_schema() before",
        )
    if len(set(columns)) < len(columns):
        raise checks.error("key_by() names a key twice")
    return tuple(columns)


def _order(
    hidden: HiddenColumns, by: Any, descending: bool | Sequence[bool]
) -> tuple[tuple[str, bool], ...]:
    values = list(by) if isinstance(by, (list, tuple)) else [by]
    ways = list(descending) if isinstance(descending, (list, tuple)) else [descending] * len(values)
    columns = hidden.columns
    if not values or len(ways) != len(values) or not all(isinstance(way, bool) for way in ways):
        raise columns.error(
            f"top_k() takes as many descending= as by=, got {ways!r} for {len(values)} columns"
        )
    order = []
    for value, way in zip(values, ways, strict=True):
        name, kind = hidden.take(value)
        if pa.types.is_nested(kind):
            raise columns.error(f"top_k() compares values, and {kind} has no order")
        order.append((name, bool(way)))
    return tuple(order)


def _check_emit(emit: Any, node: LogicalNode, where: str) -> None:
    if emit == "changes":
        raise _later('emit="changes"', where)
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


def _fields(bounds: tuple[Bound, ...]) -> list[pa.Field]:
    return [pa.field(bound.name, bound.output) for bound in bounds]


def _later(what: str, where: str) -> PlanError:
    return PlanError(f"{what} is not in this release yet", where=where)
