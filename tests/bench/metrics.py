"""What it costs that a job can be seen: with all that it tells, and with as little as it can.

Off means: no time is booked for subtasks and operators, no marker travels, and nobody looks. On is
what a job does by default, with somebody who looks once a second and reads all metrics. One thread,
in pairs that take turns in which comes first; CPU time says more than seconds where others work.
``--instructions`` counts instead, by valgrind, what the processor is told: no machine is too busy
for that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

import raystream as rs
from raystream.clock import SystemClock
from raystream.graph.planner import physical_plan
from raystream.ops.prometheus import prometheus_text
from raystream.runtime.local_job import LocalJob
from raystream.subtask import splits
from raystream.subtask.account import Account
from raystream.subtask.chain import RunningChain

COUNTED_SLOWER = 40
"""A program that is counted is so much slower; so is its clock, by which it tells and is asked."""

COUNTED_RUNS = (1, 6)
"""What more runs take than one is what runs take: the start of a process is in both."""

LOOK_US = 1_000_000
NEVER_US = 1 << 60


class Discard(rs.Sink):
    """Takes rows and forgets them. Guarantee: none."""

    def open(self, ctx: object) -> rs.Writer:
        return _Forget()


class _Forget(rs.Writer):
    def write(self, batch: rs.Batch) -> None: ...


def by_columns(rows: rs.Stream) -> rs.Stream:
    """Filter, then count and add up by key."""
    return rows.filter(rs.col("v") >= 0).key_by("k").aggregate(n=rs.count(), v=rs.sum("v"))


def by_rows(rows: rs.Stream) -> rs.Stream:
    """Call a function of Python for each row."""
    out = pa.schema([("k", pa.int64()), ("n", pa.int64())])
    count = lambda n, row: (n + 1, {"k": row["k"], "n": n + 1})
    return rows.key_by("k").map_with_state(count, 0, schema=out)


CASES: dict[str, tuple[Callable[[rs.Stream], rs.Stream], int, dict[str, int]]] = {
    "columns": (by_columns, 4_000_000, {}),
    "columns, batches of 256": (by_columns, 400_000, {"batch_rows_max": 256}),
    "row function": (by_rows, 300_000, {}),
}


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Book nothing, and let no marker go."""
    nothing = lambda *_: None
    with (
        mock.patch.object(splits, "_MARK_EVERY_US", NEVER_US),
        mock.patch.object(RunningChain, "_enter", nothing),
        mock.patch.multiple(Account, begin=nothing, end=nothing, waited=nothing),
    ):
        yield


class SlowClock(SystemClock):
    """Time as it passes for somebody who is counted."""

    def monotonic_us(self) -> int:
        return super().monotonic_us() // COUNTED_SLOWER


def run(name: str, table: pa.Table, clock: SystemClock, *, seen: bool) -> tuple[float, float]:
    """Run a case once; give rows a second, and rows a second of CPU time."""
    build, _, limits = CASES[name]
    job = rs.Job("bench-metrics", config=limits, parallelism=2)
    build(job.from_items(table)).sink(Discard())
    local = LocalJob(physical_plan(job._draft.plan()), clock, None)
    began_s, cpu_s, looked_us = time.perf_counter(), time.process_time(), clock.monotonic_us()
    local.begin()
    with contextlib.nullcontext() if seen else unseen():
        while not local.over:
            if seen and clock.monotonic_us() - looked_us >= LOOK_US:
                looked_us = clock.monotonic_us()
                prometheus_text([local.report()])
            if not local.advance():
                due_us = local.wake_us
                left_us = 1_000 if due_us is None else due_us - clock.monotonic_us()
                threading.Event().wait(max(0, left_us) / 1e6)
    spent_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    local.result()
    return table.num_rows / spent_s, table.num_rows / cpu_s


def rows_of(name: str, share: float) -> pa.Table:
    """Make the rows of a case."""
    rows = int(CASES[name][1] * share)
    rng = np.random.default_rng(1)
    return pa.table({"k": rng.integers(0, 1_000, rows), "v": rng.integers(0, 100, rows)})


def instructions(name: str, share: float, *, seen: bool) -> int:
    """Count the instructions of a few runs."""
    valgrind = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]
    counted = []
    for runs in COUNTED_RUNS:
        program = [sys.executable, __file__, name, f"--share={share}", f"--counted={runs}"]
        command = [*valgrind, *program, "--seen" if seen else "--no-seen"]
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        line = next(line for line in done.stderr.splitlines() if "refs:" in line)
        counted.append(int(line.rsplit(maxsplit=1)[1].replace(",", "")))
    return counted[1] - counted[0]


def pairs(name: str, count: int, share: float) -> list[dict[str, Any]]:
    """Run a case on and off in turn; give the ratio of each pair: on to off."""
    table, clock = rows_of(name, share), SystemClock()
    run(name, table.slice(0, table.num_rows // 4), clock, seen=True)  # what is loaded once
    found = []
    for number in range(count):
        order = (True, False) if number % 2 == 0 else (False, True)
        told = {seen: run(name, table, clock, seen=seen) for seen in order}
        ratio = told[True][0] / told[False][0]
        cpu_ratio = told[True][1] / told[False][1]
        found.append({"on": told[True][0], "ratio": ratio, "cpu_ratio": cpu_ratio})
        print(
            f"  {name:<24} on {told[True][0]:>12,.0f} rows/s  off {told[False][0]:>12,.0f} rows/s  "
            f"ratio {ratio:.3f}  of CPU time {cpu_ratio:.3f}",
            flush=True,
        )
    return found


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="all if none is named")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each case")
    parser.add_argument("--instructions", action="store_true", help="count, where valgrind is")
    parser.add_argument("--counted", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seen", action=argparse.BooleanOptionalAction, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.counted:
        pa.set_cpu_count(1)
        table = rows_of(args.cases[0], args.share)
        for _ in range(args.counted):
            run(args.cases[0], table, SlowClock(), seen=args.seen)
        return
    if args.instructions:
        for name in args.cases or CASES:
            on, off = (instructions(name, args.share, seen=seen) for seen in (True, False))
            print(
                f"{name:<26} on {on:,}  off {off:,} instructions: {on / off - 1:+.2%}", flush=True
            )
        return
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in args.cases or CASES:
        found = pairs(name, args.pairs, args.share)
        for what in ("ratio", "cpu_ratio"):
            values = sorted(one[what] for one in found)
            print(
                f"{name:<26} {what:<9} median {statistics.median(values):.3f}  "
                f"({values[0]:.3f} … {values[-1]:.3f})",
                flush=True,
            )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
