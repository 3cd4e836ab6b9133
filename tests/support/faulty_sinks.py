"""Jobs whose sink fails in one phase, or that crash at any moment: rows are counted afterwards."""

from __future__ import annotations

import contextlib
import copy
import random
import threading
from collections import Counter

from lake_rows import ROW, rows_of

import raystream as rs

T = rs.testing


IN_WRITER = ("open", "write", "before prepare", "after prepare")
IN_COMMIT = ("before commit", "in commit", "after commit", "commit of recovery")
"""Where a sink fails; behind a prepare and a commit everything has happened but the answer.

``in commit``: something has been made visible, and it is not known what.
"""

_TOLD = ("global_commit", "upserts", "table_key", "any_order", "retracting")


class Faulty(rs.Sink):
    """A sink that fails in one phase, some calls after the first, so many times.

    ``midway`` names a function that its commit calls: the object that has it, and its name.
    """

    def __init__(self, inner, phase, skip=0, times=1, midway=None):
        self.phase = phase
        self.skip = [skip]
        self.left = [times]
        self.midway = midway
        self._take(inner)

    def _take(self, inner):
        self.inner = inner
        for name in _TOLD:
            setattr(self, name, getattr(inner, name))

    def bound(self, schema, changelog):
        made = copy.copy(self)
        made._take(self.inner.bound(schema, changelog))
        return made

    def fail(self, phase):
        if phase == self.phase and self.left[0]:
            if self.skip[0]:
                self.skip[0] -= 1
                return
            self.left[0] -= 1
            raise RuntimeError(f"power cut: {phase}")

    def open(self, ctx):
        self.fail("open")
        return FaultyWriter(self, self.inner.open(ctx))

    def commit(self, checkpoint_id, committables):
        self.fail("before commit")
        with self._cut_short():
            self.inner.commit(checkpoint_id, committables)
        self.fail("after commit")
        # Fails, and then again where the next attempt repeats it.
        self.fail("commit of recovery")

    @contextlib.contextmanager
    def _cut_short(self):
        """Let the power fail behind the first call of the function, so many times."""
        if self.phase != "in commit" or self.midway is None:
            yield
            return
        owner, name = self.midway
        whole = getattr(owner, name)

        def cut(*args, **more):
            result = whole(*args, **more)
            self.fail("in commit")
            return result

        setattr(owner, name, cut)
        try:
            yield
        finally:
            setattr(owner, name, whole)

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


def failing_job(faulty, *, parallelism=1, count=60):
    """Make a job of several checkpoints whose sink fails."""
    items = []
    for start in range(0, count, 10):
        items += [*rows_of(10, start), T.Checkpoint()]
    return _job(items, faulty, parallelism, restart=rs.Restart.fixed(4, "1ms"))


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
    return _job(items, sink, parallelism)


def _job(items, sink, parallelism, **settings):
    job = rs.Job(
        "faulty",
        runtime="local",
        checkpoint="memory://faulty",
        parallelism=parallelism,
        **settings,
    )
    job.source(T.Source(items, schema=ROW)).rebalance().sink(sink)
    return job


def assert_rows(found, count, *, once=True):
    """Assert that rows 0, 1, 2 … are there: each once, or each at least once."""
    seen = Counter(found)
    assert sorted(seen) == list(range(count))
    if once:
        assert set(seen.values()) <= {1}, seen.most_common(3)


def at_once(commit, count=6):
    """Let threads do the same at the same time."""
    failures = []
    start = threading.Barrier(count)

    def run():
        start.wait(30)
        try:
            commit()
        except Exception as error:  # noqa: BLE001  what it is, the assertion says
            failures.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "it does not end"
    assert not failures, failures
