"""Windows as users write them."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from raystream.contracts import evictors
from raystream.contracts.evictor import Gathered
from raystream.contracts.trigger import EVERYTHING, Span
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.contracts.window_unaligned import Global, Session, SlidingCount, TumblingCount
from raystream.errors import ConfigError, PlanError


def test_durations_in_any_form_are_the_same_window():
    assert Tumbling("10s") == Tumbling(timedelta(seconds=10)) == Tumbling(10_000_000)
    assert Sliding("1m", "10s", "-5s") == Sliding(60_000_000, 10_000_000, -5_000_000)
    assert (Sliding("1m", "10s", "-5s").size_us, Tumbling("2d").slide_us) == (
        60_000_000,
        172_800_000_000,
    )
    assert Sliding("1m", "10s", "-5s").offset_us == -5_000_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tumbling(0),
        lambda: Tumbling("-1s"),
        lambda: Sliding("10s", 0),
        lambda: Sliding("-10s", "1s"),
        lambda: Tumbling("40000000d"),
        lambda: Cumulative(0, "1s"),
        lambda: Cumulative("10s", "-1s"),
        lambda: Session("0s"),
    ],
)
def test_a_window_without_length_is_refused_by_name(make):
    with pytest.raises(
        PlanError, match=r"(Tumbling|Sliding|Cumulative|Session)\((size|slide|step|gap)=\)"
    ):
        make()


def test_what_is_no_duration_is_refused():
    with pytest.raises(ConfigError, match="not a duration"):
        Tumbling("ten seconds")


def test_windows_print_themselves_and_travel():
    assert str(Tumbling("1h30m")) == "tumbling 1h30m"
    assert str(Sliding("10s", "2500ms", "1s")) == "sliding 10s every 2s500ms offset 1s"
    assert str(Tumbling(7, -3)) == "tumbling 7us offset -3us"
    assert pickle.loads(pickle.dumps(Sliding("10s", "2s"))) == Sliding("10s", "2s")
    for window, text in {
        Tumbling("1d", "6h", "Europe/Berlin"): "tumbling 1d Europe/Berlin offset 6h",
        Tumbling("10s", time="processing"): "tumbling 10s of processing time",
        Cumulative("1d", "1h"): "cumulative 1d by 1h",
        Session("30m"): "session 30m",
        Session(gap_of, time="processing"): "session gap_of(row) of processing time",
        Global(): "global",
        TumblingCount(3): "tumbling 3 rows",
        SlidingCount(3, 2): "sliding 3 rows every 2",
    }.items():
        assert str(window) == text
        assert pickle.loads(pickle.dumps(window)) == window


def gap_of(row):
    return row["gap"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Tumbling("1d", tz="Europe/Atlantis"), r"tz=\) is no time zone: 'Europe/Atlantis'"),
        (lambda: Tumbling("1d", tz=""), "no time zone"),
        (lambda: Tumbling("1d", tz="../etc/passwd"), "no time zone"),
        (lambda: Tumbling("1d", tz=7), "no time zone"),
        (lambda: Tumbling("12h", tz="Europe/Berlin"), "whole local days"),
        (lambda: Tumbling("10s", time="wall"), r'Tumbling\(time=\) is "event" or "processing"'),
        (lambda: Sliding("10s", "1s", time=None), r"Sliding\(time=\)"),
        (lambda: Cumulative("10s", "1s", time="x"), r"Cumulative\(time=\)"),
        (lambda: Session("10s", time="x"), r"Session\(time=\)"),
        (lambda: Cumulative("10s", "3s"), "10s is no multiple of 3s"),
        (lambda: Cumulative("1s", "10s"), "no multiple"),
        (lambda: TumblingCount(0), r"TumblingCount\(n=\)"),
        (lambda: TumblingCount(True), r"TumblingCount\(n=\)"),
        (lambda: SlidingCount(2, 0), r"SlidingCount\(slide=\)"),
        (lambda: SlidingCount("2", 1), r"SlidingCount\(n=\)"),
        (lambda: evictors.Count(0), r"evictors.Count\(n=\)"),
        (lambda: evictors.Time("0s"), r"evictors.Time\(length=\)"),
    ],
)
def test_what_makes_no_window_is_refused(make, says):
    with pytest.raises(PlanError, match=says):
        make()


def test_the_last_instant_of_all_time_is_its_end():
    assert Span(0, 10).last == 9
    assert EVERYTHING.last == EVERYTHING.end


def test_evictors_keep_the_last_rows_and_the_latest_times():
    rows = [Gathered(name, ts, at) for at, (name, ts) in enumerate([("a", 9), ("b", 3), ("c", 7)])]
    named = lambda kept: [one.row for one in kept]
    assert named(evictors.Count(2).before(rows, EVERYTHING)) == ["b", "c"]
    assert named(evictors.Count(5).before(rows, EVERYTHING)) == ["a", "b", "c"]
    assert named(evictors.Time(6).before(rows, EVERYTHING)) == ["a", "c"]
    assert named(evictors.Time(2).before(rows, EVERYTHING)) == ["a"]
