"""join(within=): programs, and what is said of those that make no sense."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import raystream as rs

HERE = Path(__file__).name
AD = pa.schema({"id": pa.int32(), "text": pa.string()})
CLICK = pa.schema({"ad": pa.int64(), "text": pa.string()})
MINUTE = 60_000_000


def streams(*, left=(0, 1), right=(0, 1)):
    job = rs.Job("joins", runtime="local")
    ads = [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]
    clicks = [{"ad": 1, "text": "x"}, {"ad": 2, "text": "y"}]
    return (
        job.from_items(ads, schema=AD, timestamps=left and [t * MINUTE for t in left]),
        job.from_items(clicks, schema=CLICK, timestamps=right and [t * MINUTE for t in right]),
    )


def joined(within, how="inner", **sides):
    ads, clicks = streams(**sides)
    return ads.join(clicks, left_on="id", right_on="ad", how=how, within=within)


def ids(stream):
    return sorted(row["id"] for row in stream.collect())


@pytest.mark.parametrize(
    "within",
    [
        (0, "1m"),
        ["-0s", MINUTE],
        (timedelta(0), timedelta(minutes=1)),
        ("0s", timedelta(minutes=1)),
    ],
    ids=str,
)
def test_bounds_are_durations_of_every_form(within):
    assert ids(joined(within, right=(1, 3))) == [1]
    assert ids(joined(within, right=(-1, 1))) == [2]


def test_bounds_may_be_negative():
    assert ids(joined(("-2m", "-1m"), right=(-1, 1))) == [1]
    assert ids(joined((timedelta(minutes=-2), -MINUTE), right=(-2, -2))) == [1]


def test_columns_come_out_as_those_of_every_join():
    rows = joined(("-1m", "1m"), "full", right=(0, 9)).collect()
    wanted = [
        {"id": 1, "text": "one", "text_right": "x"},
        {"id": 2, "text": "two", "text_right": None},
        {"id": 2, "text": None, "text_right": "y"},
    ]
    assert sorted(rows, key=str) == wanted
    rows = joined(("-1m", "1m"), "anti", right=(0, 9)).collect()
    assert rows == [{"id": 2, "text": "two"}]


def test_rows_without_a_partner_are_not_late_for_a_window_behind():
    ads, clicks = streams(right=(0, 9))
    both = ads.join(clicks, left_on="id", right_on="ad", how="full", within=("-5m", "5m"))
    counts = both.key_by("id").window(rs.Tumbling("1m")).aggregate(n=rs.count()).collect()
    assert sorted((row["id"], row["window_start"].minute, row["n"]) for row in counts) == [
        (1, 0, 1),
        (2, 1, 1),
        (2, 9, 1),
    ]


def test_a_stream_joins_itself():
    ads, _ = streams(left=(0, 1))
    both = ads.join(ads, on="id", within=(0, 0))
    assert ids(both) == [1, 2]


def test_explain_says_what_is_joined():
    job = rs.Job("joins", runtime="local")
    ads = job.from_items([{"id": 1, "text": "one"}], schema=AD, timestamps=[0])
    clicks = job.from_items([{"ad": 1, "text": "x"}], schema=CLICK, timestamps=[0])
    ads.join(clicks, left_on="id", right_on="ad", how="left", within=("-1h", "10m")).print()
    assert "left on id = ad within -1h to 10m" in job.explain()


@pytest.mark.parametrize(
    ("within", "what", "hint"),
    [
        ("1h", "pair of durations, got '1h'", 'within=("-1h", "10m")'),
        (("1h",), "pair of durations", 'within=("-1h", "10m")'),
        ((1, 2, 3), "pair of durations", 'within=("-1h", "10m")'),
        ((None, "1h"), "pair of durations, and None is none", 'within=("-1h", "10m")'),
        ((True, "1h"), "not a duration: True", "1h30m"),
        ((0.5, 1), "and 0.5 is none", 'within=("-1h", "10m")'),
        (("soon", "1h"), "not a duration: 'soon'", "1h30m"),
        (("1h", "-1h"), r"bounds the wrong way round: within=\(lo, hi\)", "within=('-1h', '1h')"),
        ((1, 0), r"bounds the wrong way round: within=\(lo, hi\)", "within=(0, 1)"),
        ((0, 1 << 62), "longer than 70,000 years", None),
    ],
    ids=str,
)
def test_bounds_that_make_no_sense(within, what, hint):
    with pytest.raises(rs.PlanError, match=what) as error:
        joined(within)
    assert HERE in error.value.where
    assert hint is None or hint in error.value.hint


@pytest.mark.parametrize("side", ["left", "right"])
def test_both_streams_need_event_time(side):
    with pytest.raises(rs.PlanError, match=r"join\(within=\) goes by event time, and") as error:
        joined((0, 1), **{side: None})
    assert "watermark=" in error.value.hint
    assert "assign_timestamps" in error.value.hint


@pytest.mark.parametrize("side", [0, 1])
def test_changelogs_are_refused(side):
    pair = list(streams())
    key = ("id", "ad")[side]
    pair[side] = pair[side].key_by(key).aggregate(n=rs.count(), emit="changes")
    with pytest.raises(rs.PlanError, match=r"join\(within=\) cannot take .* a changelog"):
        pair[0].join(pair[1], left_on="id", right_on="ad", within=(0, 1))


def test_a_kind_that_there_is_not():
    with pytest.raises(rs.PlanError, match="how is one of inner, left, right, full, semi, anti"):
        joined((0, 1), how="outer")
