"""Triggers and evictors: when windows fire, which rows they see, what is left behind."""

from __future__ import annotations

import pytest
from windows_by_hand import ByHand, stream

import raystream as rs
from raystream.errors import PlanError, UserFunctionError

T, CONTINUE = rs.triggers, rs.TriggerResult.CONTINUE
both = pytest.mark.parametrize("columnar", [True, False], ids=["columns", "objects"])


def collected(window, trigger, columnar=True, *, timed=True, lateness=0, evictor=None):
    windowed = stream(columnar=columnar, timed=timed).key_by("k").window(window)
    windowed = windowed.trigger(trigger).allowed_lateness(lateness)
    if evictor is not None:
        windowed = windowed.evictor(evictor)
    return ByHand(windowed.aggregate(n=rs.collect("v")))


def values(out):
    return [row["n"] for _, row in out]


@both
def test_a_count_fires_with_all_rows_so_far_and_forgets_its_count_with_the_window(columnar):
    it = collected(rs.Tumbling(10), T.Count(2), columnar)
    assert values(it.rows((1, 1), (2, 2), (3, 3))) == [[1, 2]]
    assert values(it.rows((4, 4))) == [[1, 2, 3, 4]]
    it.rows((5, 5))
    assert it.watermark(9) == []
    assert (it.held, it.timers) == (0, [])


def test_counts_of_merged_sessions_add_up():
    it = collected(rs.Session(10), T.Count(4))
    assert it.rows((0, 1), (20, 2)) == []
    assert values(it.rows((10, 3))) == []
    assert values(it.rows((11, 4))) == [[1, 2, 3, 4]]
    it.watermark(100)
    assert (it.held, it.timers) == (0, [])


def test_continuous_event_time_fires_at_each_mark_and_at_the_end():
    it = collected(rs.Tumbling(10), T.ContinuousEventTime(4))
    it.rows((1, 1))
    assert it.watermark(3) == []
    assert values(it.watermark(4)) == [[1]]
    it.rows((6, 2))
    assert values(it.watermark(7)) == []
    assert values(it.watermark(8)) == [[1, 2]]
    assert values(it.watermark(9)) == [[1, 2]]
    assert (it.held, it.timers) == (0, [])


def test_continuous_event_time_goes_on_in_merged_sessions():
    it = collected(rs.Session(10), T.ContinuousEventTime(7))
    it.rows((0, 1), (12, 2))
    assert it.timers == [7, 9, 14, 21]
    it.rows((8, 3))
    assert it.timers == [7, 21]
    assert values(it.watermark(7)) == [[1, 2, 3]]
    assert values(it.end()) == [[1, 2, 3], [1, 2, 3]]
    assert (it.held, it.timers) == (0, [])


def test_continuous_event_time_of_the_global_window_ends_with_the_input():
    it = collected(rs.Global(), T.ContinuousEventTime(10))
    it.rows((1, 1))
    assert it.watermark(25) == [(10, {"n": [1]}), (20, {"n": [1]})]
    it.rows((26, 2))
    assert it.end() == [(26, {"n": [1, 2]})]


@pytest.mark.parametrize("timed", [True, False])
def test_continuous_processing_time_fires_by_the_clock_while_there_are_rows(timed):
    it = collected(rs.Global(), T.ContinuousProcessingTime(10), timed=timed)
    assert it.advance(15) == []
    it.rows((1, 1))
    assert it.advance(4) == []
    time = 1 if timed else None
    assert it.advance(1) == [(time, {"n": [1]})]
    assert it.advance(10) == [(time, {"n": [1]})]
    assert it.end() == []


def test_continuous_processing_time_ends_with_a_window_of_processing_time():
    it = collected(rs.Tumbling(10, time="processing"), T.ContinuousProcessingTime(4))
    it.rows((1, 1))
    assert values(it.advance(8)) == [[1], [1]]
    it.rows((1, 2))
    assert values(it.advance(1)) == [[1, 2]]
    assert (it.advance(100), it.held, it.timers) == ([], 0, [])


def test_a_purging_continuous_trigger_gives_each_row_once():
    it = collected(rs.Global(), T.Purging(T.ContinuousProcessingTime(10)))
    it.rows((1, 1), (2, 2))
    assert it.advance(10) == [(2, {"n": [1, 2]})]
    assert it.advance(10) == []
    it.rows((1, 3))
    assert it.advance(10) == [(1, {"n": [3]})]


def test_processing_time_fires_windows_of_event_time_by_the_clock():
    it = collected(rs.Tumbling(10), T.ProcessingTime())
    it.rows((1, 1), (12, 2))
    assert values(it.advance(9)) == [[1]]
    assert it.watermark(19) == []
    assert (it.held, it.timers) == (0, [])
    assert it.advance(100) == []


@both
def test_the_global_window_fires_at_the_end_of_the_input(columnar):
    it = ByHand(stream(columnar=columnar).key_by("k").window(rs.Global()).aggregate(n=rs.sum("v")))
    it.rows((5, 1), (3, 2), (4, "b", 8))
    assert it.watermark(1_000) == []
    assert it.end() == [(5, {"n": 3}), (4, {"k": "b", "n": 8})]


# Evictors ----------------------------------------------------------------------------------------


@both
def test_an_evictor_leaves_rows_out_for_good(columnar):
    it = collected(rs.Global(), T.Count(2), columnar, evictor=rs.evictors.Count(3))
    assert values(it.rows((1, 1), (2, 2), (3, 3), (4, 4))) == [[1, 2], [2, 3, 4]]
    assert values(it.rows((5, 5), (6, 6))) == [[4, 5, 6]]


@both
def test_an_evictor_of_time_keeps_what_is_near_the_latest_row(columnar):
    it = collected(rs.Global(), T.Count(3), columnar, evictor=rs.evictors.Time(5))
    assert values(it.rows((1, 1), (9, 2), (4, 3))) == [[2]]
    assert values(it.rows((5, 4), (8, 5), (7, 6))) == [[2, 4, 5, 6]]


class Odd(rs.Evictor):
    """Keeps odd values before, and nothing behind the function."""

    def before(self, rows, window):
        assert [one.arrival for one in rows] == sorted(one.arrival for one in rows)
        return [one for one in rows if one.row["v"] % 2]

    def after(self, rows, window):
        return []


@both
def test_an_evictor_of_the_users_own_sees_whole_rows(columnar):
    windowed = stream(columnar=columnar).key_by("k").window(rs.Tumbling(10))
    windowed = windowed.allowed_lateness(5).evictor(Odd())
    read = (rs.col("v") * 10) if columnar else (lambda row: row["v"] * 10)
    it = ByHand(windowed.aggregate(n=rs.collect(read)))
    it.rows((1, 1), (2, 2), (3, 3))
    assert values(it.watermark(9)) == [[10, 30]]
    assert values(it.rows((4, 4))) == []
    assert values(it.rows((4, 5))) == [[50]]


def test_evictors_keep_whole_the_rows_of_functions():
    windowed = stream().key_by("k").window(rs.Tumbling(10)).evictor(rs.evictors.Count(2))
    it = ByHand(windowed.apply(lambda key, window, rows: [(key, window.start, rows)]))
    it.rows((1, 1), (2, 2), (3, 3))
    rows = [{"k": "a", "v": 2}, {"k": "a", "v": 3}]
    assert it.watermark(9) == [(9, ("a", 0, rows))]


# Triggers of users -------------------------------------------------------------------------------


class Jump(rs.Trigger):
    """Fires when a value is more than the greatest so far by the row's own measure."""

    def on_row(self, row, ts, window, ctx):
        seen = ctx.state(rs.ReducingState("greatest", max))
        before = seen.get()
        seen.add(row["v"])
        if before is None or row["v"] <= before:
            return CONTINUE
        ctx.register_event_time(ts + 1)
        return rs.TriggerResult.FIRE

    def on_event_time(self, ts, window, ctx):
        assert ctx.watermark >= ts
        return rs.TriggerResult.PURGE if ts != window.last else CONTINUE

    def on_merge(self, window, ctx):
        ctx.merge_state(rs.ReducingState("greatest", max))

    def clear(self, window, ctx):
        ctx.state(rs.ReducingState("greatest", max)).clear()


@both
def test_a_trigger_of_the_users_own_has_state_and_timers_of_its_window(columnar):
    it = collected(rs.Tumbling(10), Jump(), columnar)
    assert values(it.rows((1, 5), (2, 4), (3, 6), (11, 9))) == [[5, 4, 6]]
    assert it.watermark(4) == []
    assert values(it.rows((5, 3), (6, 7))) == [[3, 7]]
    it.again()
    assert values(it.rows((7, 8))) == [[3, 7, 8]]
    assert (it.end(), it.timers, it.held) == ([], [], 0)


def test_timers_that_a_trigger_left_behind_come_to_nothing():
    it = collected(rs.Session(10), Jump())
    assert values(it.rows((0, 1), (1, 2))) == [[1, 2]]
    it.rows((9, 1))
    assert values(it.rows((10, 3))) == [[1, 2, 1, 3]]
    it.watermark(5)
    it.rows((12, 1))
    assert values(it.rows((13, 4))) == [[1, 2, 1, 3, 1, 4]]
    assert (it.end(), it.timers, it.held) == ([], [], 0)


class Answers(rs.Trigger):
    def __init__(self, answer):
        self.answer = answer

    def on_row(self, row, ts, window, ctx):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@both
@pytest.mark.parametrize("answer", [None, True, "FIRE"])
def test_a_trigger_that_answers_something_else_is_refused(columnar, answer):
    it = collected(rs.Tumbling(10), Answers(answer), columnar)
    with pytest.raises(UserFunctionError, match=r"Answers.on_row gave .* no TriggerResult") as e:
        it.rows((1, 7))
    assert "FIRE_AND_PURGE" in e.value.hint
    assert "'v': 7" in e.value.row


def test_a_trigger_that_fails_tells_the_row():
    it = collected(rs.Tumbling(10), Answers(KeyError("w")))
    with pytest.raises(UserFunctionError, match="KeyError: 'w'") as error:
        it.rows((1, 3), (2, 4))
    assert "'v': 3" in error.value.row


class Nonsense(rs.Evictor):
    def before(self, rows, window):
        return [one.row for one in rows]


def test_an_evictor_that_gives_something_else_is_refused():
    it = collected(rs.Tumbling(10), T.Count(1), evictor=Nonsense())
    with pytest.raises(UserFunctionError, match=r"Nonsense.before gave .* no rows of the window"):
        it.rows((1, 7))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda w: w(rs.Tumbling(10)).trigger(T.EventTime),
            "trigger.. takes a trigger, got <class",
        ),
        (lambda w: w(rs.Tumbling(10)).trigger(None), "takes a trigger, got None"),
        (lambda w: w(rs.TumblingCount(3)).trigger(T.Count(2)), "3 rows fires by its count"),
        (lambda w: w(rs.Tumbling(10)).evictor(3), "takes an evictor, got 3"),
        (lambda w: w(rs.SlidingCount(3, 1)).evictor(rs.evictors.Count(2)), "keeps its last rows"),
        (lambda w: w(rs.Tumbling(10)).allowed_lateness("-1s"), "a duration of at least 0"),
        (lambda w: w(rs.Tumbling(10)).allowed_lateness("soon"), "not a duration"),
        (lambda w: w(rs.Tumbling(10)).late_to(""), "late_to.. takes a tag"),
        (lambda w: T.Count(0), r"triggers.Count\(n=\)"),
        (lambda w: T.Count(2.5), r"triggers.Count\(n=\)"),
        (lambda w: T.ContinuousEventTime(0), r"triggers.ContinuousEventTime\(every=\)"),
        (lambda w: T.ContinuousProcessingTime("-1s"), "longer than nothing"),
        (lambda w: T.Purging(T.Count), "takes a trigger"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_is_written(make, says):
    with pytest.raises((PlanError, rs.ConfigError), match=says):
        make(stream().key_by("k").window)


@pytest.mark.parametrize(
    "choose",
    [
        lambda w: w.trigger(T.ContinuousEventTime(5)),
        lambda w: w.trigger(T.Purging(T.ContinuousEventTime(5))),
        lambda w: w.evictor(rs.evictors.Time(5)),
    ],
)
def test_what_goes_by_event_time_needs_some(choose):
    with pytest.raises(PlanError, match="needs event time"):
        choose(stream(timed=False).key_by("k").window(rs.Global()))


@pytest.mark.parametrize(
    "window",
    [
        rs.Tumbling(10, time="processing"),
        rs.Sliding(10, 5, time="processing"),
        rs.Session(10, time="processing"),
    ],
    ids=str,
)
@pytest.mark.parametrize("trigger", [T.EventTime(), T.Purging(T.EventTime())], ids=str)
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
def test_event_time_does_not_fire_windows_that_end_by_the_clock(window, trigger, timed):
    windowed = stream(timed=timed).key_by("k").window(window)
    with pytest.raises(PlanError, match=r"is gone when the clock passes its end") as error:
        windowed.trigger(trigger)
    assert str(window) in error.value.message
    assert "test_window_triggers.py" in error.value.where
    assert "without trigger() it fires by the clock" in error.value.hint


def test_the_clock_never_passes_the_end_of_the_global_window():
    with pytest.raises(PlanError, match="would never fire") as error:
        stream().key_by("k").window(rs.Global()).trigger(T.ProcessingTime())
    assert "ContinuousProcessingTime" in error.value.hint


@pytest.mark.parametrize("trigger", [T.EventTime(), T.Purging(T.EventTime())], ids=str)
def test_event_time_never_passes_the_end_of_a_global_window_of_endless_input(trigger):
    endless = rs.Job("t").source(rs.DataGenSource(rs_schema())).key_by("k").window(rs.Global())
    with pytest.raises(PlanError, match=r"with triggers.EventTime\(\) fires at the end .* no end"):
        endless.trigger(trigger).aggregate(n=rs.count())


def test_a_global_window_that_would_never_fire_is_refused():
    endless = rs.Job("t").source(rs.DataGenSource(rs_schema()))
    with pytest.raises(PlanError, match="no end") as error:
        endless.key_by("k").window(rs.Global()).evictor(rs.evictors.Count(1)).aggregate(
            n=rs.count()
        )
    assert "trigger(rs.triggers.Count(100))" in error.value.hint


def rs_schema():
    import pyarrow as pa

    return pa.schema({"k": pa.int64()})


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        (T.Purging(T.Count(3)), "every 3 rows, purging"),
        (T.ContinuousEventTime("1m"), "every 1m of event time"),
        (T.ContinuousProcessingTime("1m"), "every 1m of processing time"),
        (T.EventTime(), "event time"),
        (T.ProcessingTime(), "processing time"),
        (Jump(), "Jump"),
    ],
)
def test_the_plan_tells_triggers_and_evictors(trigger, says):
    windowed = stream().key_by("k").window(rs.Session("5m")).trigger(trigger)
    windowed = windowed.evictor(rs.evictors.Time("1m")).late_to("late").allowed_lateness("90s")
    spec = windowed.aggregate(n=rs.count())._tip.node.spec
    assert spec.describe() == (
        f'session 5m by k: n=count()  lateness 1m30s  late to "late"  {says}  last 1m'
    )
