"""A conformance case as a whole job: a story over a channel, the operator, a sink behind it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from conformance import TIGHT, Case, Row, is_batch, plain_rows, to_batch, written
from plans import KeepingSink

from raystream.clock import ManualClock
from raystream.contracts.source import END, Reader, Source, Split
from raystream.flow.batch import Columns, Objects, with_times
from raystream.flow.changes import OP_FIELD, OPS
from raystream.flow.element import MAX_TIME, Watermark
from raystream.flow.exchange import Exchange, Hash, ToOne
from raystream.graph.physical import Chain, ChainNode, Edge, PhysicalPlan
from raystream.operators.operator import Operator
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.runtime import local


class Numbers(Source):
    """Gives 0, 1, 2 … one at a time: the places of a story."""

    def __init__(self, count: int) -> None:
        self._count = count

    def splits(self) -> list[Split]:
        return [Split("only", self._count)]

    def open(self, split: Split, position: Any) -> Reader:
        return _Counting(split.payload)


class _Counting(Reader):
    def __init__(self, count: int) -> None:
        self._left = list(range(count))

    def poll(self, max_rows: int) -> Any:
        return [self._left.pop(0)] if self._left else END

    def position(self) -> Any:
        return len(self._left)


@dataclass(frozen=True)
class Telling:
    """Tells what stands at a place of a story: a batch, or a watermark."""

    case: Case
    verb: str = "tell"

    def describe(self) -> str:
        return self.case.name

    def build(self) -> Any:
        return _Telling(self.case)


class _Telling(Operator):
    def __init__(self, case: Case) -> None:
        self._case = case

    def open(self, ctx: Any) -> None:
        pass

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        for place in batch.values:
            item = self._case.story[place]
            yield to_batch(self._case, item) if is_batch(item) else Watermark(item)

    def on_watermark(self, time_us: int) -> Iterator[Any]:
        return iter(())

    def output_watermark(self, time_us: int) -> int | None:
        return time_us if time_us == MAX_TIME else None

    def on_end(self) -> Iterator[Any]:
        return iter(())

    def close(self) -> None:
        pass


def job(case: Case, sink: KeepingSink, parallelism: int) -> PhysicalPlan:
    """Lay out a case: story, exchange, operator, exchange, sink; a source is read where it is."""
    spec = case.spec()
    reads, writes = isinstance(spec, SourceSpec), isinstance(spec, SinkSpec)
    if writes:
        spec = SinkSpec(sink, "it", "")
    divided: Exchange = ToOne() if parallelism == 1 else Hash(case.keys or ())
    numbers = SourceSpec(Numbers(len(case.story)), None, None, "numbers", "", timed=False)
    told = (
        ChainNode("numbers", "numbers", numbers, None, children=(1,)),
        ChainNode("told", "told", Telling(case), case.input, outputs=(0,)),
    )
    outputs = () if writes else (1,)
    it = ChainNode("it", "it", spec, case.output, outputs=outputs, on_error=case.on_error)
    written_to = ChainNode("out", "out", SinkSpec(sink, "out", ""), case.output)
    chains = [
        Chain("told", told, 1),
        Chain("it", (it,), parallelism),
        Chain("out", (written_to,), 1),
    ]
    edges = [
        Edge(0, "told", "it", 0, divided, case.input),
        Edge(1, "it", "out", 0, ToOne(), case.output),
    ]
    return PhysicalPlan(
        "case",
        tuple(chains[reads : 2 if writes else 3]),
        tuple(edges[reads : 1 if writes else 2]),
        limits=TIGHT,
    )


def run(case: Case, seed: int, parallelism: int) -> list[Row]:
    """Run a case in one process, everything that may happen in an order of the seed's choosing."""
    sink, clock = KeepingSink(), ManualClock()

    def sleep(seconds: float) -> None:
        assert seconds > 0, "nothing to do and no reason to wait: a busy loop"
        clock.advance(int(seconds * 1e6))

    plan = job(case, sink, parallelism)
    local.run(plan, clock=clock, sleep=sleep, rng=random.Random(seed))
    if case.shown is plain_rows or case.output is None:
        return [row for _, batch in sink.batches for row in written(batch)]
    return [row for _, batch in sink.batches for row in case.shown(_on_the_wire(batch))]


def _on_the_wire(batch: Any) -> Columns | Objects:
    rows = batch.rows
    if batch.ops is not None:
        codes = pa.array([OPS.index(op) for op in batch.ops], pa.int8())
        rows = rows.append_column(OP_FIELD, codes)
    return with_times(rows, batch.timestamps)
