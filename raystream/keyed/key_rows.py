"""State of Python objects as a section: one row a key, with the pickled value beside it."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from raystream.keyed.key_form import KeyForm, pickled
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section

_VALUE = "pickled"


def key_rows(name: str, items: Iterable[tuple[Hashable, Any]], max_parallelism: int) -> Section:
    """Keep values by canonical key; pickled at once, so that they may change afterwards."""
    pairs = list(items)
    columns, hashes = KeyForm.objects().write([key for key, _ in pairs])
    columns[_VALUE] = pa.array(pickled([value for _, value in pairs]), pa.large_binary())
    return keyed_section(name, pa.table(columns), hashes, max_parallelism)


def read_key_rows(snapshot: Snapshot, name: str) -> Iterator[tuple[Hashable, Any]]:
    """Give what ``key_rows`` had kept, in order of key groups."""
    table = section(snapshot, name)
    if table is not None:
        ids, _ = KeyForm.objects().read(table)
        yield from zip(ids, map(pickle.loads, table.column(_VALUE).to_pylist()), strict=True)
