"""Jobs that write to a table of a lake, and fail in the middle of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import lives
import pyarrow as pa

import raystream as rs

T = rs.testing

ROW = pa.schema({"n": pa.int64(), "kind": pa.string()})

PHASES = (
    "open",
    "write",
    "before prepare",
    "after prepare",
    "before commit",
    "after commit",
    "commit of recovery",
)
"""Where a sink fails; behind a prepare and a commit everything has happened but the answer."""


class Faulty(rs.Sink):
    """A sink that fails in one phase, some calls after the first, so many times."""

    global_commit = True

    def __init__(self, inner, phase, skip=0, times=1):
        self.inner = inner
        self.phase = phase
        self.skip = [skip]
        self.left = [times]

    def fail(self, phase):
        if phase == self.phase and self.left[0]:
            if self.skip[0]:
                self.skip[0] -= 1
                return
            self.left[0] -= 1
            raise OSError(f"power cut: {phase}")

    def open(self, ctx):
        self.fail("open")
        return FaultyWriter(self, self.inner.open(ctx))

    def commit(self, checkpoint_id, committables):
        self.fail("before commit")
        self.inner.commit(checkpoint_id, committables)
        self.fail("after commit")
        # Fails, and then again where the next attempt repeats it.
        self.fail("commit of recovery")

    def abort(self, committables):
        self.inner.abort(committables)

    def describe(self):
        return self.inner.describe()


class FaultyWriter(rs.Writer):
    def __init__(self, sink, inner):
        self.sink, self.inner = sink, inner

    def write(self, batch):
        self.sink.fail("write")
        self.inner.write(batch)

    def prepare_commit(self, checkpoint_id):
        self.sink.fail("before prepare")
        prepared = self.inner.prepare_commit(checkpoint_id)
        self.sink.fail("after prepare")
        return prepared

    def close(self):
        self.inner.close()


def rows_of(count, start=0):
    return [{"n": n, "kind": "odd" if n % 2 else "even"} for n in range(start, start + count)]


def failing_job(sink, phase, *, skip=1, parallelism=1, count=60):
    """Make a job of several checkpoints whose sink fails in one phase."""
    times = 2 if phase == "commit of recovery" else 1
    faulty = Faulty(sink, phase, skip=0 if phase == "open" else skip, times=times)
    items = []
    for start in range(0, count, 10):
        items += [*rows_of(10, start), T.Checkpoint()]
    restart = rs.Restart.fixed(4, "1ms")
    job = rs.Job(
        "lake",
        runtime="local",
        checkpoint="memory://lake",
        parallelism=parallelism,
        restart=restart,
    )
    job.source(T.Source(items, schema=ROW)).rebalance().sink(faulty)
    return job, faulty


def crashing_job(sink, seed, *, parallelism=1, count=60):
    """Make a job that crashes three times, at moments that the seed chooses."""
    rng = random.Random(seed)
    items = []
    for row in rows_of(count):
        items.append(row)
        if rng.random() < 0.2:
            items.append(T.Checkpoint())
    for _ in range(3):
        items.insert(rng.randrange(1, len(items)), T.Crash())
    job = rs.Job("lake", runtime="local", checkpoint="memory://lake", parallelism=parallelism)
    job.source(T.Source(items, schema=ROW)).rebalance().sink(sink)
    return job


def following_job(source, sink):
    """Make a job that copies what comes to a table, and fails once in the middle."""
    failures = [8]

    def fail_once(row):
        if failures and row["n"] >= failures[0]:
            failures.clear()
            raise OSError("power cut")
        return row

    job = rs.Job(
        "follow",
        runtime="local",
        checkpoint=rs.Checkpointing("memory://follow", every="20ms"),
        restart=rs.Restart.fixed(3, "1ms"),
        config={"batch_rows_max": 2},
    )
    job.source(source).map(fail_once, schema=ROW).sink(sink)
    return job, failures


def lives_until(job, until):
    """Run a job without end until something is so."""
    made = lives.local(job)
    deadline = time.monotonic() + 100
    try:
        while not until():
            assert not made.over, made.result()
            assert time.monotonic() < deadline, "it never is"
            for _ in range(100):
                made.advance()
    finally:
        made.close()


def once(rows):
    """Assert that rows 0, 1, 2 … are there, each once; give how many."""
    seen = Counter(row["n"] for row in rows)
    assert all(count == 1 for count in seen.values()), seen.most_common(3)
    assert sorted(seen) == list(range(len(seen)))
    return len(seen)


def at_once(commit, count=6):
    """Let threads do the same at the same time."""
    failures = []
    start = threading.Barrier(count)

    def run():
        start.wait()
        try:
            commit()
        except Exception as error:  # noqa: BLE001  what it is, the assertion says
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def taken(reader, count, at_a_time=2):
    """Poll until so many rows came."""
    rows = []
    while len(rows) < count:
        polled = reader.poll(min(at_a_time, count - len(rows)))
        assert isinstance(polled, pa.RecordBatch), (polled, rows)
        rows += polled.to_pylist()
    return rows
