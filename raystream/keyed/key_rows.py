"""State of Python objects as a section: one row a key, with the pickled value beside it."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from raystream.keyed.key_form import KeyForm, pickled
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section

_VALUE = "pickled"


OBJECTS = KeyForm.objects()
"""Keys of streams of Python objects."""


def key_rows(
    name: str,
    items: Iterable[tuple[Hashable, Any]],
    max_parallelism: int,
    form: KeyForm = OBJECTS,
) -> Section:
    """Keep values by canonical key; pickled at once, so that they may change afterwards."""
    pairs = list(items)
    columns, hashes = form.write([key for key, _ in pairs])
    columns[_VALUE] = pa.array(pickled([value for _, value in pairs]), pa.large_binary())
    return keyed_section(name, pa.table(columns), hashes, max_parallelism)


def read_key_rows(
    snapshot: Snapshot, name: str, form: KeyForm = OBJECTS
) -> Iterator[tuple[Hashable, Any]]:
    """Give what ``key_rows`` had kept, in order of key groups."""
    table = section(snapshot, name)
    if table is not None:
        ids, _ = form.read(table)
        yield from zip(ids, map(pickle.loads, table.column(_VALUE).to_pylist()), strict=True)


def form_of(snapshot: Snapshot, name: str) -> KeyForm | None:
    """Give the form of keys that were columns; None where there is no such section."""
    table = section(snapshot, name)
    if table is None:
        return None
    return KeyForm(tuple(field for field in table.schema if field.name != _VALUE))
