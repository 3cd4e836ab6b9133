"""Windows of columns that fire again, cumulative ones and local days: the rules by hand."""

from __future__ import annotations

from datetime import datetime, timezone

import pyarrow as pa
import pytest
from windows_by_hand import ByHand, stream

import raystream as rs
from raystream.contracts.aggregate import Bound
from raystream.keyed.fired_windows import FiredWindows
from raystream.keyed.measures import Measures
from raystream.keyed.snapshot import BUCKET
from raystream.operators.window_aggregate import WindowAggregateSpec

INT = pa.int64()


def sums(window, choose=lambda windows: windows):
    made = choose(stream().key_by("k").window(window)).aggregate(n=rs.count(), v=rs.sum("v"))
    by_hand = ByHand(made)
    assert isinstance(by_hand.spec, WindowAggregateSpec), "columns gather it"
    return by_hand


def values(out):
    return [row["v"] for _, row in out]


def test_c15_a_row_of_a_window_that_fired_goes_to_the_late_output():
    it = sums(rs.Tumbling(10), lambda w: w.late_to("late"))
    assert it.watermark(8) == []
    assert it.rows((3, 1)) == []
    assert it.watermark(9) == [(9, {"window": (0, 10), "n": 1, "v": 1})]
    assert it.rows((5, 2)) == []
    assert (it.late, it.late_count) == ([(5, {"v": 2})], 1)


def test_c16_within_lateness_each_late_row_fires_its_window_again():
    it = sums(rs.Tumbling(10), lambda w: w.allowed_lateness(5).late_to("late"))
    assert it.rows((3, 1), (7, 2)) == []
    assert values(it.watermark(9)) == [3]
    assert it.rows((5, 4)) == [(9, {"window": (0, 10), "n": 3, "v": 7})]
    assert it.watermark(13) == []
    assert values(it.rows((6, 8))) == [15]
    assert it.watermark(14) == []
    assert it.operator._fired.row_count == 0, "its state is gone"
    assert it.rows((6, 1)) == []
    assert it.late == [(6, {"v": 1})]


def test_c16_rows_of_one_batch_fire_one_after_the_other_in_order_of_arrival():
    it = sums(rs.Tumbling(10), lambda w: w.allowed_lateness(50))
    it.rows((3, 1), (12, "b", 100))
    it.watermark(19)
    out = it.rows((5, 2), (13, "b", 10), (6, 4), (25, 9), (7, "c", 5))
    assert [(row.get("k", "a"), row["v"]) for _, row in out] == [
        ("a", 3),
        ("b", 110),
        ("a", 7),
        ("c", 5),
    ]
    assert values(it.watermark(29)) == [9]


def test_c16_a_window_nobody_was_in_fires_for_its_first_late_row():
    it = sums(rs.Tumbling(10), lambda w: w.allowed_lateness(30))
    it.watermark(25)
    assert it.rows((3, 1), (14, 2)) == [
        (9, {"window": (0, 10), "n": 1, "v": 1}),
        (19, {"window": (10, 20), "n": 1, "v": 2}),
    ]


def test_c17_a_row_of_one_gone_window_counts_in_the_others_only():
    it = sums(rs.Sliding(10, 5), lambda w: w.late_to("late"))
    it.watermark(12)
    assert it.rows((8, 1)) == []
    assert it.watermark(40) == [(14, {"window": (5, 15), "n": 1, "v": 1})]
    assert it.late == []


def test_c17_within_lateness_a_row_fires_what_has_fired_and_waits_for_the_rest():
    it = sums(rs.Sliding(10, 5), lambda w: w.allowed_lateness(3))
    it.rows((7, 1))
    assert values(it.watermark(11)) == [1]
    assert it.rows((8, 2)) == [(9, {"window": (0, 10), "n": 2, "v": 3})]
    assert it.watermark(14) == [(14, {"window": (5, 15), "n": 2, "v": 3})]
    # [0, 10) is gone, [5, 15) is not.
    assert it.rows((9, 4)) == [(14, {"window": (5, 15), "n": 3, "v": 7})]


def test_c12_local_days_of_before_1970():
    it = sums(rs.Tumbling("1d", tz="Europe/Berlin"))
    it.rows((-1, 1))
    hour = 3_600_000_000
    assert it.end() == [(23 * hour - 1, {"window": (-hour, 23 * hour), "n": 1, "v": 1})]


def test_a_local_day_in_which_clocks_change_fires_at_its_own_end():
    it = sums(rs.Tumbling("1d", tz="Europe/Berlin"))
    start = rs.micros(datetime(2024, 3, 30, 23, tzinfo=timezone.utc))
    end = rs.micros(datetime(2024, 3, 31, 22, tzinfo=timezone.utc))
    it.rows((start, 1), (end - 1, 2), (end, 4), (start - 1, 8))
    assert values(it.watermark(end - 2)) == [8]
    assert it.watermark(end - 1) == [(end - 1, {"window": (start, end), "n": 2, "v": 3})]


def test_cumulative_windows_hold_all_since_their_start():
    it = sums(rs.Cumulative(30, 10))
    it.rows((1, 1), (12, 2), (29, 4), (31, 8))
    assert it.watermark(9) == [(9, {"window": (0, 10), "n": 1, "v": 1})]
    assert it.rows((2, 16)) == []
    assert [row["window"] for _, row in it.watermark(29)] == [(0, 20), (0, 30)]
    assert [row["window"] for _, row in it.end()] == [(30, 40), (30, 50), (30, 60)]


def test_what_cumulative_windows_hold_together_becomes_one_row_a_key():
    it = sums(rs.Cumulative(1_000, 1))
    for time in range(200):
        it.rows((time, 1))
        it.watermark(time)
    assert it.operator._state.row_count == 1
    assert len(it.operator._state._table._levels) <= 2
    assert values(it.watermark(200)) == [200]


@pytest.mark.parametrize(
    "choose",
    [
        lambda w: w.allowed_lateness(5),
        lambda w: w.late_to("late"),
    ],
)
def test_what_may_come_late_is_not_grouped_before_it_is_sent(choose):
    window = choose(stream().key_by("k").window(rs.Tumbling(10)))
    assert not window.aggregate(n=rs.count())._tip.node.spec.two_phase
    assert (
        stream()
        .key_by("k")
        .window(rs.Cumulative(10, 5))
        .aggregate(n=rs.count())
        ._tip.node.spec.two_phase
    )
    clock = stream().key_by("k").window(rs.Tumbling(10, time="processing"))
    assert not clock.aggregate(n=rs.count())._tip.node.spec.two_phase


def test_windows_of_the_clock_need_no_event_time():
    made = stream(timed=False).key_by("k").window(rs.Tumbling(10, time="processing"))
    it = ByHand(made.aggregate(last=rs.last("v"), first=rs.first("v")))
    assert isinstance(it.spec, WindowAggregateSpec)
    it.rows((None, 1), (None, 2))
    it.advance(3)
    it.rows((None, 3))
    assert it.advance(5) == []
    assert it.end() == [], "nor do they fire at the end of the input"
    assert it.advance(1) == [(9, {"window": (0, 10), "last": 3, "first": 1})]


class Counting(Measures):
    """Counts the partials that are merged."""

    merged = 0

    def _merged(self, partials, bucket):
        self.merged += sum(some.num_rows for some in partials)
        return super()._merged(partials, bucket)


@pytest.mark.parametrize("held", [10, 5_000])
def test_a_late_row_costs_the_same_whatever_its_window_holds(held):
    measures = Counting([pa.field("k", INT)], [Bound("n", "count", INT)])
    fired = FiredWindows([INT], measures)
    keys = pa.array(range(held), INT)
    rows = pa.RecordBatch.from_arrays([keys], names=["k"])
    fired.keep(measures.fold(rows, 7), 7)
    for turn in range(40):
        some = rows.slice(turn % 5, 3)
        again = fired.add(some, pa.array([0, 1, 2]).to_numpy(), pa.array([7, 7, 7]).to_numpy())
        assert again.column("k").to_pylist() == some.column("k").to_pylist()
        assert again.column(BUCKET).to_pylist() == [7, 7, 7]
    assert measures.merged == 40 * 6
    assert fired.row_count == held
    counts = dict(zip(*(fired.kept()[0].column(i).to_pylist() for i in (0, 2)), strict=True))
    assert counts[2] == 1 + 24
    assert counts[8] == 1
    fired.forget(6)
    assert fired.row_count == held
    fired.forget(7)
    assert fired.row_count == 0
