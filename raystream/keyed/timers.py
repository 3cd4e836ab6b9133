"""The timers of one subtask: event and processing time, one for each key, namespace and moment."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.flow.hashing import UInt64s
from raystream.keyed.key_form import KeyForm, plain_key
from raystream.keyed.namespaces import NAMESPACE, read_namespaces, write_namespaces
from raystream.keyed.snapshot import GONE, Section, Snapshot, keyed_section, section
from raystream.keyed.touched import Lineage

Domain: TypeAlias = Literal["event", "processing"]

SECTION = "timers"
_SPARE_MOMENTS = 64
"""Moments without timers that a queue may hold beside as many as it has moments with some."""


class Timer(NamedTuple):
    """One timer that is due; a tuple, because a million of them are made in a second."""

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
        self._touched: dict[tuple[Domain, int, Hashable, Hashable | None], Any] | None = None
        self._lineage = Lineage()

    def __len__(self) -> int:
        moments = [at for queue in self._queues.values() for at in queue.moments.values()]
        return sum(len(at) if type(at) is dict else 1 for at in moments)

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
            queue.moments[time_us] = (key_id, namespace, key)
            heappush(queue.heap, time_us)
        elif type(at) is dict:
            if (key_id, namespace) in at:
                return
            at[key_id, namespace] = key
        elif at[0] != key_id or at[1] != namespace:
            queue.moments[time_us] = {(at[0], at[1]): at[2], (key_id, namespace): key}
        else:
            return
        if self._touched is not None:
            self._touched.pop((domain, time_us, key_id, namespace), None)  # it goes to the end
            self._touched[domain, time_us, key_id, namespace] = key

    def delete(
        self, domain: Domain, time_us: int, key_id: Hashable, namespace: Hashable | None = None
    ) -> None:
        """Take a timer away, if it is there."""
        queue = self._queues[domain]
        at = queue.moments.get(time_us)
        if type(at) is dict:
            at.pop((key_id, namespace), None)
            if not at:
                queue.forget(time_us)
        elif at is not None and at[0] == key_id and at[1] == namespace:
            queue.forget(time_us)
        if self._touched is not None:
            self._touched.setdefault((domain, time_us, key_id, namespace), plain_key(key_id))

    def due_us(self, domain: Domain) -> int | None:
        """Give the least time that is registered; None without timers."""
        queue = self._queues[domain]
        heap, moments = queue.heap, queue.moments
        while heap:
            if heap[0] in moments:
                return heap[0]
            heappop(heap)
        return None

    def pop(self, domain: Domain, upto_us: int) -> Timer | None:
        """Take the next timer whose time is at most ``upto_us``; None where none is due."""
        queue = self._queues[domain]
        heap, moments = queue.heap, queue.moments
        while heap:
            time_us = heap[0]
            if time_us > upto_us:
                return None
            at = moments.get(time_us)
            if at is None:
                heappop(heap)
                continue
            if type(at) is not dict:
                heappop(heap)
                del moments[time_us]
                timer = Timer(time_us, at[0], at[2], at[1])
            else:
                if time_us not in queue.turned:
                    at = queue.turn(time_us)
                (key_id, space), key = at.popitem()
                if not at:
                    queue.forget(time_us)
                timer = Timer(time_us, key_id, key, space)
            if self._touched is not None:
                self._touched[domain, time_us, timer.key_id, timer.namespace] = timer.key
            return timer
        return None

    def snapshot(self) -> list[Section]:
        """Give one keyed section of all timers: key, namespace, time, domain."""
        return [self._whole()]

    def changes(self) -> list[Section]:
        """Give what ``snapshot`` gives, or the timers that came and went since the last call."""
        touched, self._touched = self._touched, {}
        # What was registered for a moment that is firing goes first, which no delta can say.
        turned = any(queue.turned for queue in self._queues.values())
        if touched is None or turned or self._lineage.wants_whole(len(touched)):
            return [self._lineage.given(self._whole())]
        gone = [
            not self._queues[domain].holds(time_us, key_id, space)
            for domain, time_us, key_id, space in touched
        ]
        timers = [
            Timer(time_us, key_id, key, space)
            for (_, time_us, key_id, space), key in touched.items()
        ]
        table, hashes = self._written([domain for domain, *_ in touched], timers)
        table = table.append_column(GONE, pa.array(gone, pa.bool_()))
        return [self._lineage.given(self._keyed(table, hashes, delta=True))]

    def _whole(self) -> Section:
        pieces = [self._written([domain] * len(some), some) for domain, some in self._pieces()]
        table = pa.concat_tables([table for table, _ in pieces])
        return self._keyed(table, np.concatenate([hashes for _, hashes in pieces]))

    def _written(self, domains: list[Domain], timers: list[Timer]) -> tuple[pa.Table, UInt64s]:
        columns, hashes = self._keys.write(
            [timer.key_id for timer in timers], [timer.key for timer in timers]
        )
        columns |= write_namespaces([timer.namespace for timer in timers])
        columns["time"] = pa.array([timer.time_us for timer in timers], pa.int64())
        columns["domain"] = pa.array(domains, pa.string())
        return pa.table(columns), hashes

    def _keyed(self, table: pa.Table, hashes: UInt64s, *, delta: bool = False) -> Section:
        key = (*self._keys.names, *NAMESPACE, "time", "domain")
        return keyed_section(SECTION, table, hashes, self._max_parallelism, key, delta=delta)

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

    def _pieces(self) -> Iterator[tuple[Domain, list[Timer]]]:
        """Give all timers, those of one moment in the order of firing."""
        for domain, queue in self._queues.items():
            yield domain, [timer for time_us in queue.moments for timer in queue.at(time_us)]


class _Queue:
    """The timers of one domain: by moment, and a heap of moments, some of which may be gone.

    A moment has one timer, ``(key_id, namespace, key)``, or a dict ``{(key_id, namespace): key}``:
    most have one, and a dict of one takes three times the memory.
    """

    def __init__(self) -> None:
        self.moments: dict[int, Any] = {}
        self.turned: set[int] = set()
        self.heap: list[int] = []

    def turn(self, time_us: int) -> dict[Any, Any]:
        """Give the timers of a moment, turned around: the first one is then taken from the end."""
        self.turned.add(time_us)
        at: dict[Any, Any] = dict(reversed(self.moments[time_us].items()))
        self.moments[time_us] = at
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

    def at(self, time_us: int) -> list[Timer]:
        """Give the timers of a moment in the order of firing."""
        at = self.moments[time_us]
        if type(at) is not dict:
            return [Timer(time_us, at[0], at[2], at[1])]
        timers = [Timer(time_us, key_id, key, space) for (key_id, space), key in at.items()]
        return timers[::-1] if time_us in self.turned else timers

    def holds(self, time_us: int, key_id: Hashable, namespace: Hashable | None) -> bool:
        """Tell whether a timer is there."""
        at = self.moments.get(time_us)
        if type(at) is dict:
            return (key_id, namespace) in at
        return at is not None and at[0] == key_id and at[1] == namespace

    def take_later(self, keep: int) -> list[Timer]:
        """Take the timers of all moments but the first ones, which have ``keep`` timers or more."""
        kept, later = 0, []
        for time_us in sorted(self.moments):
            if kept < keep:
                at = self.moments[time_us]
                kept += len(at) if type(at) is dict else 1
            else:
                later += self.at(time_us)
                self.turned.discard(time_us)
                del self.moments[time_us]
        self.heap = sorted(self.moments)
        return later
