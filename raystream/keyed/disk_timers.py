"""More timers than memory holds: the nearest ones in memory, those of later moments on disk.

All timers up to a moment are in memory, so that firing and registering near ones cost what they
cost there; where there are too many, the later half goes to disk. When memory has none left, the
next ones are read; a moment is never divided, so the timers of one moment must fit into memory.
Timers lie on disk behind all state, by ``domain ‖ moment ‖ key ‖ namespace``.
"""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterator
from typing import Any

from raystream.flow.element import MAX_TIME
from raystream.flow.key import canonical
from raystream.keyed.disk import Disk, pack_value, write_batch
from raystream.keyed.key_bytes import key_bytes, read_key
from raystream.keyed.key_form import KeyForm, plain_key
from raystream.keyed.snapshot import Section
from raystream.keyed.timers import Domain, Timer, Timers

_PLACE = b"\xff\xff\0\0"
"""The last key group, which no key has, and a state that is none."""

_UNWRITTEN_MAX = 4_096
"""Registered and deleted timers that are written in one batch."""

_EVERY_TIME = MAX_TIME + 1
_OFFSET = 2**63


class DiskTimers(Timers):
    """Timers of which about ``held_max`` are in memory.

    Those of one moment that were on disk fire by key, not in the order of their registering.
    """

    def __init__(self, keys: KeyForm, max_parallelism: int, disk: Disk, held_max: int) -> None:
        super().__init__(keys, max_parallelism)
        self._far: dict[Domain, _Far] = {"event": _Far(disk, b"e"), "processing": _Far(disk, b"p")}
        self._half = max(1, held_max // 2)
        self._registered = 0

    def __len__(self) -> int:
        far = sum(len(timers) for one in self._far.values() for timers in one.pieces(self._half))
        return super().__len__() + far

    def register(
        self,
        domain: Domain,
        time_us: int,
        key_id: Hashable,
        key: Any,
        namespace: Hashable | None = None,
    ) -> None:
        far = self._far[domain]
        if time_us > far.after_us:
            far.write(time_us, key_id, namespace, pack_value(key))
            return
        super().register(domain, time_us, key_id, key, namespace)
        self._registered += 1
        if self._registered >= self._half:
            self._registered = 0
            self._spill()

    def delete(
        self, domain: Domain, time_us: int, key_id: Hashable, namespace: Hashable | None = None
    ) -> None:
        far = self._far[domain]
        if time_us > far.after_us:
            far.write(time_us, key_id, namespace, None)
        else:
            super().delete(domain, time_us, key_id, namespace)

    def due_us(self, domain: Domain) -> int | None:
        due_us = super().due_us(domain)
        while due_us is None and self._load(domain, MAX_TIME):
            due_us = super().due_us(domain)
        return due_us

    def pop(self, domain: Domain, upto_us: int) -> Timer | None:
        timer = super().pop(domain, upto_us)
        while timer is None and self._load(domain, upto_us):
            timer = super().pop(domain, upto_us)
        return timer

    def changes(self) -> list[Section]:
        # What moves between memory and disk would look as if it came and went.
        return self.snapshot()

    def _pieces(self) -> Iterator[tuple[Domain, list[Timer]]]:
        yield from super()._pieces()
        for domain, far in self._far.items():
            for timers in far.pieces(self._half):
                yield domain, timers

    def _load(self, domain: Domain, upto_us: int) -> bool:
        """Read the next moments, where some up to a time may be on disk; tell whether they were."""
        far = self._far[domain]
        if far.after_us >= upto_us:
            return False
        for timer in far.take(self._half):
            super().register(domain, timer.time_us, timer.key_id, timer.key, timer.namespace)
        return True

    def _spill(self) -> None:
        for domain, queue in self._queues.items():
            moments = queue.moments.values()
            if sum(len(at) if type(at) is dict else 1 for at in moments) <= self._half:
                continue
            far = self._far[domain]
            later = queue.take_later(self._half)
            for timer in later:
                far.write(timer.time_us, timer.key_id, timer.namespace, pack_value(timer.key))
            if later:
                far.after_us = max(queue.moments)


class _Far:
    """The timers of one domain that are on disk: all those after a moment, and no others."""

    def __init__(self, disk: Disk, letter: bytes) -> None:
        self._rows, self._place = disk.rows, _PLACE + letter
        self._unwritten: dict[bytes, bytes | None] = {}
        self.after_us = _EVERY_TIME

    def write(
        self, time_us: int, key_id: Hashable, namespace: Hashable | None, packed: bytes | None
    ) -> None:
        """Add a timer with its pickled key; delete it where that is None."""
        slot = key_bytes(key_id) + key_bytes(canonical(namespace))
        self._unwritten[self._at(time_us) + slot] = packed
        if len(self._unwritten) >= _UNWRITTEN_MAX:
            self._flush()

    def take(self, count: int) -> list[Timer]:
        """Take the timers of the next moments: ``count`` or more, or all."""
        self._flush()
        taken: list[Timer] = []
        batch = write_batch()
        rest_us = _EVERY_TIME
        for raw, timer in self._scan():
            if len(taken) >= count and timer.time_us > taken[-1].time_us:
                rest_us = taken[-1].time_us
                break
            taken.append(timer)
            batch.delete(raw)
        self._rows.write(batch)
        self.after_us = rest_us
        return taken

    def pieces(self, count: int) -> Iterator[list[Timer]]:
        """Give all timers, a bounded number at a time."""
        self._flush()
        piece = []
        for _, timer in self._scan():
            piece.append(timer)
            if len(piece) >= count:
                yield piece
                piece = []
        if piece:
            yield piece

    def _scan(self) -> Iterator[tuple[bytes, Timer]]:
        if self.after_us == _EVERY_TIME:
            return
        rows = self._rows.iter()
        # Not from the beginning: there lies what was deleted.
        rows.seek(self._at(self.after_us))
        begin = len(self._place)
        while rows.valid() and (raw := rows.key()).startswith(self._place):
            time_us = int.from_bytes(raw[begin : begin + 8], "big") - _OFFSET
            key_id, end = read_key(raw, begin + 8)
            space, _ = read_key(raw, end)
            yield raw, Timer(time_us, key_id, pickle.loads(rows.value()), plain_key(space))
            rows.next()

    def _at(self, time_us: int) -> bytes:
        return self._place + (time_us + _OFFSET).to_bytes(8, "big")

    def _flush(self) -> None:
        if not self._unwritten:
            return
        batch = write_batch()
        for raw, packed in self._unwritten.items():
            if packed is None:
                batch.delete(raw)
            else:
                batch.put(raw, packed)
        self._rows.write(batch)
        self._unwritten.clear()
