"""The timers of one subtask: event and processing time, one for each key, namespace and moment."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from raystream.keyed.key_form import KeyForm
from raystream.keyed.namespaces import read_namespaces, write_namespaces
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section

Domain: TypeAlias = Literal["event", "processing"]

SECTION = "timers"
_SPARE_MOMENTS = 64
"""Moments without timers that a queue may hold beside as many as it has moments with some."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer that is due."""

    time_us: int
    key_id: Hashable
    key: Any
    namespace: Hashable | None


class Timers:
    """Timers are a set: registering one twice is registering it once, and deleting is exact.

    They fire by ascending time; those of one moment in the order of their registering, but what is
    registered for the moment that is firing goes first.
    """

    def __init__(self, keys: KeyForm, max_parallelism: int) -> None:
        self._keys = keys
        self._max_parallelism = max_parallelism
        self._queues: dict[Domain, _Queue] = {"event": _Queue(), "processing": _Queue()}

    def __len__(self) -> int:
        return sum(len(at) for queue in self._queues.values() for at in queue.moments.values())

    def register(
        self,
        domain: Domain,
        time_us: int,
        key_id: Hashable,
        key: Any,
        namespace: Hashable | None = None,
    ) -> None:
        """Add a timer, unless it is there."""
        queue = self._queues[domain]
        at = queue.moments.get(time_us)
        if at is None:
            queue.moments[time_us] = {(key_id, namespace): key}
            heappush(queue.heap, time_us)
        else:
            at.setdefault((key_id, namespace), key)

    def delete(
        self, domain: Domain, time_us: int, key_id: Hashable, namespace: Hashable | None = None
    ) -> None:
        """Take a timer away, if it is there."""
        queue = self._queues[domain]
        at = queue.moments.get(time_us)
        if at is not None and at.pop((key_id, namespace), queue) is not queue and not at:
            queue.forget(time_us)

    def due_us(self, domain: Domain) -> int | None:
        """Give the least time that is registered; None without timers."""
        return self._queues[domain].least()

    def pop(self, domain: Domain, upto_us: int) -> Timer | None:
        """Take the next timer whose time is at most ``upto_us``; None where none is due."""
        queue = self._queues[domain]
        time_us = queue.least()
        if time_us is None or time_us > upto_us:
            return None
        at = queue.moments[time_us]
        if len(at) > 1 and time_us not in queue.turned:
            at = queue.turn(time_us)
        (key_id, namespace), key = at.popitem()
        if not at:
            queue.forget(time_us)
        return Timer(time_us, key_id, key, namespace)

    def snapshot(self) -> list[Section]:
        """Give one keyed section of all timers: key, namespace, time, domain."""
        ids, keys, spaces, times, domains = [], [], [], [], []
        for domain, queue in self._queues.items():
            for time_us, at in queue.moments.items():
                for (key_id, namespace), key in queue.in_order(time_us, at):
                    ids.append(key_id)
                    keys.append(key)
                    spaces.append(namespace)
                    times.append(time_us)
                    domains.append(domain)
        columns, hashes = self._keys.write(ids, keys)
        columns |= write_namespaces(spaces)
        columns["time"] = pa.array(times, pa.int64())
        columns["domain"] = pa.array(domains, pa.string())
        return [keyed_section(SECTION, pa.table(columns), hashes, self._max_parallelism)]

    def restore(self, snapshot: Snapshot) -> None:
        """Take up the timers of a snapshot."""
        table = section(snapshot, SECTION)
        if table is None:
            return
        ids, keys = self._keys.read(table)
        domains, times = table.column("domain").to_pylist(), table.column("time").to_pylist()
        spaces = read_namespaces(table)
        # A loop over timers: they are Python objects.
        for row in zip(domains, times, ids, keys, spaces, strict=True):
            self.register(*row)


class _Queue:
    """The timers of one domain: by moment, and a heap of moments, some of which may be gone."""

    def __init__(self) -> None:
        self.moments: dict[int, dict[tuple[Hashable, Hashable | None], Any]] = {}
        self.turned: set[int] = set()
        self.heap: list[int] = []

    def least(self) -> int | None:
        heap, moments = self.heap, self.moments
        while heap:
            if heap[0] in moments:
                return heap[0]
            heappop(heap)
        return None

    def turn(self, time_us: int) -> dict[tuple[Hashable, Hashable | None], Any]:
        """Give the timers of a moment, turned around: the first one is then taken from the end."""
        self.turned.add(time_us)
        at = self.moments[time_us] = dict(reversed(self.moments[time_us].items()))
        return at

    def forget(self, time_us: int) -> None:
        """Drop a moment without timers."""
        del self.moments[time_us]
        self.turned.discard(time_us)
        if self.heap[0] == time_us:
            heappop(self.heap)
        elif len(self.heap) > 2 * len(self.moments) + _SPARE_MOMENTS:
            self.heap = list(self.moments)
            heapify(self.heap)

    def in_order(self, time_us: int, at: dict[Any, Any]) -> list[tuple[Any, Any]]:
        pairs = list(at.items())
        return pairs[::-1] if time_us in self.turned else pairs
