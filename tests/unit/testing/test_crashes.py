"""Jobs that crash in a test go on from their last checkpoint, and give everything once."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs

T = rs.testing
SCHEMA = pa.schema({"k": pa.string(), "n": pa.int64()})


def losses(run: T.Run) -> int:
    return sum("SubtaskLost" in line for line in run.trace)


class Counting(rs.KeyedProcessFunction):
    def open(self, ctx):
        self.count = ctx.state(rs.ValueState("count", default=0))

    def process(self, row, ctx):
        self.count.update(self.count.value() + 1)
        ctx.output("seen", (row, self.count.value()))
        yield row, self.count.value()


def counted(source: T.Source) -> rs.Stream:
    stream = rs.Job("counted").source(source)
    return stream.key_by(lambda row: row % 2).process(Counting()).uid("count")


@pytest.mark.parametrize("seed", range(5))
def test_a_crash_behind_a_checkpoint_repeats_nothing(seed):
    run = T.run(counted(T.Source([1, 2, 3, T.Checkpoint(), 4, 5, T.Crash(), 6])), seed=seed)
    assert sorted(run.rows) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
    assert sorted(run.side("seen")) == sorted(run.rows)
    assert run.state("count", "count") == {0: 3, 1: 3}
    assert losses(run) > 0


def test_a_crash_without_a_checkpoint_begins_anew_and_is_forgotten():
    run = T.run(rs.Job("t").source(T.Source([T.At(1, "a"), T.Crash(), T.At(2, "b")])))
    assert run.events == [T.At(1, "a"), T.At(2, "b"), T.Watermark(T.MAX)]
    assert losses(run) > 0


def test_time_that_was_told_before_a_checkpoint_is_not_told_again():
    items = [T.At(1, "a"), T.Watermark(1), T.Checkpoint(), T.Crash(), T.At(2, "b"), T.Open()]
    run = T.run(rs.Job("t").source(T.Source(items)))
    assert run.events == [T.At(1, "a"), T.Watermark(1), T.At(2, "b")]


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_ends_chains_once_that_have_no_source(seed):
    job = rs.Job("chains", runtime="local", parallelism=2, checkpoint="memory://chains")
    items = [1, 2, 3, T.Checkpoint(), 4, T.Crash(), 5, T.Crash(), 6]
    job.source(T.Source(items)).rebalance().sink(rs.MemorySink())
    run = T.run(job, seed=seed)
    assert set(run.rows) == {1, 2, 3, 4, 5, 6}
    assert losses(run) > 0


def sums(parallelism: int) -> rs.Stream:
    rows = [[{"k": k, "n": n} for n in range(20)] for k in "abc"]
    stream = rs.Job("sums", parallelism=parallelism).source(T.Source(splits=rows, schema=SCHEMA))
    return stream.key_by("k").aggregate(total=rs.sum("n"), rows=rs.count(), emit="final")


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_crashes_by_chance_change_nothing(seed, parallelism):
    run = T.run(sums(parallelism), seed=seed, crashes=2)
    assert sorted(run.rows, key=str) == [{"k": k, "total": 190, "rows": 20} for k in "abc"]
    assert losses(run) == 2


def test_the_same_seed_crashes_at_the_same_moments():
    first, second = (T.run(sums(2), seed=3, crashes=2) for _ in range(2))
    assert first.trace == second.trace
    assert first.trace != T.run(sums(2), seed=4, crashes=2).trace


def test_a_function_that_fails_fails_the_run_though_the_job_restarts_for_crashes():
    stream = rs.Job("t").source(T.Source([1, T.Checkpoint(), 0, T.Crash()]))
    with pytest.raises(rs.JobFailed, match="ZeroDivisionError"):
        T.run(stream.map(lambda n: 1 // n))


def test_a_job_that_is_kept_safe_by_itself_is_kept_in_memory_here(tmp_path):
    job = rs.Job("t", checkpoint=str(tmp_path / "ckpt"))
    run = T.run(job.source(T.Source([1, T.Checkpoint(), T.Crash(), 2, T.Open()])))
    assert run.rows == [1, 2]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", [T.Crash(), T.Checkpoint()])
def test_nothing_befalls_a_job_outside_of_a_simulated_run(word):
    with pytest.raises(rs.JobFailed, match=r"for rs\.testing\.run alone"):
        rs.Job("t", runtime="local").source(T.Source([1, word, 2])).collect()


@pytest.mark.parametrize("crashes", [-1, True, "2"])
def test_how_often_a_job_crashes_is_a_count(crashes):
    with pytest.raises(rs.PlanError, match="crashes is an int"):
        T.run(rs.Job("t").source(T.Source([1])), crashes=crashes)
