"""What one row does to the windows of its key, and what one timer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.trigger import Span, TriggerResult
from raystream.contracts.triggers import EventTime
from raystream.contracts.window import is_timed, needs_event_time
from raystream.contracts.window_lengths import LENGTH_US_MAX
from raystream.contracts.window_unaligned import Session
from raystream.errors import ConfigError, UserFunctionError
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import micros
from raystream.keyed.snapshot import (
    Section,
    Share,
    Snapshot,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.keyed.store import KeyedStore
from raystream.keyed.timers import Domain, Timer, Timers
from raystream.operators.guard import attempt, failed, open_function, short
from raystream.operators.keyed_rows import is_users
from raystream.operators.window_assign import ALL_OF_TIME, Bounds, assigner, bounded
from raystream.operators.window_contents import contents
from raystream.operators.window_firing import Firing
from raystream.operators.window_outcomes import Held
from raystream.operators.window_rows_read import Row
from raystream.operators.window_sessions import Joined, Sessions
from raystream.operators.window_trigger import WindowTriggerContext, checked

if TYPE_CHECKING:
    from raystream.operators.window_rows import WindowRowsSpec

_ARRIVALS = "window:arrivals"


class Gathering:
    """The windows of one subtask: state, timers and trigger. What fires is put into ``firing``.

    A window is its bounds; what it holds stands under its home, which differs for sessions alone.
    What fails for a row is the caller's to give up. A firing that fails is given up here, as a dict
    of key and bounds: it gives nothing, and its window is purged and forgotten as if it had.
    """

    def __init__(self, spec: WindowRowsSpec, ctx: OpenContext, firing: Firing) -> None:
        self._firing, self._clock = firing, ctx.clock
        self._errors, self._layout = ctx.errors, spec.layout
        self._letters_max = ctx.limits.row_batch_rows_max
        self._operator, self._where = spec.operator, spec.where
        self._lateness_us = spec.lateness_us
        self._by_event = needs_event_time(spec.window)
        self._timed = is_timed(spec.window)
        self._seen = spec.layout.seen
        self._store = KeyedStore.of(spec.key_form, ctx)
        self._timers = Timers(spec.key_form, ctx.max_parallelism)
        self._rule = spec.outcome.open(ctx, spec.layout)
        self._contents = contents(self._store, self._rule, spec.evictor_or_default, spec.layout)
        self._trigger = spec.trigger_or_default
        # The trigger that nearly all windows have asks for one timer a window, and for no more.
        self._plain = type(self._trigger) is EventTime and self._by_event
        self._ctx = WindowTriggerContext(ctx, self._store, self._timers)
        self._gone_to = MIN_TIME
        """Windows that end by then take no more rows."""
        self._arrived = 0
        self._close = [self._rule.close]
        self._place: Callable[[Any, Any, Held, int], bool]
        if isinstance(spec.window, Session):
            self._sessions: Sessions | None = Sessions(self._store)
            self._gap = self._open_gap(spec.window, ctx)
            self._place = self._join
        else:
            self._sessions = None
            self._assign = assigner(spec.window)
            self._place = self._assigned

    # Rows

    def take(self, rows: Iterator[Row], late: list[int]) -> bool:
        """Put rows into their windows until results fill a batch; tell whether there are more.

        The places of rows whose windows are all gone are added to ``late``.
        """
        now_us = 0 if self._by_event else self._clock.now_us()
        select, place, firing = self._store.select, self._place, self._firing
        # A loop over rows: they are Python objects, and each may fire.
        for row, key, key_id, time_us, number in rows:
            select(key_id, key)
            held = (row, time_us, self._arrived)
            self._arrived += 1
            when = time_us if self._by_event else now_us
            assert when is not None, "event times were checked"
            if not place(key_id, key, held, when):
                late.append(number)
            if firing.full:
                return True
        return False

    def _assigned(self, key_id: Any, key: Any, held: Held, when: int) -> bool:
        """Put a row into each window of its time that is not gone; False: all are."""
        windows, gone_to = self._assign(when), self._gone_to
        kept = not windows  # what lies in no window is not late
        for bounds in windows:
            if bounds[1] > gone_to:
                kept = True
                self._add(key_id, key, held, bounds, bounds)
        return kept

    def _join(self, key_id: Any, key: Any, held: Held, when: int) -> bool:
        """Put a row into the session that it opens, continues or bridges; False: it is gone."""
        assert self._sessions is not None, "rows join sessions"
        joined = self._sessions.join(bounded(when, when + self._gap(held[0])))
        if joined.session[1] <= self._gone_to:
            return False
        if not joined.unchanged:
            # What users wrote may fail: until their rows are merged nothing else is written, and
            # what is written then has its end.
            if len(joined.merged) > 1:
                self._contents.merge([home for _, home in joined.merged], joined.home)
            self._sessions.write(joined)
            self._forget_later(key_id, key, joined.session)
            if joined.merged:
                self._merge(key_id, key, joined)
        self._add(key_id, key, held, joined.session, joined.home, new=not joined.unchanged)
        return True

    def _merge(self, key_id: Any, key: Any, joined: Joined) -> None:
        """Move timers and the trigger's state to the session that others have become."""
        merged = tuple(bounds for bounds, _ in joined.merged)
        for bounds in merged:
            if (timer := self._cleanup(bounds)) is not None:
                self._timers.delete(*timer, key_id, bounds)
        if not self._plain:
            self._ctx.at(key_id, key, joined.session, merged)
            self._trigger.on_merge(Span(*joined.session), self._ctx)
        for bounds in merged:
            self._clear(key_id, key, bounds)

    def _add(
        self,
        key_id: Any,
        key: Any,
        held: Held,
        bounds: Bounds,
        home: Bounds,
        *,
        new: bool = False,
    ) -> None:
        self._store.enter(home)
        if self._contents.add(held) or new:
            new = True
            # First: what fails further on must not keep a window for ever.
            self._forget_later(key_id, key, bounds)
        if self._plain:
            if bounds[1] - 1 <= self._ctx.watermark:
                self._answer(TriggerResult.FIRE, key, bounds, home)
            elif new or self._lateness_us:
                # A window that fired is to fire again where a restored watermark is behind it.
                self._timers.register("event", bounds[1] - 1, key_id, key, bounds)
            return
        self._ctx.at(key_id, key, bounds)
        row, time_us, _ = held
        result = self._trigger.on_row(self._seen(row), time_us, Span(*bounds), self._ctx)
        self._answer(checked(result, self._trigger, "on_row"), key, bounds, home)

    def _answer(self, result: TriggerResult, key: Any, bounds: Bounds, home: Bounds) -> None:
        """Do what the trigger says of a row: what fails then is the window, not the row."""
        if result is not TriggerResult.CONTINUE:
            self._guarded(partial(self._act, result, key, bounds, home), key, bounds)

    def _forget_later(self, key_id: Any, key: Any, bounds: Bounds) -> None:
        if (timer := self._cleanup(bounds)) is not None:
            self._timers.register(*timer, key_id, key, bounds)

    # Time

    @property
    def watermark_us(self) -> int:
        return self._ctx.watermark

    def advance(self, watermark_us: int) -> None:
        """Let event time go on, before anything fires."""
        watermark_us = self._ctx.watermark = max(self._ctx.watermark, watermark_us)
        # At the end of time everything is gone, also what ends beyond it.
        last = MAX_TIME if watermark_us == MAX_TIME else watermark_us - self._lateness_us
        self._gone_to = last + 1 if self._by_event else MIN_TIME

    def timer_due_us(self) -> int | None:
        """Tell the next processing time at which something happens."""
        return self._timers.due_us("processing")

    def fire_event_time(self) -> bool:
        """Let event timers fire until a batch is full, many have failed, or no more are due.

        False if there is nothing that whoever runs the operator should take before the next call.
        """
        return self._fire("event", self._ctx.watermark)

    def fire_processing_time(self, now_us: int) -> bool:
        """Let processing timers fire as ``fire_event_time`` does event timers."""
        return self._fire("processing", now_us)

    def _fire(self, domain: Domain, upto_us: int) -> bool:
        self._firing.fill()
        letters_max = len(self._errors.letters) + self._letters_max
        while not self._firing.full and len(self._errors.letters) < letters_max:
            if (timer := self._timers.pop(domain, upto_us)) is None:
                return bool(self._firing)
            self._on_timer(domain, timer)
        return True

    def _on_timer(self, domain: Domain, timer: Timer) -> None:
        bounds, key_id, key = timer.namespace, timer.key_id, timer.key
        assert isinstance(bounds, tuple), "timers of windows stand under their bounds"
        self._store.select(key_id, key)
        home = bounds if self._sessions is None else self._sessions.home(bounds)
        if home is None:  # a timer of the user's trigger, of a session that is part of another
            return
        self._ctx.at(key_id, key, bounds)
        self._guarded(partial(self._ask, domain, timer, bounds, home), key, bounds)
        if (domain, timer.time_us) == self._cleanup(bounds):
            self._store.enter(home)
            self._contents.clear()
            if self._sessions is not None:
                self._sessions.drop(bounds)
            self._guarded(partial(self._clear, key_id, key, bounds), key, bounds)

    def _ask(self, domain: Domain, timer: Timer, bounds: Bounds, home: Bounds) -> None:
        """Ask the trigger about a timer, and do what it says."""
        trigger, at_us = self._trigger, timer.time_us
        if domain == "event":
            result: Any = trigger.on_event_time(at_us, Span(*bounds), self._ctx)
            checked(result, trigger, "on_event_time")
        else:
            result = trigger.on_processing_time(at_us, Span(*bounds), self._ctx)
            checked(result, trigger, "on_processing_time")
        self._act(result, timer.key, bounds, home, at_us if domain == "event" else None)

    def _guarded(self, call: Callable[[], Any], key: Any, bounds: Bounds) -> None:
        """Let a window do something; give it up where that fails and the job is not to fail."""
        if not self._errors.tolerant:
            call()
        elif isinstance(outcome := attempt(call), Exception):
            error = failed(outcome, operator=self._operator, where=self._where, doing="a window")
            if not is_users(outcome):
                raise error from outcome
            row = self._layout.named(key, Span(*bounds))
            self._errors.reject(error, row, bounds[1] - 1 if self._timed else None)

    # Windows

    def _clear(self, key_id: Any, key: Any, bounds: Bounds) -> None:
        """Let the trigger forget a window."""
        if self._plain:
            self._timers.delete("event", bounds[1] - 1, key_id, bounds)
            return
        self._ctx.at(key_id, key, bounds)
        self._trigger.clear(Span(*bounds), self._ctx)

    def _cleanup(self, bounds: Bounds) -> tuple[Domain, int] | None:
        """Give the moment when a window is forgotten; None: never."""
        if bounds == ALL_OF_TIME:
            return None
        if not self._by_event:
            return "processing", bounds[1] - 1
        return "event", min(bounds[1] - 1 + self._lateness_us, MAX_TIME)

    def _act(
        self,
        result: TriggerResult,
        key: Any,
        bounds: Bounds,
        home: Bounds,
        timer_us: int | None = None,
    ) -> None:
        """Do what the trigger says."""
        if result is TriggerResult.CONTINUE:
            return
        self._store.enter(home)
        try:
            if result.fires and (made := self._contents.result(key, Span(*bounds))) is not None:
                rows, latest_us = made
                if self._errors.tolerant and type(rows) is not tuple:
                    rows = list(rows)  # whole, or not at all
                time_us = bounds[1] - 1 if self._timed else _later(latest_us, timer_us)
                self._firing.put(rows, time_us)
        finally:
            if result.purges:
                self._contents.clear()

    # Snapshots

    def snapshot(self) -> Snapshot:
        """Give state, timers, how far event time has come, and how many rows."""
        return (*self._store.snapshot(), *self._timers.snapshot(), *self._progress())

    def changes(self) -> Snapshot:
        """Give what ``snapshot`` gives, or of state and timers what changed since the last call."""
        return (*self._store.changes(), *self._timers.changes(), *self._progress())

    def _progress(self) -> Snapshot:
        table = pa.table({"arrivals": pa.array([self._arrived], pa.int64())})
        arrivals = Section(_ARRIVALS, table, Share.UNION)
        return watermark_section(self._ctx.watermark), arrivals

    def restore(self, snapshot: Snapshot) -> None:
        """Take up what was kept."""
        self._store.restore(snapshot)
        self._timers.restore(snapshot)
        if (watermark_us := restored_watermark(snapshot)) is not None:
            self.advance(watermark_us)
        if (arrivals := section(snapshot, _ARRIVALS)) is not None:
            # Greater than those of all rows that are held, whichever subtask had taken them.
            self._arrived = int(np.max(arrivals.column("arrivals").to_numpy()))

    def close(self) -> None:
        """Close what the user has opened, and let go of state."""
        for close in self._close:
            close()
        self._store.close()

    def _open_gap(self, window: Session, ctx: OpenContext) -> Callable[[Any], int]:
        fixed_us = window.gap_us
        if fixed_us is not None:
            return lambda _row: fixed_us
        assert callable(window.gap), "a gap is a length or a function"
        opened = open_function(Function(window.gap), ctx, operator=ctx.operator, where=ctx.where)
        self._close.append(opened.close)
        call, seen = opened.call, self._seen
        return lambda row: _length_us(call(seen(row)))


def _length_us(gap: Any) -> int:
    try:
        gap_us = micros(gap)
    except ConfigError as error:
        raise UserFunctionError(
            f"the gap of a session is {short(gap)}, which is no duration", hint=error.hint
        ) from error
    if not 0 < gap_us <= LENGTH_US_MAX:
        problem = (
            "is no length longer than nothing" if gap_us <= 0 else "is longer than 70,000 years"
        )
        raise UserFunctionError(
            f"the gap of a session is {short(gap)}, which {problem}",
            hint='give a duration such as "10s"',
        )
    return gap_us


def _later(latest_us: int | None, timer_us: int | None) -> int | None:
    """Give the event time of a result of a window without end.

    It is that of the latest row, or the timer's; the end of time is no time for a row.
    """
    if timer_us is None or timer_us == MAX_TIME:
        return latest_us
    return timer_us if latest_us is None else max(latest_us, timer_us)
