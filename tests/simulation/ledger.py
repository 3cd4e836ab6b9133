"""A sink that commits, outside the engine: what is visible, and what was done wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from raystream.contracts.sink import Sink, Writer


class Wrong(AssertionError):
    """A sink was treated as no sink must be."""


class Ledger:
    """The system behind a sink: transactions, and what they have made visible, for ever.

    ``wanted`` is what may ever become visible; ``durable`` tells the newest checkpoint that is.
    Whatever is done wrong is noted, too: an engine may take an error for a sink's bad day.
    """

    def __init__(self, wanted: Counter[str] | None = None) -> None:
        self.prepared: dict[int, list[Any]] = {}
        self.visible: dict[int, list[Any]] = {}
        self.aborted: set[int] = set()
        self.wrongs: list[str] = []
        self.rows: Counter[str] = Counter()
        self.durable: Callable[[], int] | None = None
        self.failing = 0.0
        self.failures_left = 4
        self.rng = random.Random(0)
        self.commits: dict[int, list[int]] = {}
        self._wanted = wanted
        self._next = 0

    def prepare(self, rows: list[Any]) -> int:
        self._next += 1
        self.prepared[self._next] = rows
        return self._next

    def commit(self, checkpoint_id: int, token: int) -> None:
        if token in self.aborted:
            self._wrong(f"transaction {token} was thrown away, and is to be committed now")
        if self.durable is not None and self.durable() < checkpoint_id:
            self._wrong(f"checkpoint {checkpoint_id} is committed, and is not durable")
        if token not in self.visible:
            self.visible[token] = self.prepared[token]
            self._show(Counter(map(repr, self.prepared[token])))
        if self.failures_left and self.rng.random() < self.failing:
            self.failures_left -= 1
            raise OSError("the reply was lost")

    def abort(self, token: int) -> None:
        if token in self.visible:
            self._wrong(f"transaction {token} is visible, and is to be thrown away now")
        self.aborted.add(token)

    def whole(self, checkpoint_id: int, tokens: list[int]) -> None:
        """Take a commit of a sink that has one for all subtasks: it is the same each time."""
        before = self.commits.setdefault(checkpoint_id, sorted(tokens))
        if before != sorted(tokens):
            self._wrong(f"checkpoint {checkpoint_id} is committed twice, and differently")

    @property
    def open(self) -> set[int]:
        """The transactions that are neither visible nor thrown away."""
        return self.prepared.keys() - self.visible.keys() - self.aborted

    def _show(self, rows: Counter[str]) -> None:
        self.rows += rows
        if self._wanted is not None:
            extra = [row for row in rows if self.rows[row] > self._wanted[row]]
            if extra:
                self._wrong(f"visible too often: {extra[:5]}")

    def _wrong(self, what: str) -> None:
        self.wrongs.append(what)
        raise Wrong(what)


class LedgerSink(Sink):
    """Writes into a ledger that outlives every attempt; ``whole``: one commit for all subtasks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def open(self, ctx: Any) -> Writer:
        return _LedgerWriter(self.ledger)

    def commit(self, checkpoint_id: int, committables: Any) -> None:
        for token in committables:
            self.ledger.commit(checkpoint_id, token)

    def abort(self, committables: Any) -> None:
        for token in committables:
            self.ledger.abort(token)

    def __deepcopy__(self, memo: Any) -> LedgerSink:
        return self


class WholeSink(LedgerSink):
    """The same with one commit for all subtasks."""

    global_commit = True

    def commit(self, checkpoint_id: int, committables: Any) -> None:
        self.ledger.whole(checkpoint_id, list(committables))
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
