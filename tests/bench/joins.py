"""Measure what joins cost: rows per CPU second against the rows that they keep.

``python tests/bench/joins.py --kind regular`` prints, for an inner join of plain rows alone, the
speed of one side's rows, each of which finds one partner, with 10^4, 10^5 and 10^6 partners kept.
Keys are uniform. A case runs in a process of its own, so that memory is its own; the cases take
turns, and the median of their runs counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

import raystream as rs
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns
from raystream.graph.planner import physical_plan
from raystream.operators.operator import Operator

BATCH = 32_768
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("w", pa.float64())])


def regular(left: rs.Stream, right: rs.Stream) -> rs.Stream:
    """Join all rows that came."""
    return left.join(right, on="k", ttl="forever")


KINDS: dict[str, Callable[[rs.Stream, rs.Stream], rs.Stream]] = {"regular": regular}


def operator_of(kind: str) -> Operator:
    """Open a join, by itself."""
    job = rs.Job("joins")
    left, right = (job.from_items([], schema=SCHEMA) for _ in range(2))
    stream = KINDS[kind](left, right)
    stream.sink(rs.MemorySink())
    plan = physical_plan(stream._tip.draft.plan())
    name = stream._tip.node.name
    nodes = [node for chain in plan.chains for node in chain.nodes if node.name == name]
    operator = nodes[0].spec.build()
    operator.open(OpenContext(name, limits=plan.limits))
    return operator


def batches(keys: np.ndarray, seed: int) -> list[Columns]:
    """Give rows of these keys, in batches."""
    rng = np.random.default_rng(seed)
    made = []
    for start in range(0, len(keys), BATCH):
        some = keys[start : start + BATCH]
        columns = [some, rng.integers(0, 100, len(some)), rng.random(len(some))]
        record = pa.RecordBatch.from_arrays([pa.array(one) for one in columns], schema=SCHEMA)
        made.append(Columns(record))
    return made


def drive(operator: Operator, port: int, given: list[Columns]) -> tuple[float, int, float]:
    """Give batches to an operator; CPU seconds, rows that came out, the longest batch."""
    rows, longest = 0, 0.0
    started = time.process_time()
    for batch in given:
        begun = time.process_time()
        for out in operator.on_batch(port, batch):
            rows += out.num_rows  # type: ignore[union-attr]  a join gives rows alone
        longest = max(longest, time.process_time() - begun)
    return time.process_time() - started, rows, longest


def cost(kind: str, kept: int, rows: int) -> dict[str, float]:
    """Measure probes, and the rows that are kept themselves."""
    rng = np.random.default_rng(1)
    operator = operator_of(kind)
    few = operator_of(kind)
    for port in (0, 1):  # what is loaded at first use is not the rows' cost
        drive(few, port, batches(np.arange(1_000), 5))
    building, _, pause = drive(operator, 1, batches(rng.permutation(kept), 2))
    seconds, out, longest = drive(operator, 0, batches(rng.integers(0, kept, rows), 3))
    assert out == rows, "each row finds one partner"
    status = Path("/proc/self/status").read_text()
    return {
        "rows_per_cpu_s": rows / seconds,
        "kept_per_cpu_s": kept / building,
        "longest_ms": 1e3 * max(pause, longest),
        "peak_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024,
    }


def apart(*case: object) -> dict[str, float]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    """Print what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), nargs="*", default=list(KINDS))
    parser.add_argument("--kept", type=int, nargs="*", default=[10**4, 10**5, 10**6])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(cost(*json.loads(args.case))))
        return
    for kind in args.kind:
        rounds = [[apart(kind, kept, args.rows) for kept in args.kept] for _ in range(args.runs)]
        first = 0.0
        for kept, runs in zip(args.kept, zip(*rounds, strict=True), strict=True):
            told = {word: statistics.median(run[word] for run in runs) for word in runs[0]}
            first = first or told["rows_per_cpu_s"]
            print(
                f"{kind:<10} {kept:>12,} kept  {told['rows_per_cpu_s'] / 1e6:>6.2f} M rows/CPU s  "
                f"{first / told['rows_per_cpu_s']:>5.1f} x the first's cost  "
                f"kept {told['kept_per_cpu_s'] / 1e6:>6.2f} M/CPU s  longest batch "
                f"{told['longest_ms']:>5.0f} ms  {told['peak_mb']:>7,.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
