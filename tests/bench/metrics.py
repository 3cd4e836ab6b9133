"""What it costs that a job can be seen: with all that it tells, and with as little as it can.

Off means: no time is booked for subtasks and operators, no marker travels, and nobody looks. On is
what a job does by default, with somebody who looks once a second and reads all metrics. One thread,
in pairs that take turns in which comes first; CPU time says more than seconds where others work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
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


def run(name: str, table: pa.Table, *, seen: bool) -> tuple[float, float]:
    """Run a case once; give rows a second, and rows a second of CPU time."""
    build, _, limits = CASES[name]
    job = rs.Job("bench-metrics", config=limits, parallelism=2)
    build(job.from_items(table)).sink(Discard())
    clock = SystemClock()
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


def pairs(name: str, count: int, share: float) -> list[dict[str, Any]]:
    """Run a case on and off in turn; give the ratio of each pair: on to off."""
    rows = int(CASES[name][1] * share)
    rng = np.random.default_rng(1)
    table = pa.table({"k": rng.integers(0, 1_000, rows), "v": rng.integers(0, 100, rows)})
    run(name, table.slice(0, rows // 4), seen=True)  # what is loaded and compiled once
    found = []
    for number in range(count):
        order = (True, False) if number % 2 == 0 else (False, True)
        told = {seen: run(name, table, seen=seen) for seen in order}
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
    args = parser.parse_args()
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
