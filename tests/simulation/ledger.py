"""A sink that commits, outside the engine: what is visible, and what was done wrong."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from raystream.contracts.sink import Sink, Writer


class Wrong(AssertionError):
    """A sink was treated as no sink must be."""


class Ledger:
    """The system behind a sink: transactions, and what they have made visible, for ever."""

    def __init__(self) -> None:
        self.prepared: dict[int, list[Any]] = {}
        self.visible: dict[int, list[Any]] = {}
        self.aborted: set[int] = set()
        self.failing = 0.0
        self.failures_left = 4
        self.rng = random.Random(0)
        self._next = 0

    def prepare(self, rows: list[Any]) -> int:
        self._next += 1
        self.prepared[self._next] = rows
        return self._next

    def commit(self, token: int) -> None:
        if token in self.aborted:
            raise Wrong(f"transaction {token} was thrown away, and is to be committed now")
        self.visible[token] = self.prepared[token]
        if self.failures_left and self.rng.random() < self.failing:
            self.failures_left -= 1
            raise OSError("the reply was lost")

    def abort(self, token: int) -> None:
        if token in self.visible:
            raise Wrong(f"transaction {token} is visible, and is to be thrown away now")
        self.aborted.add(token)

    @property
    def rows(self) -> Counter[str]:
        """What is visible, as a multiset."""
        return Counter(repr(row) for rows in self.visible.values() for row in rows)


class LedgerSink(Sink):
    """Writes into a ledger that outlives every attempt; ``whole``: one commit for all subtasks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def open(self, ctx: Any) -> Writer:
        return _LedgerWriter(self.ledger)

    def commit(self, checkpoint_id: int, committables: Any) -> None:
        for token in committables:
            self.ledger.commit(token)

    def abort(self, committables: Any) -> None:
        for token in committables:
            self.ledger.abort(token)

    def __deepcopy__(self, memo: Any) -> LedgerSink:
        return self


class WholeSink(LedgerSink):
    """The same with one commit for all subtasks."""

    global_commit = True

    def commit(self, checkpoint_id: int, committables: Any) -> None:
        seen = self.ledger.__dict__.setdefault("commits", {})
        before = seen.setdefault(checkpoint_id, sorted(committables))
        if before != sorted(committables):
            raise Wrong(f"checkpoint {checkpoint_id} is committed twice, and differently")
        super().commit(checkpoint_id, committables)


class _LedgerWriter(Writer):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: list[Any] = []

    def write(self, batch: Any) -> None:
        self._rows += batch.rows if isinstance(batch.rows, list) else to_rows_of(batch.rows)

    def prepare_commit(self, checkpoint_id: int) -> list[int]:
        if not self._rows:
            return []
        rows, self._rows = self._rows, []
        return [self._ledger.prepare(rows)]


def to_rows_of(record: Any) -> list[Any]:
    return record.to_pylist()
