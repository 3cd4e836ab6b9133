"""Measure what the rows that wait cost an interval join: rows per CPU second against rows in state.

``python tests/bench/interval_join.py`` drives the operator alone, for each kind of join, with so
many rows waiting that a row finds about one partner; then with a few hot keys among them. Rows come
nearly in order of time, from both sides in turn, and a watermark behind each pair of batches.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.operators.interval_join import IntervalJoin, IntervalJoinSpec
from raystream.operators.join_plan import JoinPlan

PLAIN = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("w", pa.float64())])
WIRE = wire_schema(PLAIN, timed=True)
TICKS = 10
"""Microseconds from row to row."""


def spec(how: str, reach_us: int) -> IntervalJoinSpec:
    """Make a join of rows that lie at most so far apart."""
    kept = () if how in ("semi", "anti") else (("v", "v_right"), ("w", "w_right"))
    fields = [*PLAIN, *(PLAIN.field(name).with_name(output) for name, output in kept)]
    output = wire_schema(pa.schema(fields), timed=True)
    plan = JoinPlan(how, WIRE, WIRE, ("k",), ("k",), (pa.int64(),), kept, output)
    return IntervalJoinSpec(plan, -reach_us, reach_us)


def batches(
    waiting: int, size: int, hot: float, seed: int
) -> Iterator[tuple[Columns, Columns, int]]:
    """Give pairs of batches and the watermark behind them, without end."""
    rng = np.random.default_rng(seed)
    start = 0
    while True:
        pair = []
        for _ in range(2):
            keys = rng.integers(0, max(waiting // 2, 1), size)
            # So many hot keys that one of their rows finds a hundred partners.
            keys = np.where(
                rng.random(size) < hot, -1 - keys % max(int(waiting * hot) // 100, 1), keys
            )
            late = rng.integers(0, 20 * TICKS, size)
            times = (start + np.arange(size)) * TICKS - late
            columns = [keys, rng.integers(0, 99, size), rng.random(size), times]
            pair.append(
                Columns(pa.RecordBatch.from_arrays(list(map(pa.array, columns)), schema=WIRE))
            )
        start += size
        yield pair[0], pair[1], (start - 20) * TICKS - 1


def measure(how: str, waiting: int, size: int, hot: float, rows: int) -> tuple[float, float, int]:
    """Give rows in and out a CPU second, and the longest time without an output, in ms."""
    operator = spec(how, waiting // 2 * TICKS).build()
    assert isinstance(operator, IntervalJoin)
    operator.open(OpenContext("join"))
    out = pause = seconds = 0.0
    begun, measured, told = False, 0, 0
    for left, right, watermark_us in batches(waiting, size, hot, 7):
        if not begun and told >= 3 * waiting:
            begun = True
        for outs in (
            operator.on_batch(0, left),
            operator.on_batch(1, right),
            operator.on_watermark(watermark_us),
        ):
            last = time.process_time()
            while (given := next(outs, None)) is not None:
                now = time.process_time()
                if begun:
                    out, pause, seconds = (
                        out + given.num_rows,
                        max(pause, now - last),
                        seconds + now - last,
                    )
                del given
                last = time.process_time()
            if begun:
                now = time.process_time()
                pause, seconds = max(pause, now - last), seconds + now - last
        told += 2 * size
        measured += 2 * size if begun else 0
        if measured >= rows:
            break
    return measured / seconds, out / seconds, round(1_000 * pause)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["inner", "full", "semi"])
    parser.add_argument("--waiting", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=8_192)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--hot", type=float, nargs="*", default=[0.0, 0.1])
    args = parser.parse_args()
    print(f"{'kind':8}{'hot':>6}{'waiting':>11}{'rows/s':>12}{'out/s':>12}{'pause ms':>10}")
    for how in args.kinds:
        for hot in args.hot:
            for waiting in args.waiting:
                rate, out, pause = measure(how, waiting, args.batch, hot, args.rows)
                print(f"{how:8}{hot:6}{waiting:11,}{rate:12,.0f}{out:12,.0f}{pause:10}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory {peak:,} MB")


if __name__ == "__main__":
    main()
