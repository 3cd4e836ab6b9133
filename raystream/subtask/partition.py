"""Divide batches among the subtasks that take them: one vectorised pass, no loop over rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from operator import index
from typing import Any, Protocol

import numpy as np
from typing_extensions import assert_never

from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.exchange import (
    Broadcast,
    Custom,
    Exchange,
    Forward,
    Hash,
    Rebalance,
    Shuffle,
    ToOne,
)
from raystream.flow.hashing import hash_columns, hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.operators import guard
from raystream.operators.pyrows import to_rows

Share = tuple[int, Batch]
"""A downstream index, and the rows that go there."""


class Partitioner(Protocol):
    """Decides for each row of a batch where it goes."""

    def divide(self, batch: Batch) -> Iterator[Share]:
        """Give each destination its rows, in their order."""


def partitioner(
    exchange: Exchange,
    *,
    upstream: int,
    parallelism_up: int,
    parallelism_down: int,
    max_parallelism: int,
) -> Partitioner:
    """Make what divides the output of one upstream subtask over one edge."""
    if parallelism_down == 1 and not isinstance(exchange, Broadcast):
        return _Whole(0)
    match exchange:
        case Forward():
            return _Whole(upstream)
        case ToOne():
            return _Whole(0)
        case Hash(columns):
            return _ByKey(columns, parallelism_down, max_parallelism)
        case Rebalance(local=True):
            return _RoundRobin(local_group(upstream, parallelism_up, parallelism_down), upstream)
        case Rebalance():
            return _RoundRobin(range(parallelism_down), upstream)
        case Shuffle():
            return _Random(parallelism_down, upstream)
        case Broadcast():
            return _Everywhere(parallelism_down)
        case Custom():
            return _ByFunction(exchange, parallelism_down)
        case _:
            assert_never(exchange)


def local_group(upstream: int, parallelism_up: int, parallelism_down: int) -> range:
    """Give the downstream subtasks that one upstream subtask rebalances over, locally.

    Every downstream subtask is in the group of at least one upstream subtask.
    """
    if parallelism_up >= parallelism_down:
        start = upstream * parallelism_down // parallelism_up
        return range(start, start + 1)
    start = upstream * parallelism_down // parallelism_up
    return range(start, (upstream + 1) * parallelism_down // parallelism_up)


def divide_by(batch: Batch, destinations: Int64s, parallelism: int) -> Iterator[Share]:
    """Divide rows by their destinations: one stable sort, one take, slices.

    Shapes: batch [n], destinations int64 [n].
    """
    counts = np.bincount(destinations, minlength=parallelism)
    only = np.flatnonzero(counts)
    if len(only) == 1:
        yield int(only[0]), batch
        return
    # Stable sorts of small unsigned integers are radix sorts.
    small = destinations.astype(np.uint16 if parallelism > 256 else np.uint8)
    order = np.argsort(small, kind="stable")
    ordered = batch.take(order)
    start = 0
    for destination, count in enumerate(counts.tolist()):
        if count:
            yield destination, ordered.slice(start, count)
            start += count


class _Whole:
    def __init__(self, destination: int) -> None:
        self._destination = destination

    def divide(self, batch: Batch) -> Iterator[Share]:
        yield self._destination, batch


class _Everywhere:
    def __init__(self, parallelism: int) -> None:
        self._parallelism = parallelism

    def divide(self, batch: Batch) -> Iterator[Share]:
        for destination in range(self._parallelism):
            yield destination, batch


class _ByKey:
    def __init__(self, columns: tuple[str, ...], parallelism: int, max_parallelism: int) -> None:
        self._columns = columns
        self._parallelism = parallelism
        self._max_parallelism = max_parallelism

    def divide(self, batch: Batch) -> Iterator[Share]:
        if isinstance(batch, Columns):
            hashes = hash_columns([batch.record.column(name) for name in self._columns])
        else:
            assert batch.keys is not None, "a keyed object stream carries its keys"
            hashes = hash_objects(batch.keys)
        groups = key_groups(hashes, self._max_parallelism)
        destinations = subtask_of(groups, self._parallelism, self._max_parallelism)
        return divide_by(batch, destinations, self._parallelism)


class _RoundRobin:
    """Rows in turn, going on where the last batch stopped; each upstream starts elsewhere."""

    def __init__(self, group: range, upstream: int) -> None:
        self._group = group
        self._next = upstream

    def divide(self, batch: Batch) -> Iterator[Share]:
        size = len(self._group)
        turns = (np.arange(batch.num_rows, dtype=np.int64) + self._next) % size
        self._next = (self._next + batch.num_rows) % size
        return divide_by(batch, turns + self._group.start, self._group.stop)


class _Random:
    """Each row at random, by a seed of its own: runs can be repeated."""

    def __init__(self, parallelism: int, upstream: int) -> None:
        self._parallelism = parallelism
        self._generator = np.random.default_rng(random.Random(upstream).getrandbits(64))  # noqa: S311

    def divide(self, batch: Batch) -> Iterator[Share]:
        chosen = self._generator.integers(0, self._parallelism, batch.num_rows, dtype=np.int64)
        return divide_by(batch, chosen, self._parallelism)


class _ByFunction:
    def __init__(self, exchange: Custom, parallelism: int) -> None:
        self._exchange = exchange
        self._parallelism = parallelism

    def divide(self, batch: Batch) -> Iterator[Share]:
        rows = to_rows(batch.visible) if isinstance(batch, Columns) else batch.values
        exchange = self._exchange
        # The user's function sees rows: there is no column to compute the destination from.
        values = guard.call_each(
            self._chosen, rows, operator=exchange.operator, where=exchange.where
        )
        chosen = np.fromiter(values, dtype=np.int64, count=len(rows))
        return divide_by(batch, chosen, self._parallelism)

    def _chosen(self, row: Any) -> int:
        # Any int, however large; a float or None is the user's mistake, told with the row.
        return index(self._exchange.function(row)) % self._parallelism
