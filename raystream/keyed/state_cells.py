"""Choose where a state lives: in dicts or on disk, for good or for a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from raystream.clock import Clock
from raystream.keyed.cells import Expiring, ExpiringList
from raystream.keyed.disk import Disk, DiskCells, Slots, pack_value
from raystream.keyed.disk_views import DiskMaps, ExpiringDiskCells
from raystream.keyed.handles import Cells
from raystream.keyed.state_rows import Layout


def container(layout: Layout, clock: Clock, ttl_us: int | None) -> Callable[[], Any]:
    """Give what makes an empty list or map of one slot."""
    if layout == "map":
        return dict if ttl_us is None else partial(Expiring, clock, ttl_us)
    return list if ttl_us is None else partial(ExpiringList, clock, ttl_us)


def memory_cells(clock: Clock, ttl_us: int | None) -> Cells:
    """Give cells in memory."""
    return {} if ttl_us is None else Expiring(clock, ttl_us)


def disk_cells(
    disk: Disk, layout: Layout, clock: Clock, ttl_us: int | None, *, namespaced: bool
) -> Cells:
    """Give cells on disk."""
    slots = Slots(disk, namespaced=namespaced, entries=layout == "map")
    if ttl_us is None:
        cells = DiskCells(disk, slots)
        return DiskMaps(cells) if layout == "map" else cells
    if layout == "list":
        unpack = partial(_unpack_list, container(layout, clock, ttl_us))
        cells = DiskCells(disk, slots, _pack_list, unpack)
    else:
        cells = DiskCells(disk, slots)
    expiring = ExpiringDiskCells(cells, clock, ttl_us, disk.cached_values_max)
    return DiskMaps(expiring) if layout == "map" else expiring


def _pack_list(pair: tuple[int, ExpiringList]) -> bytes:
    written_us, elements = pair
    return pack_value((written_us, elements.written()))


def _unpack_list(make: Callable[[], ExpiringList], raw: bytes) -> tuple[int, ExpiringList]:
    written_us, pairs = pickle.loads(raw)
    made = make()
    for at_us, value in pairs:
        made.put(value, at_us)
    return written_us, made
