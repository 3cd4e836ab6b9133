"""Measure raystream: rows per second, rows per CPU second of all its processes, memory, latency.

``make bench`` runs everything; ``make bench ARGS="q5 q7 --events 5000000"`` some of it. Each case
is a job of its own on one Ray cluster that this process starts. Reading the input is included. The
figures of one run compare with each other, not with those of another machine or another hour.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import cloudpickle
import pyarrow as pa
import pyarrow.parquet as pq
from latency import latency_ms
from processes import Watch

import raystream as rs

JOBS = Path(__file__).parents[2] / "jobs"
KINDS = ("person", "auction", "bid")
LEFT_OUT = {"q6", "q6_ordered", "q10", "q12", "q15", "q16", "q17"}
"""What is measured only if it is named: much of it is like something else, or no benchmark."""


def nexmark() -> Any:
    """Load jobs/nexmark.py."""
    spec = importlib.util.spec_from_file_location("nexmark", JOBS / "nexmark.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nexmark"] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)  # workers cannot import it
    return module


def count_by_row_function(bids: rs.Stream) -> rs.Stream:
    """Count each bidder's bids by a Python function of the row, one row out for each row in."""
    out = pa.schema({"bidder": pa.int64(), "n": pa.int64()})

    def count(state: int, row: dict[str, int]) -> tuple[int, dict[str, int]]:
        n = state + 1
        return n, {"bidder": row["bidder"], "n": n}

    return bids.select("bidder").key_by("bidder").map_with_state(count, 0, schema=out)


def count_by_columns(bids: rs.Stream) -> rs.Stream:
    """Count each bidder's bids as a column aggregate, one row out for each row in."""
    return bids.key_by("bidder").aggregate(n=rs.count())


WRITE = """
import sys, raystream as rs
job = rs.Job("bench-data", runtime="local")
source = rs.NexmarkSource(int(sys.argv[2]), rate=10_000, seed=1, kind=sys.argv[3])
events = job.source(source, watermark=rs.WatermarkStrategy("dateTime"))  # in order of time
events.sink(rs.FileSink(sys.argv[1], "parquet"))
job.run()
"""


def write_events(folder: Path, events: int, kind: str) -> int:
    """Write the events of a kind as Parquet, in a process whose memory counts not; count them."""
    subprocess.run([sys.executable, "-c", WRITE, str(folder), str(events), kind], check=True)
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("**/*.parquet"))


def kinds(jobs: Any, name: str) -> list[str]:
    """Give the kinds of events that a case reads."""
    kinds: list[str] = jobs.kinds(name) if name in jobs.QUERIES else ["bid"]
    return kinds


def measure(
    name: str,
    build: Callable[[rs.Job], rs.Stream],
    parallelism: int,
    discard: Callable[[], rs.Sink],
) -> dict[str, Any]:
    """Run one job; give its figures."""
    job = rs.Job(f"bench-{name}", parallelism=parallelism)
    build(job).sink(discard())
    with Watch() as watch:
        result = job.run()
    seconds = result.running_s
    return {
        "case": name,
        "p": parallelism,
        "rows": result.records_in,
        "out": result.records_out,
        "rows_per_s": result.records_in / seconds,
        "rows_per_cpu_s": result.records_in / watch.cpu_s,
        "peak_mb": watch.peak_bytes / 2**20,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures of one case."""
    print(
        f"{figures['case']:<24} p={figures['p']}  {figures['rows']:>12,} rows  "
        f"{figures['rows_per_s'] / 1e6:>7.2f} M rows/s  "
        f"{figures['rows_per_cpu_s'] / 1e6:>7.2f} M rows/CPU s  {figures['peak_mb']:>6,.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="q0 … q22, rows, columns, latency; most if none")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("-p", type=int, action="append", help="parallelism, 1 and 2 if not given")
    parser.add_argument("--input", choices=["parquet", "generator", "both"], default="both")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()

    jobs = nexmark()
    queries = {**jobs.QUERIES, "rows": count_by_row_function, "columns": count_by_columns}
    chosen = args.cases or [*(name for name in queries if name not in LEFT_OUT), "latency"]
    told = []
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / kind for kind in KINDS}
        wanted = {kind for name in chosen if name != "latency" for kind in kinds(jobs, name)}
        if args.input != "generator":
            for kind in wanted:
                count = write_events(files[kind], args.events, kind)
                print(f"{count:,} {kind}s written", flush=True)

        def source(kind: str, way: str) -> rs.Source:
            if way == "parquet":
                return rs.FileSource(str(files[kind]))
            return rs.NexmarkSource(args.events, rate=10_000, seed=1, kind=kind)

        warm = rs.Job("bench-warm")  # starting Ray is not the query's work
        warm.from_items([1]).sink(jobs.Discard())
        warm.run()
        for name in chosen:
            if name == "latency":
                continue
            for way in ("parquet", "generator"):
                if args.input not in (way, "both"):
                    continue
                for parallelism in args.p or [1, 2]:

                    def build(job: rs.Job, name: str = name, way: str = way) -> rs.Stream:
                        streams = (
                            job.source(source(kind, way), watermark=jobs.WATERMARK)
                            for kind in kinds(jobs, name)
                        )
                        return queries[name](*streams)

                    figures = measure(f"{name} {way}", build, parallelism, jobs.Discard)
                    show(figures)
                    told.append(figures)
    if "latency" in chosen:
        for hops in (0, 1):
            p50, p99, rows = latency_ms(hops=hops, rows_per_second=20_000, seconds=10)
            place = "one hop between actors" if hops else "chained"
            print(f"latency, keyed count at 20,000 rows/s, {place}: p50 {p50:.2f} ms, "
                  f"p99 {p99:.2f} ms over {rows:,} rows", flush=True)  # fmt: skip
            told.append({"case": f"latency {hops}", "p50_ms": p50, "p99_ms": p99})
    if args.json:
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
