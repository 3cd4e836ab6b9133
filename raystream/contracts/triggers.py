"""The triggers that come with raystream: ``rs.triggers.Count(100)``."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from typing_extensions import assert_never

from raystream.contracts import window_lengths as lengths
from raystream.contracts.state import ReducingState
from raystream.contracts.trigger import Span, Trigger, TriggerContext, TriggerResult
from raystream.contracts.window import Cumulative, Sliding, Tumbling, Window
from raystream.contracts.window_unaligned import Global, Session, SlidingCount, TumblingCount
from raystream.errors import PlanError
from raystream.flow.element import MAX_TIME
from raystream.flow.time import Duration, micros

_COUNT = ReducingState("trigger:count", operator.add, type=pa.int64())
_NEXT = ReducingState("trigger:next", min, type=pa.int64())

CONTINUE, FIRE = TriggerResult.CONTINUE, TriggerResult.FIRE


@dataclass(frozen=True, slots=True)
class EventTime(Trigger):
    """Fires when the watermark passes the window's last instant, and at once for each late row."""

    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        if window.last <= ctx.watermark:
            return FIRE
        ctx.register_event_time(window.last)
        return CONTINUE

    def on_event_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        return FIRE if ts == window.last else CONTINUE

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        # A merged window that is behind the watermark fires by its row, which ``on_row`` sees next.
        if window.last > ctx.watermark:
            ctx.register_event_time(window.last)

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        ctx.delete_event_time(window.last)

    def __str__(self) -> str:
        return "event time"


@dataclass(frozen=True, slots=True)
class ProcessingTime(Trigger):
    """Fires when processing time passes the window's last instant."""

    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        ctx.register_processing_time(window.last)
        return CONTINUE

    def on_processing_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        return FIRE if ts == window.last else CONTINUE

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        if window.last > ctx.processing_time:
            ctx.register_processing_time(window.last)

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        ctx.delete_processing_time(window.last)

    def __str__(self) -> str:
        return "processing time"


@dataclass(frozen=True, slots=True)
class Count(Trigger):
    """Fires after every ``n`` rows of a window, of which it forgets none.

    Raises: PlanError unless ``n`` is at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        lengths.check_count(self.n, "triggers.Count", "n")

    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        count = ctx.state(_COUNT)
        if (count.get() or 0) + 1 < self.n:
            count.add(1)
            return CONTINUE
        count.clear()
        return FIRE

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        ctx.merge_state(_COUNT)

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        ctx.state(_COUNT).clear()

    def __str__(self) -> str:
        return f"every {self.n} rows"


@dataclass(frozen=True, slots=True)
class ContinuousEventTime(Trigger):
    """Fires whenever the watermark passes a multiple of ``every``, and at the window's end.

    Raises: PlanError unless ``every`` is longer than nothing.
    """

    every: Duration

    def __post_init__(self) -> None:
        every_us = lengths.length(self.every, "triggers.ContinuousEventTime", "every")
        object.__setattr__(self, "every", every_us)

    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        if window.last <= ctx.watermark:
            return FIRE
        ctx.register_event_time(window.last)
        if ts is not None and ctx.state(_NEXT).get() is None:
            self._register(ts, window, ctx)
        return CONTINUE

    def on_event_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        if ts == window.last:
            return FIRE
        following = ctx.state(_NEXT)
        # At the end of time the last instant of every window follows: one firing is enough there.
        if following.get() != ts or window.last == MAX_TIME == ctx.watermark:
            return CONTINUE
        following.clear()
        self._register(ts, window, ctx)
        return FIRE

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        ctx.merge_state(_NEXT)
        if window.last > ctx.watermark:
            ctx.register_event_time(window.last)
            if (ts := ctx.state(_NEXT).get()) is not None:
                ctx.register_event_time(ts)

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        ctx.delete_event_time(window.last)
        following = ctx.state(_NEXT)
        if (ts := following.get()) is not None:
            ctx.delete_event_time(ts)
            following.clear()

    def __str__(self) -> str:
        return f"every {lengths.text(micros(self.every))} of event time"

    def _register(self, ts: int, window: Span, ctx: TriggerContext) -> None:
        mark = _behind(ts, micros(self.every))
        if mark < window.last:
            ctx.state(_NEXT).add(mark)
            ctx.register_event_time(mark)


@dataclass(frozen=True, slots=True)
class ContinuousProcessingTime(Trigger):
    """Fires whenever processing time passes a multiple of ``every``, while there are rows.

    A window of processing time also fires at its end.
    Raises: PlanError unless ``every`` is longer than nothing.
    """

    every: Duration

    def __post_init__(self) -> None:
        every_us = lengths.length(self.every, "triggers.ContinuousProcessingTime", "every")
        object.__setattr__(self, "every", every_us)

    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        if ctx.state(_NEXT).get() is None:
            self._register(window, ctx)
        return CONTINUE

    def on_processing_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        following = ctx.state(_NEXT)
        if following.get() != ts:
            return CONTINUE
        following.clear()
        self._register(window, ctx)
        return FIRE

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        ctx.merge_state(_NEXT)
        if (ts := ctx.state(_NEXT).get()) is not None:
            ctx.register_processing_time(ts)

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        following = ctx.state(_NEXT)
        if (ts := following.get()) is not None:
            ctx.delete_processing_time(ts)
            following.clear()

    def __str__(self) -> str:
        return f"every {lengths.text(micros(self.every))} of processing time"

    def _register(self, window: Span, ctx: TriggerContext) -> None:
        now = ctx.processing_time
        mark = _behind(now, micros(self.every))
        if now < window.last < mark:
            mark = window.last
        ctx.state(_NEXT).add(mark)
        ctx.register_processing_time(mark)


@dataclass(frozen=True, slots=True)
class Purging(Trigger):
    """Fires when another trigger does, and forgets the rows then."""

    trigger: Trigger

    def __post_init__(self) -> None:
        if not isinstance(self.trigger, Trigger):
            raise PlanError(
                f"triggers.Purging() takes a trigger, got {self.trigger!r:.60}",
                hint="rs.triggers.Purging(rs.triggers.Count(100))",
            )

    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        return _purged(self.trigger.on_row(row, ts, window, ctx))

    def on_event_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        return _purged(self.trigger.on_event_time(ts, window, ctx))

    def on_processing_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        return _purged(self.trigger.on_processing_time(ts, window, ctx))

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        self.trigger.on_merge(window, ctx)

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        self.trigger.clear(window, ctx)

    def __str__(self) -> str:
        return f"{self.trigger}, purging"


def _purged(result: TriggerResult) -> TriggerResult:
    return TriggerResult.FIRE_AND_PURGE if result is FIRE else result


def _behind(ts: int, every_us: int) -> int:
    """Give the first multiple of a length behind a time; the end of time where there is none."""
    return min(ts - ts % every_us + every_us, MAX_TIME)


def default_trigger(window: Window) -> Trigger:
    """Give the trigger of a window for which none was chosen."""
    match window:
        case TumblingCount(n=n):
            return Purging(Count(n))
        case SlidingCount(slide=slide):
            return Count(slide)
        case Tumbling() | Sliding() | Cumulative() | Session():
            return EventTime() if window.time == "event" else ProcessingTime()
        case Global():
            return EventTime()
        case _:
            assert_never(window)
