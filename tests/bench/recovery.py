"""How long a job is silent when a worker is killed: from ``kill -9`` to the first row beyond.

``python tests/bench/recovery.py`` runs one job, kills one of its subtasks again and again, and
prints the median, the least and the most. A row counts once it is past all that came before the
kill: what is replayed does not.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

import raystream as rs

_SIGNAL_S = 0.02
NUMBERS = pa.schema({"k": pa.int64(), "v": pa.int64()})


class Times(rs.Sink):
    """Notes, batch by batch, when it came and how far it went; at least once."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, ctx: Any) -> rs.Writer:
        return _TimesWriter(self.path)


class _TimesWriter(rs.Writer):
    def __init__(self, path: str) -> None:
        self.file = Path(path).open("a", buffering=1)  # noqa: SIM115  open as long as the writer

    def write(self, batch: Any) -> None:
        last = max(row["v"] for row in batch.rows) if isinstance(batch.rows, list) else None
        if last is None:
            last = batch.rows.column("v").to_numpy().max()
        self.file.write(f"{time.time():.6f} {last}\n")


def pid_of(actor: Any) -> int:
    """Give the process of an actor."""
    import ray

    pid: int = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    return pid


def silence_s(log: Path, killed_s: float) -> float | None:
    """Give how long nothing new came, once something has."""
    seen = [line.split() for line in log.read_text().splitlines()]
    rows = [(float(at), int(last)) for at, last in (pair for pair in seen if len(pair) == 2)]
    before = max((last for at, last in rows if at <= killed_s + _SIGNAL_S), default=-1)
    # What came in the first moment was still on its way when the signal was sent.
    after = (at - killed_s for at, last in rows if at > killed_s + _SIGNAL_S and last > before)
    return next(after, None)


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--keys", type=int, default=100_000)
    options.add_argument("--rate", type=int, default=20_000)
    options.add_argument("--which", default="aggregate", help="part of the chain's name to kill")
    given = options.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "times"
        job = rs.Job(
            "recovery",
            checkpoint=rs.Checkpointing(f"{folder}/ck", every="1s"),
            restart=rs.Restart.fixed(1_000, "0s"),  # kills in a row are no reason to wait here
        )
        keys = given.keys
        rows = job.source(
            rs.DataGenSource(lambda i: {"k": i * 7919 % keys, "v": i}, rows_per_second=given.rate)
        )
        counted = rows.map(lambda row: row, schema=NUMBERS).key_by("k")
        counted.aggregate(n=rs.count(), v=rs.max("v")).disable_chaining().sink(Times(str(log)))
        handle = job.submit()
        time.sleep(keys / given.rate + 5)
        took = []
        for _ in range(given.kills):
            actors = handle.subtasks()
            victims = [actor for subtask, actor in actors.items() if given.which in subtask.chain]
            assert victims, f"no {given.which} in {list(map(str, actors))}; {handle.status()}"
            victim = victims[0]
            pid = pid_of(victim)
            killed_s = time.time()
            os.kill(pid, signal.SIGKILL)
            silent = None
            while silent is None and time.time() - killed_s < 60:
                time.sleep(0.05)
                silent = silence_s(log, killed_s)
            took.append(silent or float("inf"))
            print(f"kill -9 {given.which}: first new row after {took[-1]:.2f} s", flush=True)
            time.sleep(3)
        handle.cancel()
        print(
            f"recovery, {keys:,} keys, {given.rate:,} rows/s: median "
            f"{statistics.median(took):.2f} s, least {min(took):.2f}, most {max(took):.2f} over "
            f"{len(took)} kills"
        )
        ray.shutdown()


if __name__ == "__main__":
    main()
