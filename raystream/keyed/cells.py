"""Where handles keep values: dicts, and dicts that forget what was written too long ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from copy import deepcopy
from typing import Any

from raystream.clock import Clock

_SIMPLE = {int, float, complex, str, bytes, bool, type(None)}
"""Types of values that hold nothing that could be changed."""

_SWEPT_EACH_WRITE = 2
"""Expired values that each write drops: twice as fast as they can come."""


class Expiring:
    """A dict whose values live for a time after they were written, by a clock that may jump.

    Values lie in the order of their writing, so that each write finds what has expired in front.
    """

    __slots__ = ("_now", "_ttl_us", "_values")

    def __init__(self, clock: Clock, ttl_us: int) -> None:
        self._now = clock.now_us
        self._ttl_us = ttl_us
        self._values: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    def get(self, slot: Hashable, default: Any = None) -> Any:
        found = self._values.get(slot)
        if found is None:
            return default
        if self._now() - found[0] < self._ttl_us:
            return found[1]
        del self._values[slot]
        return default

    def entry(self, slot: Hashable) -> tuple[int, Any] | None:
        """Give when a value was written, and the value; None where none is alive."""
        found = self._values.get(slot)
        return found if found is not None and self._now() - found[0] < self._ttl_us else None

    def __setitem__(self, slot: Hashable, value: Any) -> None:
        self.put(slot, value, self._now())

    def put(self, slot: Hashable, value: Any, written_us: int) -> None:
        """Write a value as it was written at a time."""
        self._values[slot] = (written_us, value)
        self._values.move_to_end(slot)
        self._sweep()

    def pop(self, slot: Hashable, default: Any = None) -> Any:
        found = self._values.pop(slot, None)
        if found is None or self._now() - found[0] >= self._ttl_us:
            return default
        return found[1]

    def __contains__(self, slot: object) -> bool:
        found = self._values.get(slot)
        return found is not None and self._now() - found[0] < self._ttl_us

    def __iter__(self) -> Iterator[Any]:
        return iter([slot for slot, _, _ in self.written()])

    def __len__(self) -> int:
        return len(self.written())

    def __bool__(self) -> bool:
        newest = next(reversed(self._values), self)
        return newest is not self and newest in self

    def pairs(self) -> list[tuple[Hashable, Any]]:
        """Give what is alive: slot, value."""
        return [(slot, value) for slot, value, _ in self.written()]

    def pieces(self) -> Iterator[tuple[list[Any], list[Any], list[int | None]]]:
        """Give what is alive, in one piece: slots, values, times of their writing."""
        alive = self.written()
        yield (
            [slot for slot, _, _ in alive],
            [value for _, value, _ in alive],
            [written_us for _, _, written_us in alive],
        )

    def written(self) -> list[tuple[Hashable, Any, int]]:
        """Give what is alive: slot, value, time of its writing; what has expired is dropped."""
        oldest_us = self._now() - self._ttl_us
        dead = [slot for slot, (at_us, _) in self._values.items() if at_us <= oldest_us]
        for slot in dead:
            del self._values[slot]
        return [(slot, value, at_us) for slot, (at_us, value) in self._values.items()]

    def held(self) -> int:
        """Count what is in memory, dead or alive."""
        return len(self._values)

    def _sweep(self) -> None:
        oldest_us = self._now() - self._ttl_us
        values = self._values
        for _ in range(_SWEPT_EACH_WRITE):
            slot = next(iter(values), self)
            if slot is self or values[slot][0] > oldest_us:
                return
            del values[slot]


class ExpiringList:
    """A list whose elements live for a time after they were added."""

    __slots__ = ("_now", "_ttl_us", "_values")

    def __init__(self, clock: Clock, ttl_us: int) -> None:
        self._now = clock.now_us
        self._ttl_us = ttl_us
        self._values: list[tuple[int, Any]] = []

    def append(self, value: Any) -> None:
        self.put(value, self._now())

    def extend(self, values: list[Any]) -> None:
        now_us = self._now()
        self._values.extend((now_us, value) for value in values)

    def put(self, value: Any, written_us: int) -> None:
        """Add an element as it was added at a time."""
        self._values.append((written_us, value))

    def written(self) -> list[tuple[int, Any]]:
        """Give what is alive: time of its adding, value; what has expired is dropped."""
        oldest_us = self._now() - self._ttl_us
        if self._values and self._values[0][0] <= oldest_us:
            self._values = [pair for pair in self._values if pair[0] > oldest_us]
        return [pair for pair in self._values if pair[0] > oldest_us]

    def __iter__(self) -> Iterator[Any]:
        return iter([value for _, value in self.written()])


def maker(initial: Any) -> Callable[[], Any]:
    """Give what makes the first state of each key: ``initial`` itself if it can be called."""
    if callable(initial):
        made: Callable[[], Any] = initial
        return made
    if type(initial) in _SIMPLE:
        return lambda: initial
    return lambda: deepcopy(initial)


def is_simple(initial: Any) -> bool:
    """Tell whether a value can be handed to every key without a copy."""
    return type(initial) in _SIMPLE
