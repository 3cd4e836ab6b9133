"""A sink that commits, and keeps the changes that were committed, one checkpoint after another."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa

import raystream as rs
from raystream.connectors.memory import TableSink


class Ledger(rs.Sink):
    """Keeps what was committed. Guarantee: exactly once."""

    upserts = True

    def __init__(self) -> None:
        self._pages: dict[str, list[rs.Batch]] = {}

    def open(self, ctx: Any) -> rs.Writer:
        return _Page()

    def commit(self, checkpoint_id: int, committables: list[Any]) -> None:
        for name, batches in committables:
            self._pages.setdefault(name, batches)

    def abort(self, committables: list[Any]) -> None:
        """Let go of what was never written here."""

    @property
    def rows(self) -> list[Any]:
        """Give the rows, one commit after another."""
        return [row for batches in self._pages.values() for batch in batches for row in batch]

    def table(self, key: tuple[str, ...]) -> pa.Table:
        """Give the table that the changes end in; those of a key are in order."""
        sink = TableSink(key)
        for batches in self._pages.values():
            for batch in batches:
                sink.receive(batch)
        return sink.table()


class _Page(rs.Writer):
    def __init__(self) -> None:
        self._batches: list[rs.Batch] = []

    def write(self, batch: rs.Batch) -> None:
        self._batches.append(batch)

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        batches, self._batches = self._batches, []
        return [(uuid.uuid4().hex, batches)] if batches else []
