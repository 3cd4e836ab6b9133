"""The simulated run ends where nothing is left to do, and says so where a job has no end."""

from __future__ import annotations

import pytest

import raystream as rs
from raystream.testing.run import simulate
from raystream.testing.simulated_clock import SimulatedClock

T = rs.testing


def test_time_stands_still_until_it_is_let_pass():
    clock = SimulatedClock()
    clock.drift(500)
    assert (clock.now_us(), clock.monotonic_us(), clock.left_us()) == (0, 500, None)
    clock.await_time(30)
    clock.await_time(20)
    clock.pass_time(10)
    assert (clock.now_us(), clock.monotonic_us(), clock.left_us()) == (10, 510, 10)
    clock.pass_time(10)
    assert clock.left_us() == 10
    clock.pass_time(10)
    assert clock.left_us() is None


class Silent(rs.Source):
    """A source that never has anything, and never ends."""

    bounded = False

    def splits(self):
        return [rs.Split("only")]

    def open(self, split, position):
        return SilentReader()


class SilentReader(rs.Reader):
    def poll(self, max_rows):
        return None

    def position(self):
        return None


def plan_of(stream):
    return stream._tip.draft.plan().prune([stream._tip.node]), stream._tip.node


def test_a_source_without_end_is_named_by_the_last_lines_of_the_trace():
    plan, node = plan_of(rs.Job("t").source(Silent()))
    with pytest.raises(rs.JobFailed, match="does not end") as caught:
        simulate(plan, node, None, 0, steps_max=500)
    assert "split only: nothing now" in str(caught.value)
    assert "test source in its place" in str(caught.value)


class Again(rs.KeyedProcessFunction):
    """Sets the timer that has just fired."""

    def process(self, row, ctx):
        ctx.timers.register_processing_time(5)

    def on_timer(self, timestamp, ctx):
        ctx.timers.register_processing_time(timestamp)
        yield timestamp


def test_a_timer_that_sets_itself_again_is_stopped():
    numbers = rs.Job("t").source(T.Source([1, T.Advance("1s")]))
    plan, node = plan_of(numbers.key_by(lambda n: n).process(Again()))
    with pytest.raises(rs.JobFailed, match="does not end"):
        simulate(plan, node, None, 0, steps_max=300)


def test_a_generator_without_end_is_stopped():
    def forever(n):
        while True:
            yield n

    plan, node = plan_of(rs.Job("t").source(T.Source([1])).flat_map(forever))
    with pytest.raises(rs.JobFailed, match="does not end"):
        simulate(plan, node, None, 0, steps_max=300)


def test_a_silent_source_does_not_keep_time_from_passing_for_others():
    job = rs.Job("t")
    both = job.source(Silent()).union(job.source(T.Source([1, T.Advance("1s"), 2, T.Open()])))
    plan, node = plan_of(both)
    with pytest.raises(rs.JobFailed) as caught:
        simulate(plan, node, None, 0, steps_max=600)
    assert "      1.000000" in str(caught.value)
