"""State that is larger than memory: cells in RocksDB, with the values in use decoded beside it.

A row's key is ``group (2 bytes) ‖ state (2 bytes) ‖ key ‖ namespace ‖ map key``, so that the rows
of a key group, of a key and of a map lie together. The files live as long as the subtask: what must
survive is in its snapshots, so there is no log of writes. A list is one row, because ``get`` gives
all of it and one that is in use is rewritten once for many adds; an entry of a map is a row.

Values in use are held in two generations: a new one begins when ``cached_values_max`` were touched,
and all that was written goes to disk in one batch; what was not touched since is dropped.
"""

from __future__ import annotations

import contextlib
import pickle
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

from raystream.errors import ConfigError
from raystream.flow.hashing import hash_canonical
from raystream.flow.key import canonical
from raystream.keyed.disk_folder import make_folder, remove_folder
from raystream.keyed.key_bytes import key_bytes, read_key
from raystream.keyed.key_form import pickled, plain_key

Piece: TypeAlias = tuple[list[Any], list[Any], list[int | None]]
"""Slots, the value of each, and when it was written."""

_PIECE_ROWS = 65_536
"""Rows of a snapshot that are Python objects at one time."""

_WRITE_BUFFER_BYTES = 16 * 1024 * 1024
"""What RocksDB holds before it writes a file; it may have two of them."""

_BLOOM_BITS = 10
"""Bits a key: 99 of 100 look-ups of keys that are not there read nothing."""

_UNKNOWN: Any = object()
_ABSENT: Any = object()


class Disk:
    """One database of one subtask, in a folder of its own that is gone when it is closed."""

    def __init__(self, folder: str | None, max_parallelism: int, cached_values_max: int) -> None:
        assert max_parallelism < 2**16, "a key group has two bytes, and the last one is for timers"
        self.max_parallelism = max_parallelism
        self.cached_values_max = cached_values_max
        self.folder = make_folder(folder)
        self._states = 0
        with contextlib.ExitStack() as unopened:
            unopened.callback(remove_folder, self.folder)
            self.rows = _open(self.folder)
            unopened.pop_all()
        # Also where nobody closes it: when it is forgotten, or the process ends.
        self.close = weakref.finalize(self, _remove, self.rows, self.folder)

    def next_state(self) -> bytes:
        """Give the two bytes of one more state."""
        self._states += 1
        return self._states.to_bytes(2, "big")


class Slots:
    """How slots are written: a key, a key and its namespace, and for a map one of these and more.

    ``entries`` says that a slot is ``(slot of the map, canonical key in the map)``.
    """

    def __init__(self, disk: Disk, *, namespaced: bool, entries: bool) -> None:
        self.state = disk.next_state()
        self._max_parallelism = disk.max_parallelism
        self._namespaced, self._entries = namespaced, entries

    def write(self, slot: Any) -> bytes:
        """Give the bytes of a slot."""
        if self._entries:
            return self.of_map(slot[0]) + key_bytes(slot[1])
        return self.of_map(slot)

    def of_map(self, slot: Any) -> bytes:
        """Give the bytes with which all entries of a map begin."""
        key_id = slot[0] if self._namespaced else slot
        group = hash_canonical(key_id) % self._max_parallelism
        head = group.to_bytes(2, "big") + self.state + key_bytes(key_id)
        return head + key_bytes(canonical(slot[1])) if self._namespaced else head

    def read(self, raw: bytes) -> Any:
        """Give the slot of a row."""
        slot, end = read_key(raw, 4)
        if self._namespaced:
            space, end = read_key(raw, end)
            slot = (slot, plain_key(space))
        return (slot, read_key(raw, end)[0]) if self._entries else slot


class DiskCells:
    """Cells on disk; ``pack`` and ``unpack`` turn a value into bytes and back."""

    def __init__(
        self,
        disk: Disk,
        slots: Slots,
        pack: Callable[[Any], bytes] | None = None,
        unpack: Callable[[bytes], Any] = pickle.loads,
    ) -> None:
        self._disk, self._slots = disk, slots
        self._pack, self._unpack = pack or pack_value, unpack
        self._hot: dict[Hashable, Any] = {}
        self._cold: dict[Hashable, Any] = {}
        self._dirty: set[Hashable] = set()
        self._held_max = max(1, disk.cached_values_max // 2)
        self.swept_to = b""

    def get(self, slot: Hashable, default: Any = None) -> Any:
        found = self._hot.get(slot, _UNKNOWN)
        if found is _UNKNOWN:
            found = self._fetch(slot)
        return default if found is _ABSENT else found

    def entry(self, slot: Hashable) -> tuple[None, Any] | None:
        """Give a value, and that nobody knows when it was written; None where there is none."""
        found = self.get(slot, _ABSENT)
        return None if found is _ABSENT else (None, found)

    def __setitem__(self, slot: Hashable, value: Any) -> None:
        self._hot[slot] = value
        self._dirty.add(slot)
        if len(self._hot) >= self._held_max:
            self._next_generation()

    def put(self, slot: Hashable, value: Any, written_us: int | None) -> None:
        """Write a value; when that was is not kept."""
        self[slot] = value

    def pop(self, slot: Hashable, default: Any = None) -> Any:
        found = self.get(slot, _ABSENT)
        if found is _ABSENT:
            return default
        self[slot] = _ABSENT
        return found

    def __contains__(self, slot: Hashable) -> bool:
        return self.get(slot, _ABSENT) is not _ABSENT

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if not self._dirty:
            return
        batch = write_batch()
        hot, write = self._hot, self._slots.write
        for slot in self._dirty:
            value = hot[slot]
            if value is _ABSENT:
                batch.delete(write(slot))
            else:
                batch.put(write(slot), self._pack(value))
        self._disk.rows.write(batch)
        self._dirty.clear()

    def pieces(self) -> Iterator[Piece]:
        """Give all values, sorted by key group, a bounded number at a time."""
        self.flush()
        slots: list[Any] = []
        values: list[Any] = []
        for raw, packed in self._rows(b""):
            slots.append(self._slots.read(raw))
            values.append(self._unpack(packed))
            if len(slots) >= _PIECE_ROWS:
                yield slots, values, [None] * len(slots)
                slots, values = [], []
        yield slots, values, [None] * len(slots)

    def entries(self, slot: Hashable) -> list[tuple[Hashable, Any]]:
        """Give canonical key and value of each entry of one map."""
        self.flush()
        prefix = self._slots.of_map(slot)
        rows = self._disk.rows.iter()
        rows.seek(prefix)
        found = []
        while rows.valid() and (raw := rows.key()).startswith(prefix):
            found.append((read_key(raw, len(prefix))[0], self._unpack(rows.value())))
            rows.next()
        return found

    def any_entry(self, slot: Hashable) -> bool:
        """Tell whether a map has an entry."""
        self.flush()
        prefix = self._slots.of_map(slot)
        rows = self._disk.rows.iter()
        rows.seek(prefix)
        return bool(rows.valid() and rows.key().startswith(prefix))

    def sweep(self, count: int, is_dead: Callable[[Any], bool]) -> None:
        """Look at the next rows, in turn, and delete those that are dead and not in use."""
        batch = write_batch()
        for raw, packed in self._rows(self.swept_to):
            self.swept_to = raw + b"\0"
            slot = self._slots.read(raw)
            if slot not in self._hot and slot not in self._cold and is_dead(self._unpack(packed)):
                batch.delete(raw)
            count -= 1
            if not count:
                break
        else:
            self.swept_to = b""
        self._disk.rows.write(batch)

    def _fetch(self, slot: Hashable) -> Any:
        found = self._cold.get(slot, _UNKNOWN)
        if found is _UNKNOWN:
            packed = self._disk.rows.get(self._slots.write(slot))
            found = _ABSENT if packed is None else self._unpack(packed)
        self._hot[slot] = found
        if len(self._hot) >= self._held_max:
            self._next_generation()
        return found

    def _next_generation(self) -> None:
        self.flush()
        self._cold, self._hot = self._hot, {}

    def _rows(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Give the rows of this state from a key on: those of each group lie together."""
        state = self._slots.state
        rows = self._disk.rows.iter()
        rows.seek(start or b"\0\0" + state)
        while rows.valid():
            raw = rows.key()
            if raw[2:4] == state:
                yield raw, rows.value()
                rows.next()
                continue
            group = int.from_bytes(raw[:2], "big") + (raw[2:4] > state)
            if group == 2**16:
                return
            rows.seek(group.to_bytes(2, "big") + state)


def pack_value(value: Any) -> bytes:
    """Pickle one value."""
    return pickled((value,))[0]


def _open(folder: str) -> Any:
    try:
        import rocksdict
    except ImportError as error:
        raise ConfigError(
            'config state_backend = "disk" needs RocksDB, which is not installed',
            hint="pip install raystream[disk], here and on every node",
        ) from error
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(1)
    blocks = rocksdict.BlockBasedOptions()
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    options.set_block_based_table_factory(blocks)
    rows = rocksdict.Rdict(folder, options)
    unlogged = rocksdict.WriteOptions()
    unlogged.disable_wal = True
    rows.set_write_options(unlogged)
    return rows


def write_batch() -> Any:
    """Make an empty batch of writes."""
    import rocksdict

    return rocksdict.WriteBatch(raw_mode=True)


def _remove(rows: Any, folder: str) -> None:
    rows.close()
    remove_folder(folder)
