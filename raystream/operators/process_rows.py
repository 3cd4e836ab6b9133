"""Call a process function for the rows of its inputs and for timers: what all kinds of them share.

Calls are made until there are enough rows for a batch; a generator of the user that has more to
give is held and pulled on when the batch has left. So a firing may stop after any batch, and what
is held is part of the snapshot as the rows that it gives.

Where the operator goes on without rows that fail, all that a call gives is made at once, because
what a failing call had given is dropped; what it has written in state and timers stays. A timer's
call that fails is given up as ``{"timer": time, "key": key}``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from types import GeneratorType
from typing import Any, Final

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import OpenFunction
from raystream.contracts.process import ProcessContext, TimerService
from raystream.flow.batch import Batch
from raystream.flow.element import MIN_TIME
from raystream.keyed.snapshot import Section, Snapshot, restored_watermark, watermark_section
from raystream.keyed.timers import Domain, Timer, Timers
from raystream.operators.guard import (
    attempt,
    close_function,
    failed,
    open_function,
    rows_made,
    short,
)
from raystream.operators.keyed_rows import (
    is_users,
    listed_ops,
    listed_times,
    over_rows,
    reject_in_hand,
    rows_with_keys,
)
from raystream.operators.operator import Operator, Output
from raystream.operators.process_plan import ProcessPlan
from raystream.operators.process_state import ProcessState, no_key
from raystream.operators.process_timers import KeyTimers, NoTimers
from raystream.operators.produced import Produced
from raystream.operators.rejecting import readable, rows_kept

_NO_KEY: Final = NoTimers(
    "the rows have no key", "key_by(…) the stream (both, of two that are connected)"
)
_ALL_KEYS: Final = NoTimers(
    "a broadcast row is of no key", "register timers in process(), which has a key"
)


@dataclass(slots=True)
class _Held:
    """What a call has yet to give, the event time of it, and how to be in that call again."""

    rest: Iterator[Any]
    time_us: int | None
    enter: Callable[[], None]


class ProcessRows(Operator):
    """The operator of one subtask."""

    def __init__(self, plan: ProcessPlan) -> None:
        self._plan = plan
        self._opened: OpenFunction | None = None
        self._timers: Timers | None = None
        self._held: _Held | None = None
        self._timer: Timer | None = None

    # The life of the operator ----------------------------------------------------------------

    def open(self, ctx: OpenContext) -> None:
        plan, self._errors = self._plan, ctx.errors
        self._limit = ctx.limits.row_batch_rows_max
        self._produced = Produced(
            plan.output,
            self._errors,
            timed=plan.timed,
            limit=self._limit,
            operator=plan.operator,
            where=plan.where,
        )
        self._ctx = ProcessContext(ctx.clock, _NO_KEY, self._produced.aside)
        self._key_timers: TimerService = _NO_KEY
        shared = any(port.method == "process_broadcast" for port in plan.ports)
        self._state = ProcessState(plan.keys, ctx, shared=shared)
        self._timers = self._state.timers
        if self._timers is not None:
            self._key_timers = KeyTimers(self._timers, self._ctx)
        told = dataclasses.replace(ctx, state=self._state.register)
        with contextlib.ExitStack() as undo:
            undo.callback(self._state.close)
            self._opened = open_function(
                plan.function, told, operator=plan.operator, where=plan.where
            )
            undo.pop_all()
        instance = self._opened.instance
        self._calls = [getattr(instance, port.method) for port in plan.ports]
        self._on_timer: Callable[..., Any] = getattr(instance, "on_timer", no_rows)

    def restore(self, snapshot: Snapshot) -> None:
        self._produced.restore(snapshot)
        self._state.restore(snapshot)
        watermark_us = restored_watermark(snapshot)
        if watermark_us is not None:
            self._ctx.watermark = watermark_us

    def snapshot(self) -> Snapshot:
        self._set_aside()
        return self._with_progress(self._state.snapshot())

    def changes(self) -> Snapshot:
        self._set_aside()
        return self._with_progress(self._state.changes())

    def _set_aside(self) -> None:
        while self._held is not None:
            # A generator cannot be kept, but the rows that it has yet to give can.
            self._guarded(partial(self._pull, self._held))
            self._produced.set_aside()

    def _with_progress(self, state: list[Section]) -> Snapshot:
        parts = [*self._produced.snapshot(), *state]
        if self._ctx.watermark > MIN_TIME:
            parts.append(watermark_section(self._ctx.watermark))
        return tuple(parts)

    def present(self, name: str) -> Any:
        """Give the values that a state has now: by key, or, without keys, as they are."""
        return self._state.present(name)

    @property
    def state_names(self) -> list[str]:
        """The states that the function has asked for so far."""
        return self._state.names

    def close(self) -> None:
        self._held = None
        if self._opened is not None:
            plan, opened = self._plan, self._opened
            self._opened = None
            try:
                close_function(opened, operator=plan.operator, where=plan.where)
            finally:
                self._state.close()

    # What comes in ---------------------------------------------------------------------------

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        yield from self._rest()
        for start in range(0, batch.num_rows, self._limit):
            if start:
                yield self._produced.nothing  # a place to pause, however few rows are made
            yield from self._part(port, batch.slice(start, self._limit))
        yield from self._given()

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        ctx = self._ctx
        ctx.watermark = max(ctx.watermark, time_us)
        yield from self._rest()
        yield from self._fire("event", ctx.watermark)

    def timer_due_us(self) -> int | None:
        if self._held is not None or self._produced:
            return MIN_TIME  # a firing was stopped: the rest of it is due
        return None if self._timers is None else self._timers.due_us("processing")

    def on_timer(self, now_us: int) -> Iterator[Output]:
        yield from self._rest()
        yield from self._fire("processing", now_us)

    # Calls -----------------------------------------------------------------------------------

    def _part(self, number: int, batch: Batch) -> Iterator[Output]:
        """Call for the rows of one input, not too many."""
        plan, port = self._plan, self._plan.ports[number]
        ids: Iterable[Any] = repeat(None)
        keys: Iterable[Any] = repeat(None)
        if port.keys is None:
            rows, batch = rows_kept(batch, self._errors)
        else:
            batch = readable(batch, self._errors)
            rows, keys, ids = over_rows(
                partial(rows_with_keys, batch, port.keys), operator=plan.operator, where=plan.where
            )
        left = iter(rows)
        calls = zip(left, listed_times(batch), listed_ops(batch), ids, keys, strict=False)
        self._enter(number)
        self._timer = None
        each = self._whole_row_calls if self._errors.tolerant else self._row_calls
        step = partial(each, number, calls)
        at = (plan.operator, plan.where)
        done: bool | Exception = False
        while done is not True:
            done = attempt(step)
            if isinstance(done, Exception):
                self._produced.undo()
                reject_in_hand(done, rows, left, batch.timestamps, self._errors, *at)
            elif not done:
                yield from self._given()

    def _row_calls(self, number: int, calls: Iterator[tuple[Any, ...]]) -> bool:
        """Call with rows until there is a batch (False) or no row is left (True)."""
        if self._held is not None and not self._pull(self._held):
            return False
        ctx, produced, limit = self._ctx, self._produced, self._limit
        call, select = self._calls[number], self._state.select
        if self._plan.ports[number].keys is None:
            select = no_key
        values, full = produced.values, produced.full
        append, stamp = values.append, produced.stamps.append
        room = limit - len(values)
        # A loop over rows: each calls the user's function, with the state of its own key.
        for row, time_us, op, key_id, key in calls:
            ctx.key = key
            ctx.op = op
            ctx.timestamp = time_us
            select(key_id, key)
            made = call(row, ctx)
            if made is not None:
                rest = made if type(made) is GeneratorType else rows_made(made)
                for value in rest:
                    append(value)
                    stamp(time_us)
                    room -= 1
                    if not room:
                        enter = partial(self._enter, number, key_id, key, time_us, op=op)
                        self._held = _Held(rest, time_us, enter)
                        return False
            if full:
                return False
        return True

    def _whole_row_calls(self, number: int, calls: Iterator[tuple[Any, ...]]) -> bool:
        """Call with rows as ``_row_calls``, but for all that each gives, or nothing if it fails."""
        ctx, produced, limit = self._ctx, self._produced, self._limit
        call, select = self._calls[number], self._state.select
        if self._plan.ports[number].keys is None:
            select = no_key
        # A loop over rows: each calls the user's function, with the state of its own key.
        for row, time_us, op, key_id, key in calls:
            produced.begin(row, time_us)
            ctx.key = key
            ctx.op = op
            ctx.timestamp = time_us
            select(key_id, key)
            made = call(row, ctx)
            if made is not None:
                produced.add(rows_made(made))
            if produced.full or len(produced.values) >= limit:
                return False
        return True

    def _fire(self, domain: Domain, upto_us: int) -> Iterator[Output]:
        """Call ``on_timer`` for what is due, by ascending time."""
        timers = self._timers
        due_us = None if timers is None else timers.due_us(domain)
        if due_us is None or due_us > upto_us:
            return
        step = partial(self._timer_calls, domain, upto_us)
        done = False
        while not done:
            done = self._guarded(step)
            if self._produced:
                yield from self._given()
            elif not done:
                yield self._produced.nothing  # a place to pause: timers need not give rows
            if domain == "processing" and self._held is None:
                return  # a timer that sets itself anew in the past lets input have its turn

    def _timer_calls(self, domain: Domain, upto_us: int) -> bool:
        """Call for timers until there is a batch, or for many (False), or none is due (True)."""
        if self._held is not None and not self._pull(self._held):
            return False
        timers, produced = self._timers, self._produced
        tolerant = self._errors.tolerant
        assert timers is not None, "without a key nothing is due"
        for _ in range(self._limit):
            self._timer = timer = timers.pop(domain, upto_us)
            if timer is None:
                return True
            time_us = timer.time_us if domain == "event" else None
            enter = partial(self._enter, None, timer.key_id, timer.key, time_us, domain)
            if tolerant:
                produced.begin(_told(timer), time_us)
            enter()
            made = self._on_timer(timer.time_us, self._ctx)
            if tolerant:
                if made is not None:
                    produced.add(rows_made(made))
                if produced.full or len(produced.values) >= self._limit:
                    return False
            elif made is not None:
                self._held = held = _Held(rows_made(made), time_us, enter)
                if not self._pull(held):
                    return False
            elif produced.full:
                return False
        return False

    def _pull(self, held: _Held) -> bool:
        """Let a call go on until there is a batch (False) or it has given everything (True)."""
        held.enter()
        produced, limit = self._produced, self._limit
        before = len(produced.values)
        produced.values.extend(islice(held.rest, limit - before))
        produced.stamps.extend([held.time_us] * (len(produced.values) - before))
        if len(produced.values) >= limit:
            return False
        self._held = None
        return not produced.full

    def _enter(  # noqa: PLR0917  as calls are told of them
        self,
        port: int | None,
        key_id: Any = None,
        key: Any = None,
        time_us: int | None = None,
        domain: Domain | None = None,
        op: str | None = None,
    ) -> None:
        """Let the context say what the next call is about: a row of a port, or a timer (None)."""
        ctx, state = self._ctx, self._state
        ctx.key, ctx.timestamp, ctx.domain, ctx.op = key, time_us, domain, op
        one = None if port is None else self._plan.ports[port]
        state.writable = one is not None and one.method == "process_broadcast"
        if one is None or one.keys is not None:
            ctx.timers = self._key_timers
            state.select(key_id, key)
        else:
            ctx.timers = _ALL_KEYS if state.writable else _NO_KEY
            state.deselect()

    def _guarded(self, step: Callable[[], bool]) -> bool:
        """Make calls that are for no row: an error tells the timer that was the reason.

        False where the timer is given up.
        """
        outcome = attempt(step)
        if not isinstance(outcome, Exception):
            return outcome
        plan, timer = self._plan, self._timer
        doing = ""
        if timer is not None:
            doing = f"on_timer({timer.time_us}) of key {short(timer.key)}"
        error = failed(outcome, operator=plan.operator, where=plan.where, doing=doing)
        if timer is None or not is_users(outcome):
            raise error from outcome
        self._produced.undo()
        self._errors.reject(error, _told(timer), self._ctx.timestamp)
        return False

    # What goes out ---------------------------------------------------------------------------

    def _rest(self) -> Iterator[Output]:
        """Give what a firing that was stopped has left."""
        while (held := self._held) is not None:
            self._guarded(partial(self._pull, held))
            yield from self._given()
        yield from self._given()

    def _given(self) -> Iterator[Output]:
        while (out := self._produced.take()) is not None:
            yield out


def no_rows(timestamp: int, ctx: ProcessContext) -> None:
    """Stand for the timers of a function that has none."""


def _told(timer: Timer) -> dict[str, Any]:
    """Say what a call of ``on_timer`` was for, in the place of a row."""
    return {"timer": timer.time_us, "key": timer.key}
