"""A job's log: who may write, and which checkpoints are complete.

Each entry is created exclusively under the number behind the last one that was read. So of two
coordinators that believe in themselves one is told what the other wrote, and knows that it is over.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from raystream.flow.snapshots import Entry
from raystream.storage.codec import decode_entry, encode_entry
from raystream.storage.layout import LOG, log_number, log_path
from raystream.storage.store import Created, Exists, Missing, Store, joined

READS_AT_ONCE = 8
"""Entries read at the same time: a log of months has hundreds, and a store answers in 20 ms."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """One entry under its number."""

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Log:
    """What a log held when it was read, oldest first; numbers of pruned entries are left out."""

    entries: tuple[Numbered, ...]
    next_number: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The entry is in the log."""


@dataclass(frozen=True, slots=True)
class Outrun:
    """Somebody else's entry has the number; nothing was written."""

    entry: Entry


Append: TypeAlias = Appended | Outrun
"""What became of an entry that was to be appended."""


def read_log(store: Store) -> Log:
    """Read the log of the job whose root is ``store``.

    Raises: StorageError; CorruptSnapshot if an entry cannot be read.
    """
    listed = (log_number(name) for name in store.list(LOG))
    numbers = sorted(number for number in listed if number is not None)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        found = list(pool.map(lambda number: _read(store, number), numbers))
    # An entry that was listed and is gone was pruned meanwhile.
    entries = tuple(one for one in found if one is not None)
    return Log(entries, numbers[-1] + 1 if numbers else 0)


def append(store: Store, number: int, entry: Entry) -> Append:
    """Write an entry under ``number``, the one behind the last that was read or appended.

    To be repeated with the same number and entry where it raises StorageError: whether the first
    try was heard does not matter.
    Raises: StorageError; CorruptSnapshot if the entry that is there cannot be read.
    """
    data = encode_entry(entry)
    match store.create(log_path(number), data):
        case Created():
            return Appended()
        case Exists(there):
            if there == data:
                return Appended()
            return Outrun(decode_entry(there, joined(store.url, log_path(number))))


def _read(store: Store, number: int) -> Numbered | None:
    data = store.get(log_path(number))
    if isinstance(data, Missing):
        return None
    return Numbered(number, decode_entry(data, joined(store.url, log_path(number))))
