"""Small physical plans for tests: numbered rows in, whatever reaches the sinks out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.config import Limits
from raystream.contracts.batch import Batch
from raystream.contracts.sink import Sink, Writer
from raystream.contracts.source import END, Reader, Source, Split
from raystream.contracts.watermark import WatermarkStrategy
from raystream.flow.batch import Columns, wire_schema
from raystream.flow.exchange import Exchange
from raystream.graph.physical import Chain, ChainNode, Edge, PhysicalPlan
from raystream.operators.operator import Operator
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec

NUMBERS = pa.schema({"split": pa.int64(), "n": pa.int64(), "text": pa.string()})
TIMED = wire_schema(NUMBERS, timed=True)


class NumberReader(Reader):
    def __init__(self, split: int, rows: int, batch: int) -> None:
        self._split, self._rows, self._batch, self._next = split, rows, batch, 0

    def poll(self, max_rows: int) -> Any:
        if self._next >= self._rows:
            return END
        stop = min(self._next + self._batch, self._rows, self._next + max_rows)
        n = np.arange(self._next, stop)
        self._next = stop
        columns = [pa.array([self._split] * len(n)), pa.array(n), pa.array([f"row {i}" for i in n])]
        return pa.RecordBatch.from_arrays(columns, schema=NUMBERS)

    def position(self) -> int:
        return self._next


class NumberSource(Source):
    """``splits`` splits of ``rows`` rows each, ``batch`` at a time; event time is ``n``."""

    schema = NUMBERS

    def __init__(self, splits: int, rows: int, batch: int) -> None:
        self._splits, self._rows, self._batch = splits, rows, batch

    def splits(self) -> list[Split]:
        return [Split(f"s{index}", index) for index in range(self._splits)]

    def open(self, split: Split, position: Any) -> Reader:
        return NumberReader(split.payload, self._rows, self._batch)


class _Writer(Writer):
    def __init__(self, sink: KeepingSink, index: int) -> None:
        self._sink, self._index = sink, index

    def write(self, batch: Batch) -> None:
        self._sink.batches.append((self._index, batch))


class KeepingSink(Sink):
    """Keeps every batch with the subtask that wrote it (in one process only)."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, Batch]] = []

    def open(self, ctx: Any) -> Writer:
        return _Writer(self, ctx.subtask_index)

    @property
    def rows(self) -> list[tuple[int, int, int]]:
        """(subtask, split, n) of every row, in order of arrival."""
        return [
            (index, row["split"], row["n"]) for index, b in self.batches for row in b.to_pylist()
        ]


@dataclass(frozen=True)
class Passing:
    """An operator that passes everything on, and yields each row alone if asked to."""

    by_row: bool = False
    verb: str = field(default="pass")

    def describe(self) -> str:
        return ""

    def build(self) -> _Pass:
        return _Pass(by_row=self.by_row)


class _Pass(Operator):
    def __init__(self, *, by_row: bool) -> None:
        self._by_row = by_row

    def open(self, ctx: Any) -> None:
        pass

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        if not self._by_row:
            yield batch
            return
        for index in range(batch.num_rows):
            yield Columns(pa.record_batch(batch.record.slice(index, 1)))

    def on_watermark(self, time_us: int) -> Iterator[Any]:
        return iter(())

    def output_watermark(self, time_us: int) -> int | None:
        return time_us

    def on_end(self) -> Iterator[Any]:
        return iter(())

    def close(self) -> None:
        pass


def two_chains(
    exchange: Exchange,
    sink: Sink,
    *,
    up: int = 1,
    down: int = 1,
    source: Source | None = None,
    limits: Limits | None = None,
    by_row: bool = False,
) -> PhysicalPlan:
    """A source chain, one exchange, a sink chain."""
    source = source or NumberSource(2 * up, 300, 50)
    read = SourceSpec(source, TIMED, WatermarkStrategy("n"), "read", "test", timed=True)
    chains = (
        Chain(
            "read",
            (
                ChainNode("read", "read", read, TIMED, "test", (1,)),
                ChainNode("pass", "pass", Passing(by_row), TIMED, "test", (), (0,)),
            ),
            up,
        ),
        Chain("write", (ChainNode("w", "w", SinkSpec(sink, "w", "test"), TIMED, "test"),), down),
    )
    edges = (Edge(0, "read", "write", 0, exchange, TIMED),)
    return PhysicalPlan("test", chains, edges, limits=limits or Limits())
