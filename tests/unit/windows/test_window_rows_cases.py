"""Windows, case by case: which rows they hold, when they fire, what is late."""

from __future__ import annotations

import pytest
from windows_by_hand import ByHand, stream

import raystream as rs
from raystream.contracts.window import Sliding, Tumbling
from raystream.errors import UserError
from raystream.operators.window_assign import assigner

both = pytest.mark.parametrize("columnar", [True, False], ids=["columns", "objects"])


pytestmark = pytest.mark.usefixtures("by_row")


def total(window, columnar, *, lateness=0, trigger=None, timed=True):
    """Sum the values of a window, row by row, late rows to a side output."""
    windowed = stream(columnar=columnar, timed=timed).key_by("k").window(window).late_to("late")
    windowed = windowed.allowed_lateness(lateness)
    if trigger is not None:
        windowed = windowed.trigger(trigger)
    return ByHand(windowed.aggregate(n=rs.sum("v")))


def listed(window, columnar):
    return ByHand(stream(columnar=columnar).key_by("k").window(window).aggregate(n=rs.collect("v")))


def window(start, end, n):
    return (end - 1, {"window": (start, end), "n": n})


@both
def test_c1_a_window_fires_when_the_watermark_passes_its_last_instant(columnar):
    it = total(rs.Tumbling(10), columnar)
    assert it.rows((0, 1), (9, 1)) == []
    assert it.watermark(8) == []
    assert it.watermark(9) == [window(0, 10, 2)]


@pytest.mark.parametrize(
    ("given", "time", "windows"),
    [
        (Tumbling(10), -1, [(-10, 0)]),
        (Tumbling(10, offset=5), 4, [(-5, 5)]),
        (Tumbling(10, offset=5), 14, [(5, 15)]),
    ],
)
def test_c12_tumbling_windows_floor(given, time, windows):
    assert assigner(given)(time) == windows


@pytest.mark.parametrize(
    ("given", "time", "windows"),
    [
        (Sliding(10, 5), -1, [(-10, 0), (-5, 5)]),
        (Sliding(10, 3), 12, [(3, 13), (6, 16), (9, 19), (12, 22)]),
        (Sliding(5, 10), 7, []),
    ],
)
def test_c13_sliding_windows_are_all_that_cover_the_time(given, time, windows):
    assert assigner(given)(time) == windows


@both
def test_c13_a_row_in_no_window_is_dropped_and_not_late(columnar):
    it = total(rs.Sliding(5, 10), columnar)
    it.watermark(100)
    assert it.rows((107, 1)) == []
    assert it.end() == []
    assert (it.late, it.late_count) == ([], 0)


@both
def test_c14_a_row_without_event_time_names_the_missing_watermark_strategy(columnar):
    it = total(rs.Session(10), columnar)
    with pytest.raises(UserError, match="no event time") as caught:
        it.rows((-(2**63), 1))
    assert "watermark strategy is missing" in (caught.value.hint or "")


@both
def test_c15_without_lateness_a_row_of_a_window_that_fired_is_late(columnar):
    it = total(rs.Tumbling(10), columnar)
    it.watermark(8)
    assert it.rows((3, 1)) == []
    assert it.watermark(9) == [window(0, 10, 1)]
    assert it.rows((5, 7)) == []
    assert (it.late, it.late_count) == ([(5, {"v": 7})], 1)


@both
def test_c16_within_lateness_each_late_row_fires_its_window_again(columnar):
    it = total(rs.Tumbling(10), columnar, lateness=5)
    it.rows((3, 1), (7, 2))
    assert it.watermark(9) == [window(0, 10, 3)]
    assert it.rows((5, 4)) == [window(0, 10, 7)]
    assert it.watermark(13) == []
    assert it.rows((6, 8)) == [window(0, 10, 15)]
    assert (it.held, it.timers) == (1, [14])
    assert it.watermark(14) == []
    assert (it.held, it.timers) == (0, [])
    assert it.rows((6, 1)) == []
    assert (it.late, it.late_count) == ([(6, {"v": 1})], 1)


@both
def test_c17_a_row_of_one_gone_window_counts_in_the_others_only(columnar):
    it = total(rs.Sliding(10, 5), columnar)
    it.watermark(12)
    assert it.rows((8, 1)) == []
    assert it.end() == [window(5, 15, 1)]
    assert (it.late, it.late_count) == ([], 0)


@both
def test_c18_sessions_that_touch_are_one(columnar):
    it = total(rs.Session(10), columnar)
    it.rows((0, 1), (10, 1))
    assert it.end() == [window(0, 20, 2)]
    it = total(rs.Session(10), columnar)
    it.rows((0, 1), (11, 1))
    assert it.end() == [window(0, 10, 1), window(11, 21, 1)]


@both
def test_c19_a_row_bridges_two_sessions_that_then_fire_once(columnar):
    it = total(rs.Session(10), columnar)
    it.rows((0, 1), (10, 1), (35, 1), (25, 1))
    assert it.timers == [19, 44]
    assert it.rows((18, 1)) == []
    assert it.timers == [44]
    assert it.watermark(43) == []
    assert it.watermark(44) == [window(0, 45, 5)]
    assert (it.timers, it.held) == ([], 0)
    assert it.end() == []


@both
def test_c20_lateness_is_that_of_the_merged_session(columnar):
    it = total(rs.Session(10), columnar, lateness=100)
    it.rows((0, 1), (20, 1))
    assert it.watermark(29) == [window(0, 10, 1), window(20, 30, 1)]
    assert it.rows((10, 1)) == [window(0, 30, 3)]
    assert it.timers == [129]
    assert it.watermark(128) == []
    assert it.rows((-5, 1)) == [window(-5, 30, 4)]
    assert (it.end(), it.held) == ([], 0)


@both
def test_c20_a_row_that_is_late_alone_is_not_where_it_joins_a_live_session(columnar):
    it = total(rs.Session(10), columnar)
    it.rows((12, 1))
    it.watermark(15)
    assert it.rows((3, 1)) == []
    assert (it.rows((-7, 1)), it.late) == ([], [])
    assert it.rows((-19, 1)) == []
    assert it.late == [(-19, {"v": 1})]
    assert it.end() == [window(-7, 22, 3)]


@both
def test_c21_a_window_of_rows_that_is_not_full_is_never_given(columnar):
    it = listed(rs.TumblingCount(3), columnar)
    assert it.rows((5, 1), (3, 2), (9, 3), (0, 4)) == [(9, {"n": [1, 2, 3]})]
    assert it.end() == []


@both
def test_c22_sliding_windows_of_rows_begin_short(columnar):
    it = listed(rs.SlidingCount(3, 2), columnar)
    out = it.rows((0, 1), (0, 2), (0, 3), (0, "b", 10), (0, 4), (0, 5), (0, 6))
    assert [row["n"] for _, row in out] == [[1, 2], [2, 3, 4], [4, 5, 6]]
    assert it.rows((1, "b", 20)) == [(1, {"k": "b", "n": [10, 20]})]
    assert it.end() == []


@both
def test_the_global_window_is_never_late(columnar):
    it = total(rs.Global(), columnar, trigger=rs.triggers.Count(2))
    it.watermark(1_000)
    assert it.rows((5, 1), (7, 2)) == [(7, {"n": 3})]
    assert it.rows((1, 4), (2, 8)) == [(7, {"n": 15})]
    assert (it.end(), it.late_count) == ([], 0)


@both
def test_a_purging_trigger_and_a_late_row_fire_with_the_new_row_alone(columnar):
    purging = rs.triggers.Purging(rs.triggers.EventTime())
    it = total(rs.Tumbling(10), columnar, lateness=5, trigger=purging)
    it.rows((3, 1), (7, 2))
    assert it.watermark(9) == [window(0, 10, 3)]
    assert it.rows((5, 4)) == [window(0, 10, 4)]
    assert it.rows((5, 8)) == [window(0, 10, 8)]
    assert it.watermark(14) == []
    assert (it.held, it.timers) == (0, [])


@both
def test_cumulative_windows_begin_together_and_grow_by_steps(columnar):
    it = total(rs.Cumulative(30, 10), columnar)
    it.rows((5, 1), (15, 2), (29, 4), (30, 8))
    assert it.watermark(8) == []
    assert it.watermark(9) == [window(0, 10, 1)]
    assert it.rows((9, 16)) == []
    assert it.watermark(29) == [window(0, 20, 19), window(0, 30, 23)]
    assert it.rows((29, 1)) == []
    assert it.late == [(29, {"v": 1})]
    assert it.end() == [window(30, 40, 8), window(30, 50, 8), window(30, 60, 8)]


@both
def test_the_end_of_the_input_fires_event_time_and_leaves_processing_time_pending(columnar):
    it = total(rs.Tumbling(10, time="processing"), columnar)
    it.rows((5, 1))
    assert it.end() == []
    assert it.timers == [9]


@both
@pytest.mark.parametrize("timed", [True, False])
def test_windows_of_processing_time_fire_by_the_clock(columnar, timed):
    it = total(rs.Tumbling(10, time="processing"), columnar, timed=timed)
    assert it.advance(3) == []
    it.rows((500, 1))
    assert it.advance(5) == []
    it.rows((-500, 2))
    assert it.watermark(10_000) == []
    assert it.advance(1) == [window(0, 10, 3)]
    it.rows((-500, 4))
    assert it.advance(100) == [window(0, 10, 4)]
    it.rows((0, 8))
    assert it.advance(100) == [window(100, 110, 8)]
    assert (it.late_count, it.held) == (0, 0)
