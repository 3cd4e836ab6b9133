"""Jobs on real Ray actors: right rows, clear failures, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import our_processes

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

OUTER_S = 60
PATHS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
"""Where other processes find this module, and what it imports."""


def wait_until(condition, what: str):
    """Wait for something to come true; the limit is generous, the condition is not."""
    deadline = time.monotonic() + OUTER_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still waiting until {what}"
        threading.Event().wait(0.02)
    return value


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    wait_until(lambda: not our_processes(), "every actor is gone")


class Ticks(rs.Source):
    """Numbers without end, a thousand a poll."""

    schema = pa.schema({"n": pa.int64()})
    bounded = False

    def splits(self):
        return [rs.Split("a"), rs.Split("b")]

    def open(self, split, position):
        return TickReader()


class TickReader(rs.Reader):
    def __init__(self):
        self.n = 0

    def poll(self, max_rows):
        self.n += 1000
        return pa.RecordBatch.from_pydict({"n": range(self.n - 1000, self.n)})

    def position(self):
        return self.n


class Forget(rs.Sink):
    def open(self, ctx):
        return ForgetWriter()


class ForgetWriter(rs.Writer):
    def write(self, batch):
        pass


@pytest.mark.parametrize("parallelism", [1, 2])
def test_rows_are_those_of_the_local_runtime(parallelism):
    def counts(runtime):
        job = rs.Job("same-rows", parallelism=parallelism, runtime=runtime)
        words = job.from_items([f"{w} {w[:1]} x" for w in ("tea", "cake", "tart", "cod")] * 500)
        kept = rs.MemorySink()
        keyed = words.flat_map(str.split).key_by(lambda word: word)
        keyed.aggregate(n=rs.count(), emit="final").sink(kept)
        result = job.run()
        assert result.records_in == 2000
        return Counter((row["key"], row["n"]) for row in kept.rows)

    on_ray = counts("ray")
    assert on_ray == counts("local")
    assert on_ray[("t", 1000)] == 1


def test_a_function_that_raises_fails_the_job_with_its_own_traceback_first():
    def halve(row):
        return {"n": 1 // (row["n"] - 3)}

    job = rs.Job("raises", parallelism=2)
    stream = job.source(Ticks()).map(halve).named("halve")
    stream.sink(Forget())
    with pytest.raises(rs.JobFailed) as caught:
        job.run()
    text = str(caught.value)
    assert text.startswith("Traceback")
    assert "ZeroDivisionError" in text.split("\n\n", maxsplit=1)[0]
    assert "in halve" in text
    assert 'job "raises" failed: halve failed: ZeroDivisionError' in text
    assert "{'n': 3}" in text
    assert "site-packages" not in text


class Picky(Exception):
    def __init__(self, one, two):
        super().__init__(one)
        self.lock = threading.Lock()


def test_an_exception_that_cannot_travel_still_tells_its_story():
    def fail(row):
        raise Picky("first", "second")

    job = rs.Job("picky")
    job.from_items([1]).map(fail).sink(Forget())
    with pytest.raises(rs.JobFailed, match="Picky: first"):
        job.run()


def test_a_killed_worker_fails_the_job_and_names_the_subtask():
    job = rs.Job("killed", parallelism=2)
    job.source(Ticks()).rebalance().filter(rs.col("n") >= 0).named("pass").sink(Forget())
    failures = []

    def run():
        try:
            job.run()
        except rs.JobFailed as error:
            failures.append(error)

    running = threading.Thread(target=run)
    running.start()
    victims = wait_until(
        lambda: [pid for pid, title in our_processes().items() if "SubtaskCalls" in title],
        "subtasks run",
    )
    os.kill(victims[-1], signal.SIGKILL)
    running.join(OUTER_S)
    assert not running.is_alive()
    assert "died: its worker process is gone" in str(failures[0])


def test_a_job_that_takes_too_long_is_canceled():
    job = rs.Job("slow")
    job.source(Ticks()).sink(Forget())
    with pytest.raises(TimeoutError, match="took longer than 2"):
        job.run(timeout="2s")


def test_files_become_visible_all_at_once_and_failures_leave_none(tmp_path):
    def write(folder, function):
        job = rs.Job("files", parallelism=2)
        rows = job.from_items([{"n": n} for n in range(5000)], schema=pa.schema({"n": pa.int64()}))
        mapped = rows.rebalance().map(function, schema=pa.schema({"n": pa.int64()}))
        mapped.sink(rs.FileSink(str(folder), "parquet", roll_rows=700))
        job.run()

    def break_late(row):
        return {"n": 1 // (4990 - row["n"])}

    write(tmp_path / "good", dict)
    assert sorted(pq.read_table(tmp_path / "good")["n"].to_pylist()) == list(range(5000))
    with pytest.raises(rs.JobFailed):
        write(tmp_path / "bad", break_late)
    assert [f for f in (tmp_path / "bad").rglob("*") if f.is_file()] == []


def test_rows_for_the_driver_come_in_order_and_a_callback_that_raises_fails_the_job():
    seen = []
    job = rs.Job("callback")
    job.from_items(list(range(10_000))).sink(rs.CallbackSink(seen.append))
    job.run()
    assert seen == list(range(10_000))

    def refuse(row):
        raise LookupError(f"no place for {row}")

    job = rs.Job("refusing")
    job.from_items([1, 2]).sink(rs.CallbackSink(refuse))
    with pytest.raises(rs.JobFailed, match="no place for 1"):
        job.run()


def test_collect_on_ray_stops_an_endless_stream_when_it_has_enough():
    job = rs.Job("enough", parallelism=2)
    rows = job.source(Ticks()).filter(rs.col("n") % 2 == 0).collect(limit=5000, runtime="ray")
    assert len(rows) == 5000


SUBMIT = """
import sys, pyarrow as pa, raystream as rs
sys.path[:0] = {paths!r}
from test_jobs_on_ray import Forget, Ticks
job = rs.Job("outlives", parallelism=2)
job.source(Ticks()).key_by("n").aggregate(k=rs.count()).sink(Forget())
print(job.submit().id)
"""


def test_a_submitted_job_outlives_its_driver_and_its_name_is_taken(ray_cluster):
    environment = os.environ | {"RAY_ADDRESS": ray_cluster}
    script = SUBMIT.format(paths=PATHS)
    driver = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=OUTER_S,
        check=False,
    )
    assert driver.returncode == 0, driver.stderr
    handle = rs.attach("outlives")
    assert handle.id == driver.stdout.split()[-1]
    assert [job.name for job in rs.list_jobs()] == ["outlives"]
    wait_until(lambda: handle.status() == "running", "the job runs")

    again = rs.Job("outlives")
    again.from_items([1]).sink(Forget())
    with pytest.raises(rs.RaystreamError, match='a job "outlives" is already running'):
        again.run()

    before = wait_until(lambda: handle.metrics()["source#1"]["rows_out"], "rows flow")
    wait_until(lambda: handle.metrics()["source#1"]["rows_out"] > before, "more rows flow")
    with pytest.raises(TimeoutError):
        handle.wait(timeout="100ms")
    handle.cancel()
    assert handle.wait(timeout=f"{OUTER_S}s").status == "canceled"
    assert handle.status() == "canceled"
    handle.end()


INTERRUPTED = """
import sys, raystream as rs
sys.path[:0] = {paths!r}
from test_jobs_on_ray import Forget, Ticks
job = rs.Job("interrupted", parallelism=2)
job.source(Ticks()).rebalance().sink(Forget())
job.run()
"""


def test_ctrl_c_cancels_the_job(ray_cluster, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(INTERRUPTED.format(paths=PATHS))
    driver = subprocess.Popen(
        [sys.executable, "-m", "raystream.ops.cli", "run", str(script)],
        env=os.environ | {"RAY_ADDRESS": ray_cluster},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(
        lambda: any(
            job.name == "interrupted" and job.status() == "running" for job in rs.list_jobs()
        ),
        "the job runs",
    )
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=OUTER_S)
    assert driver.returncode == 130, errors
    assert "interrupted" not in {job.name for job in rs.list_jobs()}


def test_what_cannot_be_pickled_is_named_before_anything_starts():
    lock = threading.Lock()
    job = rs.Job("unpicklable")
    job.from_items([1]).map(lambda row: (lock, row)).sink(Forget())
    with pytest.raises(rs.PlanError, match='variable "lock" holds a _thread.lock'):
        job.run()
