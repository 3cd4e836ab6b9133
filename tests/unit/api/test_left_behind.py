"""A job that fails, is left early or runs out of time leaves no thread, folder or open function."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from pathlib import Path

import pytest

import raystream as rs

ROWS = [{"k": n % 3, "n": n} for n in range(40)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def threads():
    before = set(threading.enumerate())
    return lambda: [one for one in threading.enumerate() if one not in before]


class Asking:
    """Asks somebody, and counts how often it was opened and closed."""

    def __init__(self, fails_at=None, *, opens=True):
        self.fails_at, self.opens = fails_at, opens

    async def open(self, ctx):
        calls.append("open")
        if not self.opens:
            raise OSError("nobody there")

    async def __call__(self, row):
        await asyncio.sleep(0)
        if row["n"] == self.fails_at:
            raise ValueError(row["n"])
        return row

    async def close(self):
        calls.append("close")


calls: list[str] = []


def fails(row):
    if row["n"] == 30:
        raise KeyError(row["n"])
    return row


ASYNC = {
    "nothing": lambda s: s.async_map(Asking()),
    "the call": lambda s: s.async_map(Asking(fails_at=20)),
    "what comes before": lambda s: s.map(fails).async_map(Asking()),
    "what comes behind": lambda s: s.async_map(Asking()).map(fails),
    "open behind": lambda s: s.async_map(Asking()).async_map(Asking(opens=False)),
    "open before": lambda s: s.async_map(Asking(opens=False)).async_map(Asking()),
}


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("what", ASYNC)
def test_event_loops_end_with_their_job_whatever_fails(what, parallelism, threads):
    calls.clear()
    job = rs.Job("it", runtime="local", parallelism=parallelism, config={"batch_rows_max": 4})
    it = ASYNC[what](job.from_items(ROWS).rebalance())
    if what == "nothing":
        assert len(it.collect()) == len(ROWS)
    else:
        with pytest.raises(rs.JobFailed):
            it.collect()
    assert threads() == []
    if "open" not in what:
        assert calls.count("close") == calls.count("open") == parallelism


class Counting(rs.KeyedProcessFunction):
    """Keeps state and timers, and fails where it is told to."""

    def __init__(self, fails_in=None):
        self.fails_in = fails_in

    def open(self, ctx):
        self.count = ctx.state(rs.ValueState("count", default=0))
        calls.append("open")
        self.fail("open")

    def process(self, row, ctx):
        self.count.update(self.count.value() + 1)
        ctx.timers.register_event_time(row["n"])
        if row["n"] == 30:
            made = list(Path(tempfile.gettempdir()).iterdir())
            calls.append(f"{len(made)} folders")
            self.fail("process")
        yield self.count.value()

    def on_timer(self, timestamp, ctx):
        self.fail("on_timer")

    def close(self):
        calls.append("close")
        self.fail("close")

    def fail(self, place):
        if place == self.fails_in:
            raise ValueError(place)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("place", [None, "open", "process", "on_timer", "close"])
def test_folders_of_state_go_with_their_job_whatever_fails(place, parallelism, folder, threads):
    pytest.importorskip("rocksdict")
    calls.clear()
    limits = {"state_backend": "disk", "batch_rows_max": 4}
    job = rs.Job("it", runtime="local", parallelism=parallelism, config=limits)
    given = job.from_items(ROWS, timestamps=range(40)).key_by("k")
    it = (
        given.process(Counting(place))
        .key_by(lambda n: n % 2)
        .map_with_state(lambda state, n: (state + n, state), 0)
    )
    if place is None:
        assert len(it.collect()) == len(ROWS)
    else:
        with pytest.raises(rs.JobFailed, match=place):
            it.collect()
    assert list(folder.iterdir()) == []
    assert threads() == []
    if place in {None, "process"}:
        assert f"{2 * parallelism} folders" in calls  # while the job ran
    if place != "open":
        assert calls.count("close") == calls.count("open") == parallelism


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_who_takes_the_first_rows_leaves_nothing_behind(limit, folder, threads):
    pytest.importorskip("rocksdict")
    calls.clear()
    limits = {"state_backend": "disk", "batch_rows_max": 4}
    job = rs.Job("it", runtime="local", parallelism=2, config=limits)
    given = job.from_items(ROWS, timestamps=range(40)).async_map(Asking()).key_by("k")
    assert len(given.process(Counting()).collect(limit=limit)) == limit
    assert list(folder.iterdir()) == []
    assert threads() == []
    assert calls.count("close") == calls.count("open")


class Endless(rs.ProcessFunction):
    def process(self, row, ctx):
        while True:
            yield row


def test_who_runs_out_of_time_leaves_nothing_behind(folder, threads):
    pytest.importorskip("rocksdict")
    calls.clear()
    limits = {"state_backend": "disk", "batch_rows_max": 4}
    job = rs.Job("it", runtime="local", config=limits)
    given = job.from_items(ROWS, timestamps=range(40)).async_map(Asking()).process(Endless())
    given.key_by("k").process(Counting()).sink(rs.CallbackSink(lambda row: None))
    with pytest.raises(rs.JobFailed, match=r"0\.05|50ms"):
        job.run(timeout="50ms")
    assert list(folder.iterdir()) == []
    assert threads() == []
    assert calls.count("close") == calls.count("open") == 2
