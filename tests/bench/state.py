"""Measure what state costs: rows per CPU second against keys, open windows and open sessions.

``python tests/bench/state.py`` prints, for each operator, its speed with 10^3 keys and how much
slower a row is with more; then the same for windows that are open at once; then the longest time
in which a watermark that fires a million windows lets nothing else happen. The first table is of
operators alone, with rows that lie at random in all open windows. The second is of whole jobs:
Parquet is read, rows are keyed, aggregated and discarded; they come in order of time, and so many
windows are open because the watermark lags: there rows and windows are the same, be they open one
by one or all at once. One process, no Ray. A case runs in a process of its own, so that memory is
its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import raystream as rs
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.graph.planner import physical_plan

BATCH = 32_768
ROW_GROUP = 262_144
_OPEN = (10, 10**3, 10**5)
PLAIN = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("t", pa.int64())])
WIRE = wire_schema(PLAIN, timed=True)
COUNTED = pa.schema([("k", pa.int64()), ("n", pa.int64())])


class Count(rs.KeyedProcessFunction):
    """Count the rows of each key in a state."""

    def open(self, ctx: Any) -> None:
        """Take the state."""
        self.n = ctx.state(rs.ValueState("n", type=pa.int64(), default=0))

    def process(self, row: dict[str, Any], ctx: Any) -> Iterator[dict[str, Any]]:
        """Give the count."""
        n = self.n.value() + 1
        self.n.update(n)
        yield {"k": ctx.key, "n": n}


def tumbling(rows: rs.Stream) -> rs.Stream:
    """Count in windows of a minute."""
    return rows.key_by("k").window(rs.Tumbling("1m")).aggregate(n=rs.count())


def session(rows: rs.Stream) -> rs.Stream:
    """Count in sessions."""
    return rows.key_by("k").window(rs.Session("1s")).aggregate(n=rs.count())


def process(rows: rs.Stream) -> rs.Stream:
    """Count by a function with state."""
    return rows.key_by("k").process(Count(), schema=COUNTED)


def running(rows: rs.Stream) -> rs.Stream:
    """Count as a running aggregate of columns."""
    return rows.key_by("k").aggregate(n=rs.count())


OPERATORS: dict[str, Callable[[rs.Stream], rs.Stream]] = {
    "tumbling": tumbling,
    "session": session,
    "running": running,
    "process": process,
}


def operator_of(build: Callable[[rs.Stream], rs.Stream]) -> Any:
    """Open the last operator of a stream, by itself."""
    watermark = rs.WatermarkStrategy("t")
    stream = build(rs.Job("state").from_items([], schema=PLAIN, watermark=watermark))
    stream.sink(rs.MemorySink())
    plan = physical_plan(stream._tip.draft.plan())
    name = stream._tip.node.name
    nodes = [node for chain in plan.chains for node in chain.nodes if node.name == name]
    operator = nodes[0].spec.build()
    operator.open(OpenContext(name, limits=plan.limits))
    return operator


def batches(count: int, keys: int, spread_us: int) -> Iterator[Columns]:
    """Make rows of random keys, at random times within ``spread_us``."""
    rng = np.random.default_rng(1)
    for _ in range(-(-count // BATCH)):
        times = rng.integers(0, spread_us, BATCH)
        columns = [rng.integers(0, keys, BATCH), rng.integers(0, 100, BATCH), times, times]
        yield Columns(pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=WIRE))


def drive(operator: Any, given: list[Columns]) -> float:
    """Give batches to an operator; CPU seconds."""
    started = time.process_time()
    for batch in given:
        for _ in operator.on_batch(0, batch):
            pass
    return time.process_time() - started


def cost(name: str, keys: int, spread_us: int, rows: int) -> dict[str, float]:
    """Measure the second half of the rows: by then every key has state."""
    operator = operator_of(OPERATORS[name])
    known = max(rows, 2 * keys)
    for batch in batches(known, keys, spread_us):
        drive(operator, [batch])
    given = list(batches(rows, keys, spread_us))
    seconds = drive(operator, given)
    return {"rows_per_cpu_s": rows / seconds, "peak_mb": peak_mb()}


def pause(name: str, keys: int, spread_us: int) -> dict[str, float]:
    """Measure a watermark that fires everything: how long it never stops at a batch."""
    operator = operator_of(OPERATORS[name])
    for batch in batches(2 * keys, keys, spread_us):
        drive(operator, [batch])
    started = since = time.perf_counter()
    longest = fired = 0
    for out in operator.on_watermark(2**62):
        fired += out.num_rows
        longest = max(longest, time.perf_counter() - since)
        since = time.perf_counter()
    return {"windows": fired, "longest_ms": 1e3 * longest, "all_s": time.perf_counter() - started}


class Discarding(rs.Writer):
    """Counts nothing, keeps nothing."""

    def write(self, batch: rs.Batch) -> None:
        """Take a batch and forget it."""


class Discard(rs.Sink):
    """Where rows go that nobody wants."""

    upserts = True

    def open(self, ctx: Any) -> rs.Writer:
        """Make the writer of a subtask."""
        return Discarding()


def write_rows(path: Path, keys: int, spread_us: int, rows: int, session_us: int) -> None:
    """Write rows of random keys in order of time; in sessions of that distance where it is set."""
    rng = np.random.default_rng(1)
    with pq.ParquetWriter(path, PLAIN) as writer:
        for start in range(0, rows, ROW_GROUP):
            count = min(ROW_GROUP, rows - start)
            low, high = (spread_us * place // rows for place in (start, start + count))
            times = np.sort(rng.integers(low, high, count))
            if session_us:
                times = times // session_us * session_us + times % session_us // 20
            columns = [rng.integers(0, keys, count), rng.integers(0, 100, count), times]
            writer.write_table(pa.table([pa.array(c) for c in columns], schema=PLAIN))


def whole(name: str, path: str, lag_us: int) -> dict[str, float]:
    """Run a job in this process, from Parquet to a sink that discards."""
    watermark = rs.WatermarkStrategy("t", out_of_orderness=timedelta(microseconds=lag_us))

    def job(source: rs.Source) -> rs.Job:
        job = rs.Job("state", runtime="local", parallelism=1)
        OPERATORS[name](job.source(source, watermark=watermark)).sink(Discard())
        return job

    few = Path(path).with_name("few.parquet")
    write_rows(few, 10, 1_000_000, 100, 0)
    job(rs.FileSource(str(few))).run()  # what is loaded at first use is not the rows' cost
    started = time.process_time()
    result = job(rs.FileSource(path)).run()
    seconds = time.process_time() - started
    return {"rows_per_cpu_s": result.records_in / seconds, "peak_mb": peak_mb()}


def whole_jobs(chosen: list[str], key_counts: list[int], rows: int) -> None:
    """Print the table of whole jobs."""
    print("whole jobs, from Parquet, rows in order of time")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        told: dict[str, dict[int, dict[str, float]]] = {name: {} for name in chosen}
        ending: dict[int, dict[str, float]] = {}
        for keys in key_counts:
            # All within a gap: there are as many windows and sessions as keys.
            write_rows(path, keys, 1_000_000, rows, 0)
            for name in chosen:
                told[name][keys] = apart("whole", name, str(path), 100_000)
            if "session" in chosen:
                write_rows(path, keys, 10_000_000, rows, 0)
                ending[keys] = apart("whole", "session", str(path), 1_000_000)
        for name in chosen:
            show(name, "keys", told[name])
        if ending:
            show("session", "keys, ten gaps", ending)
        for name, unit in [("tumbling", 60_000_000), ("session", 10_000_000)]:
            if name in chosen:
                # The same rows, in the same windows: only how many are open differs.
                spread_us = 2 * _OPEN[-1] * unit
                write_rows(path, 10, spread_us, rows, unit if name == "session" else 0)
                opened = {n: apart("whole", name, str(path), n * unit) for n in _OPEN}
                show(name, "open windows a key", opened)


def peak_mb() -> float:
    """Give the most memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def apart(*case: object) -> dict[str, float]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    """Print what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operators", nargs="*", help=f"{', '.join(OPERATORS)}; all if none")
    parser.add_argument("--keys", type=int, nargs="*", default=[10**3, 10**5, 10**6, 10**7])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--table", choices=["operators", "jobs"], help="only one of the tables")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        kind, *rest = json.loads(args.case)
        print(json.dumps({"cost": cost, "pause": pause, "whole": whole}[kind](*rest)))
        return
    chosen = args.operators or list(OPERATORS)
    if args.table != "jobs":
        operators_alone(chosen, args.keys, args.rows)
    if args.table != "operators":
        whole_jobs(chosen, args.keys, args.rows)


def operators_alone(chosen: list[str], key_counts: list[int], rows: int) -> None:
    """Print the table of operators alone."""
    print("operators alone, rows at random in all open windows")
    for name in chosen:
        # Over ten seconds of event time: one window a key, and sessions that join.
        told = {keys: apart("cost", name, keys, 10_000_000, rows) for keys in key_counts}
        show(name, "keys", told)
    for name in [one for one in ("tumbling", "session") if one in chosen]:
        minute = {"tumbling": 60_000_000, "session": 10_000_000}[name]
        told = {n: apart("cost", name, 10, n * minute, rows) for n in _OPEN}
        show(name, "open windows a key", told)
        shown = apart("pause", name, 10**6, 1_000_000)
        print(
            f"{name:<10} a watermark fires {shown['windows']:,.0f} windows in "
            f"{shown['all_s']:.2f} s, longest pause {shown['longest_ms']:.0f} ms",
            flush=True,
        )


def show(name: str, what: str, told: dict[int, dict[str, float]]) -> None:
    """Print speeds, and each as a share of the first."""
    first = next(iter(told.values()))["rows_per_cpu_s"]
    for count, figures in told.items():
        speed = figures["rows_per_cpu_s"]
        print(
            f"{name:<10} {count:>12,} {what:<20} {speed / 1e6:>7.2f} M rows/CPU s  "
            f"{first / speed:>5.1f} x the first's cost  {figures['peak_mb']:>7,.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
