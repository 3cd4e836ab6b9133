"""What a process function gives, in plain Python: each row, watermark and moment looked at alone.

The function is the user's own; the state, the timers and the context that it sees are the plainest
there can be: dicts by key, a list of timers that is sorted anew for each firing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from raystream.flow.element import MAX_TIME, MIN_TIME


class _State:
    """Every kind of state at once: whatever the current owner has under a name."""

    def __init__(self, model: Model, descriptor: Any) -> None:
        self.model = model
        self.kind = type(descriptor).__name__
        self.default = getattr(descriptor, "default", None)
        self.by_owner: dict[Hashable, Any] = {}

    @property
    def owner(self) -> Hashable:
        keyed = self.kind in ("ValueState", "ListState", "MapState")
        return self.model.key_id(self.model.key) if keyed else "all"

    def _mine(self) -> Any:
        empty: Any = {} if "Map" in self.kind or "Broadcast" in self.kind else []
        return self.by_owner.setdefault(self.owner, empty)

    def value(self) -> Any:
        return self.by_owner.get(self.owner, self.default)

    def update(self, value: Any) -> None:
        self.by_owner[self.owner] = list(value) if "List" in self.kind else value

    def clear(self) -> None:
        self.by_owner.pop(self.owner, None)

    def add(self, value: Any) -> None:
        self._mine().append(value)

    def get(self, *key: Any) -> Any:
        return self._mine().get(*key) if key else list(self._mine())

    def put(self, key: Any, value: Any) -> None:
        self._mine()[key] = value

    def items(self) -> list[tuple[Any, Any]]:
        return list(self._mine().items())


class Model:
    """One process function, and everything that it has given: ``(time, row)``, by tag too.

    It is the context of its own calls.
    """

    subtask_index, parallelism = 0, 1
    op = None

    def __init__(
        self,
        function: Any,
        key_id: Callable[[Any], Hashable] = lambda key: key,
        *,
        timed: bool = True,
        no_time: int | None = None,
    ) -> None:
        self.key_id = key_id
        self.rows: list[tuple[Any, Any]] = []
        self.sides: dict[str, list[tuple[Any, Any]]] = {}
        self.key: Any = None
        self.timestamp: int | None = None
        self.domain: str | None = None
        self.watermark, self.processing_time = MIN_TIME, 0
        self.timers = self
        self._timed, self._no_time = timed, no_time
        self._pending: dict[tuple[str, int, Hashable], Any] = {}
        self._states: dict[str, _State] = {}
        self._function = function
        function.open(self)

    def state(self, descriptor: Any) -> _State:
        return self._states.setdefault(descriptor.name, _State(self, descriptor))

    def present(self, name: str) -> dict[Hashable, Any]:
        return {owner: value for owner, value in self._states[name].by_owner.items() if value != []}

    # The context -----------------------------------------------------------------------------

    def output(self, tag: str, value: Any) -> None:
        self.sides.setdefault(tag, []).append((self._time, value))

    def register_event_time(self, time: int) -> None:
        self._pending.setdefault(("event", time, self.key_id(self.key)), self.key)

    def register_processing_time(self, time: int) -> None:
        self._pending.setdefault(("processing", time, self.key_id(self.key)), self.key)

    def delete_event_time(self, time: int) -> None:
        self._pending.pop(("event", time, self.key_id(self.key)), None)

    def delete_processing_time(self, time: int) -> None:
        self._pending.pop(("processing", time, self.key_id(self.key)), None)

    # The story -------------------------------------------------------------------------------

    def row(self, method: str, time: int | None, row: Any, key: Any = None) -> None:
        self.key, self.domain = key, None
        self.timestamp = time
        self._take(getattr(self._function, method)(row, self))

    def watermark_is(self, time: int) -> None:
        self.watermark = max(self.watermark, time)
        self._fire("event", self.watermark)

    def advance(self, us: int) -> None:
        until = self.processing_time + us
        while due := [time for domain, time, _ in self._pending if domain == "processing"]:
            if min(due) > until:
                break
            self.processing_time = max(self.processing_time, min(due))
            self._fire("processing", self.processing_time)
        self.processing_time = until

    def end(self) -> None:
        self.watermark_is(MAX_TIME)

    def _fire(self, domain: str, upto: int) -> None:
        while due := [one for one in self._pending if one[0] == domain and one[1] <= upto]:
            first = min(due, key=lambda one: one[1])
            self.key, self.domain = self._pending.pop(first), domain
            self.timestamp = first[1] if domain == "event" else None
            self._take(self._function.on_timer(first[1], self))

    @property
    def _time(self) -> int | None:
        if not self._timed:
            return None
        return self._no_time if self.timestamp is None else self.timestamp

    def _take(self, made: Any) -> None:
        for row in made or ():
            self.rows.append((self._time, row))
