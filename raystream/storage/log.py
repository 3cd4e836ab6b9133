"""The job's log in its root: ``log/<number>.json``, each created exclusively, none rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from typing_extensions import assert_never

from raystream.flow.snapshots import Entry
from raystream.storage.documents import read_entry, write_entry
from raystream.storage.store import Created, Exists, Store


@dataclass(frozen=True, slots=True)
class Written:
    """The entry is in the log, and ours."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Its number has another entry."""

    entry: Entry


Outcome: TypeAlias = Written | Taken


def path_of(number: int) -> str:
    """Give the name of an entry."""
    return f"log/{number:010d}.json"


def read_log(store: Store) -> tuple[tuple[tuple[int, Entry], ...], int]:
    """Read all entries with their numbers, and give the number of the next one.

    Numbers have gaps where checkpoints are no longer kept.
    Raises: StorageError; CorruptSnapshot.
    """
    entries = []
    for path in store.list("log"):
        content = store.get(path)
        if content is not None:  # else it went since it was listed
            number = int(path.removeprefix("log/").removesuffix(".json"))
            entries.append((number, read_entry(content, f"{store.url}/{path}")))
    entries.sort(key=lambda one: one[0])
    return tuple(entries), entries[-1][0] + 1 if entries else 1


def append(store: Store, number: int, entry: Entry) -> Outcome:
    """Write an entry, unless somebody has written that number.

    An entry with our own bytes is ours: the reply to it was lost.
    """
    content, path = write_entry(entry), path_of(number)
    outcome = store.create(path, content)
    match outcome:
        case Created():
            return Written()
        case Exists(there):
            if there == content:
                return Written()
            return Taken(read_entry(there, f"{store.url}/{path}"))
        case _:
            assert_never(outcome)
