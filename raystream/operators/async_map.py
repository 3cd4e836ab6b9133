"""Call an async function with each row, many at a time: ``await fn(row)``.

Rows are in flight from the moment they come until their result has left, and so are the watermarks
between them: one leaves when all rows before it have. While rows are in flight the operator looks
every millisecond which results are there. On a clock that only tests move it waits for all of them
whenever it looks, so that what comes out when does not depend on how fast they were.
"""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.clock import SystemClock
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.flow.batch import Batch, Columns, Int64s, Objects, concat
from raystream.flow.codec import pickled
from raystream.flow.element import MAX_TIME, MIN_TIME, Status, Watermark
from raystream.flow.hashing import hash_columns, hash_objects
from raystream.keyed.snapshot import (
    Section,
    Share,
    Snapshot,
    keyed_section,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.event_loop import Call, EventLoop
from raystream.operators.guard import Failed, close_function, failed, open_function
from raystream.operators.keyed_rows import rows_and_keys
from raystream.operators.operator import Operator, Output
from raystream.operators.rejecting import columns_of, reject_row, rows_kept, time_of

_LOOK_EVERY_US = 1_000
_WAIT_S = 0.005
"""How long work stops for results before whoever pulls it may do something else."""

_WAIT_FOR_ALL_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class AsyncMapSpec:
    """One row of each, at its event time, by an async function.

    ``keys`` are the key columns of a keyed stream of columns, () on a keyed stream of objects, None
    on a stream that is not keyed. ``output`` is the wire schema, None for objects. Results leave in
    the order of their rows; those that are not ``ordered`` as they come, but never across a
    watermark, and those of one key in order. ``timeout_us`` is that of each of ``1 + retries``
    attempts.
    """

    function: Function
    keys: tuple[str, ...] | None
    output: pa.Schema | None
    operator: str
    where: str
    capacity: int = 100
    timeout_us: int | None = None
    ordered: bool = True
    retries: int = 0

    @property
    def verb(self) -> str:
        return "async_map"

    def describe(self) -> str:
        order = "in order" if self.ordered else "as they come"
        return f"{self.function}, {self.capacity} at a time, {order}"

    def build(self) -> AsyncMap:
        return AsyncMap(self)


class _Row(Call):
    """A row in flight: a place in the batch that it came with."""

    __slots__ = ("batch", "begun", "key", "place", "time_us")

    def __init__(self, row: Any, batch: Batch, place: int, time_us: int | None, key: Any) -> None:
        super().__init__(row)
        self.batch = batch
        self.place = place
        self.time_us = time_us
        self.key = key
        self.begun = False


_Flying: TypeAlias = _Row | Watermark | Status


class AsyncMap(Operator):
    """The operator of one subtask; what it keeps are the rows in flight."""

    def __init__(self, spec: AsyncMapSpec) -> None:
        self._spec = spec
        self._flying: list[
            _Flying
        ] = []  # rows up to the capacity; behind each a watermark, a status
        self._rows = 0
        self._due_us: int | None = None
        self._watermark_us = MIN_TIME
        self._given_us = MIN_TIME  # the watermark that went out last, which those in flight follow
        self._loop = EventLoop(spec.operator)
        self._function: OpenFunction | None = None

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._ctx = ctx
        self._told = not isinstance(ctx.clock, SystemClock)
        self._loop.start()
        self._function = open_function(
            spec.function, ctx, operator=spec.operator, where=spec.where, run=self._loop.run
        )

    def close(self) -> None:
        spec, function, self._function = self._spec, self._function, None
        try:
            if function is not None:
                close_function(function, operator=spec.operator, where=spec.where)
        finally:
            self._loop.stop()

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        yield from self._give()
        rows, batch = rows_kept(batch, self._ctx.errors)
        keys = self._keys(batch)
        start = 0
        while start < len(rows):
            room = self._spec.capacity - self._rows
            if room <= 0:
                yield from self._wait_and_give()
                continue
            stop = min(start + room, len(rows))
            self._take(rows, batch, keys, range(start, stop))
            start = stop

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        # Asked again for the same one after a pause, it is already among what is in flight.
        if time_us > self._watermark_us:
            self._watermark_us = time_us
            if time_us != MAX_TIME:  # that one the chain forwards itself, behind all there is
                self._hold(Watermark(time_us))
        return self._drain() if time_us == MAX_TIME else self._give()

    def output_watermark(self, time_us: int) -> int | None:
        return time_us if time_us == MAX_TIME else None

    def on_status(self, status: Status) -> Iterator[Output]:
        # Rows that come behind it would make an idle channel active, for good.
        self._hold(status)
        return self._give()

    def timer_due_us(self) -> int | None:
        return self._due_us if self._flying else None

    def on_timer(self, now_us: int) -> Iterator[Output]:
        self._due_us = now_us + _LOOK_EVERY_US
        yield from self._give()

    def on_end(self) -> Iterator[Output]:
        return self._drain()

    # What is in flight -----------------------------------------------------------------------

    def _take(
        self, rows: list[Any], batch: Batch, keys: Sequence[Hashable] | None, places: range
    ) -> None:
        times = batch.timestamps
        for place in places:  # a loop over rows: each is a call of its own
            key = None if keys is None else keys[place]
            self._flying.append(_Row(rows[place], batch, place, time_of(times, place), key))
        self._rows += len(places)
        self._begin()

    def _begin(self) -> None:
        """Start the calls that there is room for."""
        assert self._function is not None, "opened before the first row"
        rows = [one for one in self._flying if isinstance(one, _Row)][: self._spec.capacity]
        new = [row for row in rows if not row.begun]
        for row in new:
            row.begun = True
        if new:
            timeout_us = self._spec.timeout_us
            self._loop.begin(
                self._function.call,
                new,
                times=1 + self._spec.retries,
                timeout_s=None if timeout_us is None else timeout_us / 1e6,
            )
        if self._due_us is None:
            self._due_us = self._ctx.clock.now_us() + _LOOK_EVERY_US

    def _hold(self, element: Watermark | Status) -> None:
        """Hold time or idleness back behind the rows in flight; of two the later counts."""
        for place in range(len(self._flying) - 1, -1, -1):
            if isinstance(self._flying[place], _Row):
                break
            if type(self._flying[place]) is type(element):
                del self._flying[place]
        self._flying.append(element)

    def _drain(self) -> Iterator[Output]:
        """Give all that is in flight, and pause while it is not there."""
        yield from self._give()
        while self._flying:
            yield from self._wait_and_give()

    def _wait_and_give(self) -> Iterator[Output]:
        self._loop.wait(self._something_is_ready, _WAIT_S)
        yield Objects([]) if self._spec.output is None else Columns(_nothing(self._spec.output))
        yield from self._give()

    def _something_is_ready(self) -> bool:
        return bool(self._ready(1))

    def _all_are_done(self) -> bool:
        return all(one.done for one in self._flying if isinstance(one, _Row) and one.begun)

    def _give(self) -> Iterator[Output]:
        """Give what can leave: results, and watermarks before which nothing is in flight."""
        while self._flying:
            if self._told:
                self._loop.wait(self._all_are_done, _WAIT_FOR_ALL_S)
            first = self._flying[0]
            if not isinstance(first, _Row):
                del self._flying[0]
                if isinstance(first, Watermark):
                    self._given_us = first.time_us
                yield first
                continue
            ready = self._ready(self._ctx.limits.row_batch_rows_max)
            if not ready:
                break
            leaving = set(map(id, ready))
            self._flying = [one for one in self._flying if id(one) not in leaving]
            self._rows -= len(ready)
            self._begin()
            made = self._batch(ready)
            if made is not None:
                yield made
        if not self._flying:
            self._due_us = None

    def _ready(self, limit: int) -> list[_Row]:
        """Name up to so many rows that may leave now, before the first watermark."""
        ready: list[_Row] = []
        held: set[Hashable] = set()
        for one in self._flying:
            if not isinstance(one, _Row) or len(ready) == limit:
                break
            if one.done and not (held and one.key in held):
                ready.append(one)
            elif self._spec.ordered:
                break
            elif self._spec.keys is not None:
                held.add(one.key)
        return ready

    def _batch(self, ready: list[_Row]) -> Batch | None:
        """Make a batch of results; rows that failed are given up."""
        spec, errors = self._spec, self._ctx.errors
        for row in ready:
            if isinstance(row.result, Failed):
                error = failed(
                    row.result.error, operator=spec.operator, where=spec.where, row=row.row
                )
                reject_row(errors, error, row.batch, row.place)
        good = [row for row in ready if not isinstance(row.result, Failed)]
        if not good:
            return None
        values = [row.result for row in good]
        times = _times(good)
        if spec.output is None:
            return Objects(values, times)
        rows = [row.row for row in good]
        return columns_of(
            values, spec.output, rows, times, errors, operator=spec.operator, where=spec.where
        )[0]

    def _keys(self, batch: Batch) -> Sequence[Hashable] | None:
        keys = self._spec.keys
        # In order anyway, or without keys: nobody asks.
        if keys is None or self._spec.ordered or not batch.num_rows:
            return None
        return rows_and_keys(batch, keys or None)[1]

    # What is kept ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        # Watermarks in flight come again, from whoever had given them.
        given = (watermark_section(self._given_us),) if self._given_us > MIN_TIME else ()
        rows = [one for one in self._flying if isinstance(one, _Row)]
        return (*given, self._in_flight(rows)) if rows else given

    def _in_flight(self, rows: list[_Row]) -> Section:
        # One after the other, because each is a place in a batch of its own.
        whole = concat([row.batch.slice(row.place, 1) for row in rows])
        table = whole.record if isinstance(whole, Columns) else _objects_table(whole)
        keys = self._spec.keys
        if keys is None:
            return Section("in flight", pa.Table.from_batches([table]), Share.SPLIT)
        if isinstance(whole, Columns):
            hashes = hash_columns([whole.record.column(key) for key in keys])
        else:
            hashes = hash_objects(whole.keys or [])
        return keyed_section("in flight", table, hashes, self._ctx.max_parallelism)

    def restore(self, snapshot: Snapshot) -> None:
        given_us = restored_watermark(snapshot)
        if given_us is not None:
            self._watermark_us = self._given_us = given_us
        table = section(snapshot, "in flight")
        if table is None or not table.num_rows:
            return
        (record,) = table.combine_chunks().to_batches()
        batch: Batch = _objects(record) if "__row" in table.column_names else Columns(record)
        rows, batch = rows_kept(batch, self._ctx.errors)
        self._take(rows, batch, self._keys(batch), range(len(rows)))


def _times(rows: list[_Row]) -> Int64s | None:
    """Give the event times of rows, where their stream has some."""
    if rows[0].batch.timestamps is None:
        return None
    return np.array([row.batch.timestamps[row.place] for row in rows], np.int64)  # type: ignore[index]


def _objects_table(batch: Objects) -> pa.RecordBatch:
    times = batch.timestamps
    keys = batch.keys
    pickles = [[pickled(one) for one in some] for some in (batch.values, keys or [])]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(pickles[0], pa.binary()),
            pa.nulls(batch.num_rows, pa.int64()) if times is None else pa.array(times),
            pa.nulls(batch.num_rows, pa.binary())
            if keys is None
            else pa.array(pickles[1], pa.binary()),
        ],
        names=["__row", "__time", "__key"],
    )


def _objects(record: pa.RecordBatch) -> Objects:
    times, keys = record.column("__time"), record.column("__key")
    return Objects(
        [pickle.loads(value) for value in record.column("__row").to_pylist()],
        None if times.null_count else times.to_numpy(),
        None if keys.null_count else [pickle.loads(key) for key in keys.to_pylist()],
    )


def _nothing(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
