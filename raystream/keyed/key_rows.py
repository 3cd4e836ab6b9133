"""State of Python objects as a section: one row a key, with the pickled value beside it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from raystream.flow.hashing import UInt64s
from raystream.keyed.key_form import KeyForm, pickled
from raystream.keyed.snapshot import GONE, Section, Snapshot, keyed_section, section
from raystream.keyed.touched import Lineage, TouchedKeys

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
    table, hashes = _written(form, [key for key, _ in pairs], [value for _, value in pairs])
    return keyed_section(name, table, hashes, max_parallelism, form.names)


class ChangedRows:
    """A section of ``key_rows`` that is given whole, or as what changed; ``mark`` what does."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._touched, self._lineage = TouchedKeys(), Lineage()
        self.mark = self._touched.mark

    def section(
        self,
        held: Mapping[Hashable, Any],
        row: Callable[[Hashable], Any],
        max_parallelism: int,
        form: KeyForm = OBJECTS,
    ) -> Section:
        """Give what changed since the last call; ``row`` says what is kept of a key of ``held``."""
        touched = self._touched.take()
        if touched is None or self._lineage.wants_whole(len(touched)):
            items = ((key, row(key)) for key in held)
            return self._lineage.given(key_rows(self._name, items, max_parallelism, form))
        keys = list(touched)
        gone = [key not in held for key in keys]
        values = [None if no else row(key) for key, no in zip(keys, gone, strict=True)]
        table, hashes = _written(form, keys, values)
        table = table.append_column(GONE, pa.array(gone, pa.bool_()))
        made = keyed_section(self._name, table, hashes, max_parallelism, form.names, delta=True)
        return self._lineage.given(made)


def _written(form: KeyForm, keys: list[Any], values: list[Any]) -> tuple[pa.Table, UInt64s]:
    columns, hashes = form.write(keys)
    columns[_VALUE] = pa.array(pickled(values), pa.large_binary())
    return pa.table(columns), hashes


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
