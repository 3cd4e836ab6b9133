"""What cells on disk look like to handles: values that expire, and maps whose entries are rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from raystream.clock import Clock
from raystream.keyed.disk import DiskCells, Piece

_ABSENT: Any = object()


class ExpiringDiskCells:
    """Cells on disk whose values, ``(written_us, value)`` there, live for a time."""

    def __init__(self, cells: DiskCells, clock: Clock, ttl_us: int, sweep_every: int) -> None:
        self._cells, self._now, self._ttl_us = cells, clock.now_us, ttl_us
        self._sweep_every, self._unswept = sweep_every, 0

    def get(self, slot: Hashable, default: Any = None) -> Any:
        found = self._cells.get(slot)
        if found is None:
            return default
        if self._is_dead(found):
            self._cells.pop(slot, None)
            return default
        return found[1]

    def entry(self, slot: Hashable) -> tuple[int, Any] | None:
        """Give when a value was written, and the value; None where none is alive."""
        found: tuple[int, Any] | None = self._cells.get(slot)
        return None if found is None or self._is_dead(found) else found

    def __setitem__(self, slot: Hashable, value: Any) -> None:
        self.put(slot, value, self._now())

    def put(self, slot: Hashable, value: Any, written_us: int) -> None:
        """Write a value as it was written at a time."""
        self._cells[slot] = (written_us, value)
        self._unswept += 1
        if self._unswept >= self._sweep_every:
            self._cells.sweep(2 * self._unswept, self._is_dead)
            self._unswept = 0

    def pop(self, slot: Hashable, default: Any = None) -> Any:
        found = self._cells.pop(slot)
        return default if found is None or self._is_dead(found) else found[1]

    def __contains__(self, slot: Hashable) -> bool:
        return self.get(slot, _ABSENT) is not _ABSENT

    def pieces(self) -> Iterator[Piece]:
        """Give what is alive, a bounded number at a time."""
        for slots, pairs, _ in self._cells.pieces():
            alive = [row for row in zip(slots, pairs, strict=True) if not self._is_dead(row[1])]
            yield (
                [slot for slot, _ in alive],
                [value for _, (_, value) in alive],
                [written_us for _, (written_us, _) in alive],
            )

    def entries(self, slot: Hashable) -> list[tuple[Hashable, Any]]:
        """Give canonical key and value of each living entry of one map."""
        found = self._cells.entries(slot)
        return [(name, pair[1]) for name, pair in found if not self._is_dead(pair)]

    def any_entry(self, slot: Hashable) -> bool:
        """Tell whether a map has a living entry."""
        return bool(self.entries(slot))

    def _is_dead(self, pair: tuple[int, Any]) -> bool:
        return self._now() - pair[0] >= self._ttl_us


class DiskMaps:
    """Cells of maps: what they give for a slot is a view of its entries, each a row."""

    def __init__(self, entries: DiskCells | ExpiringDiskCells) -> None:
        self.entries = entries

    def get(self, slot: Hashable, default: Any = None) -> DiskMap:
        return DiskMap(self.entries, slot)

    def __setitem__(self, slot: Hashable, value: Any) -> None:
        """Do nothing: entries were written one by one."""

    def put(self, slot: Hashable, value: Any, written_us: int | None) -> None:
        """Do nothing: entries were written one by one."""

    def pop(self, slot: Hashable, default: Any = None) -> Any:
        for name, _ in self.entries.entries(slot):
            self.entries.pop((slot, name))
        return default

    def pieces(self) -> Iterator[Piece]:
        """Give all entries, a bounded number at a time: a slot is (slot, canonical key)."""
        return self.entries.pieces()


class DiskMap:
    """The entries of one map, by canonical key."""

    __slots__ = ("_entries", "_slot")

    def __init__(self, entries: DiskCells | ExpiringDiskCells, slot: Hashable) -> None:
        self._entries, self._slot = entries, slot

    def get(self, name: Hashable, default: Any = None) -> Any:
        return self._entries.get((self._slot, name), default)

    def __setitem__(self, name: Hashable, value: Any) -> None:
        self._entries[self._slot, name] = value

    def put(self, name: Hashable, value: Any, written_us: int) -> None:
        """Write a value as it was written at a time."""
        self._entries.put((self._slot, name), value, written_us)

    def pop(self, name: Hashable, default: Any = None) -> Any:
        return self._entries.pop((self._slot, name), default)

    def __contains__(self, name: Hashable) -> bool:
        return (self._slot, name) in self._entries

    def pairs(self) -> list[tuple[Hashable, Any]]:
        """Give canonical key and value of each entry."""
        return self._entries.entries(self._slot)

    def __len__(self) -> int:
        return len(self.pairs())

    def __bool__(self) -> bool:
        return self._entries.any_entry(self._slot)
