"""What a window's trigger is told, and may do."""

from __future__ import annotations

from typing import Any

from raystream.contracts.context import OpenContext
from raystream.contracts.trigger import Trigger, TriggerResult
from raystream.errors import UserError, UserFunctionError
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import Instant, micros
from raystream.keyed.handles import ListHandle, ReducingHandle
from raystream.keyed.store import KeyedStore
from raystream.keyed.timers import Timers
from raystream.operators.guard import short
from raystream.operators.window_assign import Bounds


class WindowTriggerContext:
    """The context of one operator's trigger; ``at`` says for which key and window it is asked."""

    def __init__(self, ctx: OpenContext, store: KeyedStore, timers: Timers) -> None:
        self._clock, self._store, self._timers = ctx.clock, store, timers
        self._handles: dict[str, tuple[Any, Any]] = {}
        self._key_id: Any = None
        self._bounds: Bounds = (0, 0)
        self._merged: tuple[Bounds, ...] = ()
        self.key: Any = None
        self.watermark = MIN_TIME

    def at(self, key_id: Any, key: Any, bounds: Bounds, merged: tuple[Bounds, ...] = ()) -> None:
        """Go to a key and window; ``merged`` are the windows that it was made of."""
        self._key_id, self.key, self._bounds, self._merged = key_id, key, bounds, merged

    @property
    def processing_time(self) -> int:
        return self._clock.now_us()

    def register_event_time(self, ts: Instant) -> None:
        self._timers.register("event", _inside(ts), self._key_id, self.key, self._bounds)

    def register_processing_time(self, ts: Instant) -> None:
        self._timers.register("processing", _inside(ts), self._key_id, self.key, self._bounds)

    def delete_event_time(self, ts: Instant) -> None:
        self._timers.delete("event", _inside(ts), self._key_id, self._bounds)

    def delete_processing_time(self, ts: Instant) -> None:
        self._timers.delete("processing", _inside(ts), self._key_id, self._bounds)

    def state(self, descriptor: Any) -> Any:
        handle = self._handle(descriptor)
        self._store.enter(self._bounds)
        return handle

    def merge_state(self, descriptor: Any) -> None:
        handle = self._handle(descriptor)
        if not isinstance(handle, (ReducingHandle, ListHandle)):
            raise UserError(
                f'merge_state() cannot join state "{descriptor.name}", '
                f"a {type(descriptor).__name__}",
                hint="give an rs.ReducingState or an rs.ListState",
            )
        found: list[Any] = []
        for bounds in self._merged:
            self._store.enter(bounds)
            # What they were stays until their triggers are told to clear it.
            found.append(handle.get())
        self._store.enter(self._bounds)
        for one in found:
            if isinstance(handle, ListHandle):
                handle.update([*handle.get(), *one])
            elif one is not None:
                handle.add(one)

    def _handle(self, descriptor: Any) -> Any:
        known = self._handles.get(getattr(descriptor, "name", ""))
        if known is not None and known[0] is descriptor:
            return known[1]
        handle = self._store.register(descriptor, namespaced=True)
        self._handles[descriptor.name] = (descriptor, handle)
        return handle


def checked(result: Any, trigger: Trigger, method: str) -> TriggerResult:
    """Refuse what is no answer.

    Raises: UserFunctionError naming the method.
    """
    if type(result) is TriggerResult:
        return result
    raise UserFunctionError(
        f"{type(trigger).__name__}.{method} gave {short(result)}, which is no TriggerResult",
        hint="return rs.TriggerResult.CONTINUE, FIRE, PURGE or FIRE_AND_PURGE",
    )


def _inside(ts: Instant) -> int:
    time_us = ts if type(ts) is int else micros(ts)
    return min(max(time_us, MIN_TIME), MAX_TIME)
