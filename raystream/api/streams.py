"""Streams: what users call verbs on. Each verb writes one operator into the job's draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raystream.api import changelogs, collecting, connected, display, joining, placement, transforms
from raystream.api.callsite import user_line
from raystream.api.changelogs import TAKES_CHANGES, check_keeps_order
from raystream.api.draft import Tip
from raystream.contracts.functions import Opened
from raystream.contracts.sink import Sink
from raystream.contracts.watermark import Strategy
from raystream.contracts.window import Window
from raystream.errors import PlanError
from raystream.flow.exchange import (
    Broadcast,
    Custom,
    Exchange,
    Forward,
    Rebalance,
    Shuffle,
    ToOne,
)
from raystream.flow.time import Duration
from raystream.graph.logical import StreamType, label
from raystream.operators.operator import Spec
from raystream.operators.sink import SinkSpec

if TYPE_CHECKING:
    from raystream.api.keyed import KeyedStream
    from raystream.api.windowed import WindowedStream

RowFunction = Callable[..., Any]


class Stream:
    """Rows on their way, of columns or of objects; verbs give new streams and run nothing."""

    def __init__(self, tip: Tip) -> None:
        self._tip = tip

    _keyed_by: tuple[str, ...] | None = None

    named = placement.named
    uid = placement.uid
    with_parallelism = placement.with_parallelism
    with_resources = placement.with_resources
    disable_chaining = placement.disable_chaining
    on_error = placement.on_error

    join = joining.join
    as_of_join = joining.as_of_join

    @property
    def schema(self) -> pa.Schema | None:
        """The columns, known before the job starts; None on a stream of objects."""
        return self._tip.node.type.schema

    @property
    def changelog(self) -> tuple[str, ...] | None:
        """The key columns of the table whose changes flow here; None: rows are rows."""
        return self._tip.node.type.changelog

    def __repr__(self) -> str:
        kind = "objects"
        if self.schema is not None:
            kind = ", ".join(f"{field.name} {field.type}" for field in self.schema)
        return f'<{type(self).__name__} "{label(self._tip.node)}": {kind}>'

    def _repr_html_(self) -> str:
        title = f"{type(self).__name__} {label(self._tip.node)}"
        return display.schema_table(title, self.schema)

    # Row functions

    def map(
        self,
        fn: RowFunction,
        schema: pa.Schema | None = None,
        *,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give what ``fn`` makes of each row: objects, or columns with ``schema``.

        A row of a columnar stream is a dict.
        Raises: UserFunctionError when it runs, if ``fn`` does.
        """
        return self._then("map", *transforms.map_rows(self._tip.node, fn, schema, fn_kwargs))

    def flat_map(
        self,
        fn: RowFunction,
        schema: pa.Schema | None = None,
        *,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give every row that ``fn`` yields, or returns in a list, for each row.

        None is no row; a dict, a text or bytes that is returned is refused.
        """
        return self._then(
            "flat_map", *transforms.flat_map_rows(self._tip.node, fn, schema, fn_kwargs)
        )

    def filter(self, predicate: Any, *, fn_kwargs: Mapping[str, Any] | None = None) -> Stream:
        """Keep the rows for which an expression, or a function of the row, is true; null is not."""
        return self._then("filter", *transforms.filter_rows(self._tip.node, predicate, fn_kwargs))

    def map_batches(
        self,
        fn: RowFunction,
        *,
        schema: pa.Schema | None = None,
        batch_size: int | None = None,
        batch_format: str = "arrow",
        timestamp: str | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give what ``fn`` makes of whole batches, at most ``batch_size`` rows each.

        ``batch_format`` is arrow, pandas, numpy or polars. Without ``schema`` columns stay as they
        are. Event time goes by position; where the number of rows changes, other than to none,
        ``timestamp`` names the column that holds it.
        """
        parts = transforms.map_batches(
            self._tip.node,
            fn,
            schema,
            fn_kwargs,
            batch_size=batch_size,
            batch_format=batch_format,
            timestamp=timestamp,
        )
        return self._then("map_batches", *parts)

    def async_map(
        self,
        fn: RowFunction,
        *,
        capacity: int = 100,
        timeout: Duration | None = None,
        ordered: bool = True,
        retries: int = 0,
        schema: pa.Schema | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give what awaiting ``fn`` makes of each row, with at most ``capacity`` rows in flight.

        ``ordered`` results come in the order of the rows, others as they are there, but never
        across a watermark; on a keyed stream those of one key stay in order. Each attempt may take
        ``timeout``, then it is an error; there are ``retries`` further attempts.
        """
        how = transforms.Awaiting(capacity, timeout, ordered, retries)
        keys = self._ordering_keys
        spec, type = transforms.async_map_rows(
            self._tip.node, fn, schema, fn_kwargs, how=how, keys=keys
        )
        return Stream(self._tip.then("async_map", spec, type, user_line(), stateful=True))

    def process(
        self,
        fn: Any,
        schema: pa.Schema | None = None,
        *,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give the rows that a ``ProcessFunction`` makes of each row.

        It is an instance, or a class that each subtask makes with ``fn_kwargs``; what it sends
        aside is read with ``side_output(tag)``.
        """
        return Stream(connected.process(self._tip, self._keyed_by, fn, schema, fn_kwargs))

    # Columns

    def select(self, *columns: Any, **exprs: Any) -> Stream:
        """Keep columns by name, and compute others, in the order given.

        Raises: PlanError for an unknown column, or an expression that needs more than its row.
        """
        return self._then("select", *transforms.select(self._tip.node, columns, exprs))

    def with_columns(self, **exprs: Any) -> Stream:
        """Add computed columns, or replace them in place; every expression sees the input."""
        return self._then("with_columns", *transforms.with_columns(self._tip.node, exprs))

    def drop(self, *names: str) -> Stream:
        """Leave columns out."""
        return self._then("drop", *transforms.drop(self._tip.node, names))

    def rename(self, names: Mapping[str, str]) -> Stream:
        """Call columns something else: ``{old: new}``."""
        return self._then("rename", *transforms.rename(self._tip.node, names))

    def explode(self, column: str) -> Stream:
        """Give one row for each element of a list; a null or empty one gives none."""
        return self._then("explode", *transforms.explode(self._tip.node, column))

    def with_schema(self, schema: pa.Schema) -> Stream:
        """Turn a stream of dicts into columns."""
        return self._then("with_schema", *transforms.with_schema(self._tip.node, schema))

    def to_rows(self, op: str = "op") -> Stream:
        """Make each change of a changelog a plain row, with its kind in a column.

        The kinds are ``+I``, ``-U``, ``+U`` and ``-D``.
        """
        return Stream(changelogs.to_rows(self._tip, op))

    def to_changelog(self, key: str | Sequence[str], op: str = "op") -> Stream:
        """Take rows for the changes of a table: ``key`` names its key columns, ``op`` the kinds.

        The kinds are ``+I``, ``-U``, ``+U`` and ``-D``; their column is left out.
        """
        return Stream(changelogs.to_changelog(self._tip, key, op))

    # Streams and time

    def key_by(
        self, *columns: Any, fn_kwargs: Mapping[str, Any] | None = None, **exprs: Any
    ) -> KeyedStream:
        """Bring rows of one key together: by columns, computed columns, or a function of the row.

        With a function the stream becomes one of objects, and its key column is ``key``.
        """
        from raystream.api.keyed import key_by

        return key_by(self._tip, columns, exprs, fn_kwargs)

    def window_all(self, window: Window) -> WindowedStream:
        """Gather all rows in windows, in one subtask."""
        from raystream.api.windowed import window_all

        return window_all(self._tip, window)

    def union(self, *streams: Stream) -> Stream:
        """Join streams of the same columns into one, in no order; changelogs as well."""
        for other in streams:
            if not isinstance(other, Stream):
                raise PlanError(f"union() takes streams, got {other!r:.60}", where=user_line())
        tips = [other._tip for other in streams]  # noqa: SLF001  others', but of the same class
        return Stream(changelogs.union(self._tip, tips))

    def connect(self, other: Stream) -> connected.ConnectedStreams:
        """Put another stream beside this one, for a function that takes the rows of both.

        Both keyed, they meet by key; ``other.broadcast()`` goes to every subtask.
        """
        if not isinstance(other, Stream):
            raise PlanError(f"connect() takes a stream, got {other!r:.60}", where=user_line())
        return connected.connect(self._tip, self._keyed_by, other._tip, other._keyed_by)

    def assign_timestamps(self, watermark: Strategy) -> Stream:
        """Give rows an event time, new or first, and make watermarks from it."""
        return self._then(
            "assign_timestamps", *transforms.assign_timestamps(self._tip.node, watermark)
        )

    def side_output(self, tag: str, schema: pa.Schema | None = None) -> Stream:
        """Give the rows that the operator of this stream sent under ``tag``.

        Late rows of a window keep its input's columns; rows of a function are objects, or dicts
        that become the columns of ``schema``.
        """
        return Stream(transforms.side_output(self._tip, tag, schema))

    @property
    def dead_letters(self) -> Stream:
        """The rows that the operator of this stream has given up, under on_error("dead_letter").

        Dicts of ``row``, ``error``, ``traceback``, ``operator`` and ``timestamp`` (microseconds, or
        None).
        """
        return Stream(transforms.dead_letters(self._tip))

    # Exchanges

    def forward(self) -> Stream:
        """Keep rows in the subtask of the same number."""
        return self._by(Forward())

    def rebalance(self, *, local: bool = False) -> Stream:
        """Deal rows out evenly, to all subtasks or, if local, within groups of them."""
        return self._by(Rebalance(local))

    def shuffle(self) -> Stream:
        """Send each row to a subtask chosen at random."""
        return self._by(Shuffle())

    def broadcast(self) -> Stream:
        """Send every row to every subtask."""
        return self._by(Broadcast())

    def to_one(self) -> Stream:
        """Send all rows to the first subtask."""
        return self._by(ToOne())

    def partition_by(
        self, fn: Callable[..., int], *, fn_kwargs: Mapping[str, Any] | None = None
    ) -> Stream:
        """Send each row to the subtask that ``fn`` of the row says, modulo their number."""
        where = user_line()
        function = transforms.user_function("partition_by", fn, fn_kwargs, where)
        call = function.target if function.is_plain else Opened(function)
        return self._by(Custom(call, "partition_by", where))

    # Ends

    def sink(self, sink: Sink) -> End:
        """Write every row to a sink."""
        where = user_line()
        if not isinstance(sink, Sink):
            raise PlanError(
                f"sink() takes a sink, got {type(sink).__name__} {sink!r:.60}",
                where=where,
                hint='rs.FileSink("out", "parquet"), rs.PrintSink(), …',
            )
        return self._end("sink", sink, where)

    def print(self, prefix: str | None = None) -> End:
        """Print every row."""
        from raystream.connectors.console import PrintSink

        return self._end("print", PrintSink(prefix), user_line())

    def collect(self, limit: int | None = None, runtime: str = "local") -> list[Any]:
        """Run what this stream needs and give its rows; an unbounded stream needs a limit.

        Of a changelog it gives the final table. Raises: PlanError without the limit; JobFailed.
        """
        return collecting.rows(self._tip, limit, runtime)

    def to_arrow(self, limit: int | None = None, runtime: str = "local") -> pa.Table:
        """Run what this stream needs and give its rows as a table, as ``collect`` does."""
        return collecting.table(self._tip, limit, runtime)

    def show(self, n: int = 20) -> None:
        """Run what this stream needs and print its first rows."""
        collecting.show(self._tip, n)

    # Below the surface

    @property
    def _ordering_keys(self) -> tuple[str, ...] | None:
        """The keys whose rows stay in order, on a keyed stream."""
        return None

    def _by(self, exchange: Exchange) -> Stream:
        check_keeps_order(self._tip, exchange, user_line())
        return Stream(Tip(self._tip.draft, self._tip.node, exchange))

    def _then(self, verb: str, spec: Spec, type: StreamType) -> Stream:
        changes = verb in TAKES_CHANGES
        return Stream(self._tip.then(verb, spec, type, user_line(), changes=changes))

    def _end(self, verb: str, sink: Sink, where: str) -> End:
        spec = SinkSpec(sink, verb, where)
        return End(self._tip.then(verb, spec, StreamType(None), where, changes=sink.upserts))


class End:
    """The end of a stream: an operator whose output nobody can take."""

    def __init__(self, tip: Tip) -> None:
        self._tip = tip

    named = placement.named
    uid = placement.uid
    with_parallelism = placement.with_parallelism
    with_resources = placement.with_resources
    disable_chaining = placement.disable_chaining
    on_error = placement.on_error

    @property
    def dead_letters(self) -> Stream:
        """The rows that could not be written, under on_error("dead_letter")."""
        return Stream(transforms.dead_letters(self._tip))

    def __repr__(self) -> str:
        return f'<End "{self._tip.node.name}">'
