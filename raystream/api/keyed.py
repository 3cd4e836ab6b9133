"""Streams behind a key: running aggregates, functions with state, windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raystream.api import per_key, transforms
from raystream.api.aggregates import (
    HiddenColumns,
    bind,
    check_object_aggregates,
    read_aggregates,
)
from raystream.api.callsite import located, user_line
from raystream.api.columns import StreamColumns, is_expression
from raystream.api.connected import key_form
from raystream.api.draft import Tip, check_not_broadcast
from raystream.api.join_checks import check_key
from raystream.api.streams import Stream
from raystream.api.window_checks import check_window
from raystream.api.windowed import WindowedStream
from raystream.contracts.aggregate import Bound
from raystream.contracts.state import ValueState
from raystream.contracts.window import Window
from raystream.flow.exchange import Hash
from raystream.flow.time import Duration
from raystream.graph.logical import Prepared, StreamType
from raystream.operators import columns as steps
from raystream.operators.key_by import KeyByFieldsSpec, KeyByFunctionSpec
from raystream.operators.map_with_state import MapWithStateSpec
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.operator import Spec
from raystream.operators.reduce import ReduceSpec
from raystream.operators.running_aggregate import RunningAggregateSpec


class KeyedStream(Stream):
    """Rows of one key go to one subtask, in their order; what keeps state per key starts here."""

    def __init__(self, tip: Tip, keys: tuple[str, ...]) -> None:
        super().__init__(tip)
        self._keys = self._keyed_by = keys

    def aggregate(self, *, emit: str = "row", over: Any = None, **aggregates: Any) -> Stream:
        """Keep running aggregates of each key; out come the key columns and the aggregates.

        ``emit="row"`` gives the new values after each row, ``"batch"`` those of each touched key
        once a batch, ``"final"`` once, at the end of bounded input; ``"changes"`` makes a changelog
        of them. Where the rows are changes of a table, the aggregates are those of the table by
        then, and a key without rows is gone. ``over``, a duration or a number of rows, gives every
        row whole instead, with the aggregates over the rows of its key in that time up to it, or so
        many.
        """
        where = user_line()
        if over is not None:
            return Stream(per_key.aggregate_over(self._tip, self._keys, over, aggregates, emit))
        per_key.check_emit(emit, self._tip.node, where)
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
        signed = columns.type.changelog is not None
        bounds = bind(hidden, read, signed=signed)
        fields = [columns.schema.field(key) for key in self._keys]
        changelog = self._keys if emit == "changes" else None
        schema = pa.schema([*fields, *_fields(bounds)])
        made = StreamType(schema, self._tip.node.type.timed, changelog)
        assert made.wire is not None, "aggregates of columns are columns"
        with located(where):
            spec = RunningAggregateSpec(self._keys, bounds, emit, made.wire, signed=signed)
        prepared = hidden.prepared(self._keys)
        return self._keep("aggregate", spec, made, where, prepared, changes=True)

    def reduce(
        self,
        fn: Callable[..., Any],
        *,
        emit: str = "row",
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Join the rows of each key two by two: ``fn(earlier, row)``; the input's columns stay."""
        where = user_line()
        per_key.check_emit(emit, self._tip.node, where)
        function = transforms.user_function("reduce", fn, fn_kwargs, where)
        type = self._tip.node.type
        made = StreamType(type.schema, type.timed, self._keys if emit == "changes" else None)
        spec = ReduceSpec(function, self._key_columns, made.wire, emit, "reduce", where)
        return self._keep("reduce", spec, made, where)

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
        forgotten, out None is no row. With ``type`` the state is checked and kept as a column
        that anyone can read; ``ttl`` is how long it lives after its last change.
        """
        where = user_line()
        with located(where):
            state = ValueState("state", type=type, ttl=ttl)
        made = transforms.declared(self._tip.node, "map_with_state", schema, where)
        function = transforms.user_function("map_with_state", fn, fn_kwargs, where)
        spec = MapWithStateSpec(
            function,
            initial,
            self._key_columns,
            made.wire,
            "map_with_state",
            where,
            state,
            key_form(self._tip.node, self._keys),
        )
        return self._keep("map_with_state", spec, made, where)

    def deduplicate(
        self,
        keep: str = "first",
        ttl: Duration | None = None,
        *,
        emit: str = "row",
    ) -> Stream:
        """Keep one row of each key: the first to arrive, or the one with the greatest event time.

        A key is forgotten after ``ttl`` of processing time without a row that was kept.
        """
        return Stream(per_key.deduplicate(self._tip, self._keys, keep, ttl, emit))

    def top_k(
        self,
        k: int,
        by: Any,
        *,
        descending: bool | Sequence[bool] = True,
        ties: bool = False,
        rank: str | None = None,
        emit: str = "row",
    ) -> Stream:
        """Keep the ``k`` best rows of each key so far, whole; ``rank`` adds their place.

        ``emit="row"`` gives each row that comes to be among them, and where there is a ``rank``
        those whose rank it changes.
        """
        made = per_key.top_k(
            self._tip,
            self._keys,
            k,
            by,
            descending=descending,
            ties=ties,
            rank=rank,
            emit=emit,
        )
        return Stream(made)

    def window(self, window: Window) -> WindowedStream:
        """Gather the rows of each key in windows."""
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
        *,
        changes: bool = False,
    ) -> Stream:
        made = self._tip.then(
            verb, spec, type, where, prepared=prepared, stateful=True, changes=changes
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
    check_not_broadcast(tip, "key_by", where)
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
        node = tip.then("key_by", *made, where, changes=True).node
        checks = StreamColumns(node, "key_by", where)
    for key in keys:
        check_key(checks, key)
    return KeyedStream(Tip(tip.draft, node, Hash(keys)), keys)


def _keyed_objects(tip: Tip, spec: Spec, keys: tuple[str, ...], where: str) -> KeyedStream:
    node = tip.then("key_by", spec, StreamType(None, tip.node.type.timed), where).node
    return KeyedStream(Tip(tip.draft, node, Hash(keys)), keys)


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


def _fields(bounds: tuple[Bound, ...]) -> list[pa.Field]:
    return [pa.field(bound.name, bound.output) for bound in bounds]
