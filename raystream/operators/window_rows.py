"""Gather rows in windows of any kind, one row at a time: late rows, triggers, evictors, sessions.

Rows are Python values, those of columns dicts. What a window holds stands in keyed state under the
bounds of the window, when it fires in timers. What arithmetic over arrays can do is done elsewhere.
Source: Akidau et al., The Dataflow Model, VLDB 2015; Flink's WindowOperator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.evictor import Evictor
from raystream.contracts.evictors import default_evictor
from raystream.contracts.trigger import Trigger
from raystream.contracts.triggers import default_trigger
from raystream.contracts.window import Window, is_timed, needs_event_time
from raystream.contracts.window_lengths import text
from raystream.flow.batch import Batch, Columns, Objects
from raystream.flow.element import Side
from raystream.keyed.key_form import KeyForm
from raystream.keyed.snapshot import Snapshot
from raystream.operators.keyed_rows import make_batch, over_rows, some_rows
from raystream.operators.operator import Operator, Output
from raystream.operators.rejecting import readable
from raystream.operators.window_aggregate import LATE_ROWS
from raystream.operators.window_firing import Firing
from raystream.operators.window_gathering import Gathering
from raystream.operators.window_outcomes import Layout, Outcome
from raystream.operators.window_rows_read import read_rows
from raystream.operators.window_times import event_times, with_event_times


@dataclass(frozen=True, eq=False)
class WindowRowsSpec:
    """What ``outcome`` makes of the rows of each key and window, whenever the trigger fires.

    ``keys`` are the key columns of a columnar stream, with their types, or None: rows are objects
    that carry their keys, if they have some. ``key_names`` name keys in what goes out. ``hidden``
    are input columns that were computed for us. Rows that are late go to ``late_tag``, if given.
    ``output`` is the wire schema, None for objects; ``timed`` tells whether what goes out has event
    time.
    """

    window: Window
    outcome: Outcome
    keys: tuple[pa.Field, ...] | None
    key_names: tuple[str, ...]
    output: pa.Schema | None
    timed: bool
    operator: str
    where: str
    lateness_us: int = 0
    late_tag: str | None = None
    trigger: Trigger | None = None
    evictor: Evictor | None = None
    hidden: tuple[str, ...] = ()
    visible: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        return "window_rows"

    def describe(self) -> str:
        by = f" by {', '.join(self.key_names)}" if self.key_names else ""
        parts = [f"{self.window}{by}: {self.outcome.describe()}"]
        if self.lateness_us:
            parts.append(f"lateness {text(self.lateness_us)}")
        if self.late_tag is not None:
            parts.append(f'late to "{self.late_tag}"')
        parts += [_written(one) for one in (self.trigger, self.evictor) if one is not None]
        return "  ".join(parts)

    def build(self) -> WindowRows:
        return WindowRows(self)

    @property
    def key_form(self) -> KeyForm:
        """How keys stand in snapshots."""
        return KeyForm.columns(self.keys) if self.keys else KeyForm.objects()

    @property
    def trigger_or_default(self) -> Trigger:
        return self.trigger or default_trigger(self.window)

    @property
    def evictor_or_default(self) -> Evictor | None:
        return self.evictor or default_evictor(self.window)

    @property
    def layout(self) -> Layout:
        """How rows come and go."""
        return Layout(
            columnar=self.output is not None,
            key_names=self.key_names,
            bounded=is_timed(self.window),
            visible=self.visible if self.hidden else None,
        )


class WindowRows(Operator):
    """The operator of one subtask: it cuts batches, and leaves each row to ``Gathering``."""

    def __init__(self, spec: WindowRowsSpec) -> None:
        self._spec = spec
        self._close: Callable[[], None] | None = None

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)
        self._firing = Firing(ctx.limits.row_batch_rows_max)
        self._gathering = Gathering(self._spec, ctx, self._firing)
        self._close = self._gathering.close
        nothing = self._batch([], np.empty(0, np.int64))
        assert nothing is not None, "no row does not fit"
        self._nothing = nothing

    def restore(self, snapshot: Snapshot) -> None:
        self._firing.restore(snapshot)
        self._gathering.restore(snapshot)

    def snapshot(self) -> Snapshot:
        made = self._guarded(self._firing.snapshot)
        return (*made, *self._gathering.snapshot())

    def changes(self) -> Snapshot:
        made = self._guarded(self._firing.snapshot)
        return (*made, *self._gathering.changes())

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        yield from self._waiting()
        batch = self._usable(batch)
        if not batch.num_rows:
            return
        times = event_times(batch, self._ctx) if self._needs_time else batch.timestamps
        incoming = read_rows(batch, self._spec.key_names, times)
        seen: list[Any] = incoming.rows
        if self._spec.hidden and self._ctx.errors.tolerant:
            seen = list(map(self._spec.layout.seen, seen))
        late: list[int] = []
        left = iter(incoming.rows)
        take = partial(self._gathering.take, incoming.walk(left), late)
        more = True
        while more:
            more = some_rows(
                take,
                seen,
                left,
                times,
                self._ctx.errors,
                operator=self._spec.operator,
                where=self._spec.where,
            )
            yield from self._waiting()
        if late:
            self._late.inc(len(late))
            if self._spec.late_tag is not None:
                yield Side(self._spec.late_tag, self._plain(batch, late))

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        self._gathering.advance(time_us)
        yield from self._fired(self._gathering.fire_event_time)

    def timer_due_us(self) -> int | None:
        # Rows that a stopped firing has left behind are due at once.
        return 0 if self._firing else self._gathering.timer_due_us()

    def on_timer(self, now_us: int) -> Iterator[Output]:
        yield from self._fired(partial(self._gathering.fire_processing_time, now_us))

    def close(self) -> None:
        # Also called where ``open`` has failed, by the user's function.
        if self._close is not None:
            self._guarded(self._close)

    @property
    def _needs_time(self) -> bool:
        return needs_event_time(self._spec.window)

    def _fired(self, fire: Callable[[], bool]) -> Iterator[Batch]:
        """Fire what is due, and stop whenever a batch is full; closed, it is called again."""
        yield from self._waiting()
        while self._guarded(fire):
            if self._firing:
                yield from self._waiting()
            else:
                yield self._nothing  # a place to pause: many windows have failed

    def _waiting(self) -> Iterator[Batch]:
        while self._firing:
            self._guarded(self._firing.fill)
            rows, times = self._firing.take()
            if rows and (made := self._batch(rows, times)) is not None:
                yield made

    def _batch(self, rows: list[Any], times: Any) -> Batch | None:
        """Make a batch of results; one that does not fit the columns is given up, as it is."""
        spec, errors = self._spec, self._ctx.errors
        timestamps = times if spec.timed else None
        return make_batch(
            rows, spec.output, rows, timestamps, errors, operator=spec.operator, where=spec.where
        )

    def _guarded(self, call: Callable[[], Any]) -> Any:
        return over_rows(call, operator=self._spec.operator, where=self._spec.where)

    def _usable(self, batch: Batch) -> Batch:
        """Give up rows that Python cannot hold, or that need an event time and have none."""
        errors = self._ctx.errors
        if not errors.tolerant or not batch.num_rows:
            return batch
        batch = readable(batch, errors)
        return with_event_times(batch, self._ctx) if self._needs_time else batch

    def _plain(self, batch: Batch, rows: list[int]) -> Batch:
        """Give late rows as they came to the window: without keys and columns of ours."""
        taken = batch.take(np.array(rows, np.int64))
        if isinstance(taken, Objects):
            return Objects(taken.values, taken.timestamps)
        if not self._spec.hidden:
            return taken
        return Columns(taken.record.drop_columns(list(self._spec.hidden)))


def _written(one: Trigger | Evictor) -> str:
    plain = type(one).__str__ is object.__str__
    return type(one).__name__ if plain else str(one)
