"""Nexmark's auction house, made up: the stream of persons, auctions and bids of the benchmark."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raystream.config import Limits
from raystream.connectors.nexmark_events import (
    BYTES,
    EPOCH_EVENTS,
    FIRST_OFFSET,
    PER_EPOCH,
    SCHEMAS,
    Events,
    columns_of,
    event_times,
)
from raystream.connectors.seeded import Blocks
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import PlanError

_BLOCK_EPOCHS = 80
_BLOCK_EVENTS = _BLOCK_EPOCHS * EPOCH_EVENTS
_STRIPE_BLOCKS = 8
_STRIPE_EVENTS = _STRIPE_BLOCKS * _BLOCK_EVENTS
"""Events that a split gives in one go, about a batch: time then passes in order over all splits."""
_SPLITS_MAX = 8
_EVENTS_MAX = 10**12
"""More would not fit the arithmetic of event times."""

ALL_KINDS = pa.schema(
    [("event_type", pa.int32()), *((kind, pa.struct(list(SCHEMAS[kind]))) for kind in SCHEMAS)]
)


class NexmarkSource(Source):
    """Make up ``events`` events of Nexmark; ``kind`` keeps one kind of them.

    Guarantee: exactly once; an event is a function of ``seed`` and its number, so any reader can
    make it again.

    In each 50 events come one person, three auctions and 46 bids. ``rate`` is events of all kinds a
    second of event time, from 2015-07-15 on, in order; nothing is throttled. Without ``kind`` a row
    is an event: ``event_type`` (0 person, 1 auction, 2 bid) and three structs, two of them null.

    Raises: PlanError for a kind, rate or number of events that cannot be.
    """

    def __init__(
        self,
        events: int,
        rate: int = 10_000,
        seed: int = 0,
        kind: Literal["bid", "auction", "person"] | None = None,
    ) -> None:
        if not 0 <= events <= _EVENTS_MAX:
            raise PlanError(f"events must be 0 to {_EVENTS_MAX:,}, got {events!r}")
        if rate < 1:
            raise PlanError(f"rate must be at least 1 event a second, got {rate!r}")
        if kind is not None and kind not in SCHEMAS:
            raise PlanError(f'kind is "bid", "auction", "person" or None, got {kind!r}')
        events = int(events)
        self._events, self._rate, self._seed, self._kind = events, int(rate), int(seed), kind
        self._all = ALL_KINDS if kind is None else SCHEMAS[kind]
        self.schema: pa.Schema = self._all
        splits = min(max(events // _STRIPE_EVENTS, 1), _SPLITS_MAX)
        self._blocks = Blocks(events, _STRIPE_EVENTS, splits)

    def splits(self) -> Sequence[Split]:
        first = FIRST_OFFSET.get(self._kind or "", 0)
        ids = np.arange(self._blocks.count, dtype=np.int64) * _STRIPE_EVENTS + first
        times = event_times(ids, self._rate).tolist()
        known = self._kind is not None
        return [
            self._blocks.split(index, {"dateTime": times[index]} if known else {})
            for index in range(self._blocks.count)
        ]

    def open(self, split: Split, position: Any) -> Reader:
        return _NexmarkReader(self, int(split.payload), 0 if position is None else int(position))

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that makes only these columns; of none, the cheapest."""
        wanted = set(columns) & set(self.schema.names)
        kept = [name for name in self.schema.names if name in wanted] or self.schema.names[:1]
        narrow = copy.copy(self)
        narrow.schema = pa.schema([self.schema.field(name) for name in kept])
        return narrow

    def describe(self) -> str:
        kind = f", {self._kind}" if self._kind else ""
        columns = f" [{', '.join(self.schema.names)}]" if self.schema != self._all else ""
        return f"NexmarkSource({self._events:,} events, {self._rate:,}/s{kind}){columns}"

    @property
    def rows_a_block(self) -> int:
        """Rows that a block of events gives."""
        return _BLOCK_EVENTS if self._kind is None else _BLOCK_EPOCHS * PER_EPOCH[self._kind]

    def rows_of(self, split: int) -> int:
        """Rows of a split: of its whole blocks, and of the one that the last event cuts off."""
        events = self._blocks.rows_of(split)
        assert events is not None, "Nexmark ends"
        if self._kind is None:
            return events
        epochs, rest = divmod(events, EPOCH_EVENTS)
        per = PER_EPOCH[self._kind]
        return epochs * per + min(max(rest - FIRST_OFFSET[self._kind], 0), per)

    def make(self, split: int, first: int, count: int) -> pa.RecordBatch:
        """Make all rows of blocks ``first`` to ``first + count`` of a split."""
        stripes, within = np.divmod(np.arange(first, first + count), _STRIPE_BLOCKS)
        blocks = (stripes * self._blocks.count + split) * _STRIPE_BLOCKS + within
        if self._kind is not None:
            columns = columns_of(self._of_kind(self._kind, blocks))
            arrays = [columns[name]() for name in self.schema.names]
        else:
            arrays = [self._all_kinds(name, blocks) for name in self.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _of_kind(self, kind: str, blocks: np.ndarray[Any, np.dtype[np.int64]]) -> Events:
        return Events(kind, self._seed, self._rate, blocks, _BLOCK_EPOCHS)

    def _all_kinds(self, name: str, blocks: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
        epochs = len(blocks) * _BLOCK_EPOCHS
        if name == "event_type":
            kinds = np.repeat(np.arange(3, dtype=np.int32), [PER_EPOCH[kind] for kind in SCHEMAS])
            return pa.array(np.tile(kinds, epochs))
        columns = columns_of(self._of_kind(name, blocks))
        fields = list(SCHEMAS[name])
        rows = pa.StructArray.from_arrays([columns[f.name]() for f in fields], fields=fields)
        # Which row of this kind stands at an event; events of other kinds have none.
        first, per = FIRST_OFFSET[name], PER_EPOCH[name]
        index = np.zeros((epochs, EPOCH_EVENTS), dtype=np.int64)
        index[:, first : first + per] = np.arange(epochs * per).reshape(epochs, per)
        missing = np.ones(EPOCH_EVENTS, dtype=np.bool_)
        missing[first : first + per] = False
        return rows.take(pa.array(index.reshape(-1), mask=np.tile(missing, epochs)))


class _NexmarkReader(Reader):
    """Makes whole blocks and gives their rows; its position is the number of rows given."""

    def __init__(self, source: NexmarkSource, split: int, position: int) -> None:
        self._source = source
        self._split = split
        self._position = position
        self._rows = source.rows_of(split)
        self._left: pa.RecordBatch | None = None

    def poll(self, max_rows: int) -> Polled:
        if self._position >= self._rows:
            return END
        if self._left is None:
            self._left = self._make(max_rows)
        count = min(max_rows, self._left.num_rows)
        given = self._left.slice(0, count)
        self._left = self._left.slice(count) if count < self._left.num_rows else None
        self._position += count
        return given

    def position(self) -> int:
        return self._position

    def _make(self, max_rows: int) -> pa.RecordBatch:
        a_block = self._source.rows_a_block
        first, given = divmod(self._position, a_block)
        blocks = max(1, min(max_rows, _ROWS_MAX) // a_block)
        blocks = min(blocks, (self._rows - 1) // a_block - first + 1)
        rows = min(blocks * a_block - given, self._rows - self._position)
        return self._source.make(self._split, first, blocks).slice(given, rows)


_ROWS_MAX = Limits().poll_bytes_target // max(BYTES.values())
"""Rows of the widest kind that make a batch of the size aimed at."""
