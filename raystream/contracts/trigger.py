"""When a window gives its result: the contract of triggers, built-in and users' own."""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass
from typing import Any, Protocol

from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import Instant


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One window, ``[start, end)``, as triggers, evictors and functions of windows see it.

    Units: epoch microseconds, UTC. The window of counts and the global one are all of time.
    """

    start: int
    end: int

    @property
    def last(self) -> int:
        """The last instant: what the watermark must pass."""
        return MAX_TIME if self == EVERYTHING else self.end - 1


EVERYTHING = Span(MIN_TIME, MAX_TIME)
"""The one window of ``rs.Global()`` and of counts."""


class TriggerResult(enum.Enum):
    """What a trigger says: whether the window fires, and whether its rows go."""

    CONTINUE = "continue"
    FIRE = "fire"
    PURGE = "purge"
    FIRE_AND_PURGE = "fire_and_purge"

    @property
    def fires(self) -> bool:
        return self in (TriggerResult.FIRE, TriggerResult.FIRE_AND_PURGE)

    @property
    def purges(self) -> bool:
        return self in (TriggerResult.PURGE, TriggerResult.FIRE_AND_PURGE)


class TriggerContext(Protocol):
    """What a trigger is told and may do, for one key and window."""

    @property
    def key(self) -> Any: ...

    @property
    def watermark(self) -> int: ...

    @property
    def processing_time(self) -> int: ...

    def register_event_time(self, ts: Instant) -> None:
        """Ask for ``on_event_time(ts, …)`` once the watermark has come there."""

    def register_processing_time(self, ts: Instant) -> None:
        """Ask for ``on_processing_time(ts, …)`` at that time."""

    def delete_event_time(self, ts: Instant) -> None:
        """Ask no longer; nothing happens if there was no such timer."""

    def delete_processing_time(self, ts: Instant) -> None:
        """Ask no longer; nothing happens if there was no such timer."""

    def state(self, descriptor: Any) -> Any:
        """Give the trigger's state of this key and window, by an ``rs.ValueState`` or another."""

    def merge_state(self, descriptor: Any) -> None:
        """Join the reducing or list state of the windows that were merged; in ``on_merge``."""


class Trigger(abc.ABC):
    """Says when a window fires. One instance serves all keys and windows of a subtask.

    What belongs to a window lives in ``ctx.state``, never in ``self``. Timers that a trigger has
    registered are its own: ``clear`` deletes them, or they come to nothing with the window.
    """

    @abc.abstractmethod
    def on_row(self, row: Any, ts: int | None, window: Span, ctx: TriggerContext) -> TriggerResult:
        """Say what one more row means; ``ts`` is its event time, None where there is none."""

    def on_event_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        """Say what an event timer means that was registered for this window."""
        return TriggerResult.CONTINUE

    def on_processing_time(self, ts: int, window: Span, ctx: TriggerContext) -> TriggerResult:
        """Say what a processing timer means that was registered for this window."""
        return TriggerResult.CONTINUE

    def on_merge(self, window: Span, ctx: TriggerContext) -> None:
        """Take over what the merged windows had waited for; ``window`` is the one they became.

        Sessions only. ``on_row`` follows, with the row that brought them together.
        """
        return

    def clear(self, window: Span, ctx: TriggerContext) -> None:
        """Forget what is kept for a window that is gone, or that was merged into another."""
        return
