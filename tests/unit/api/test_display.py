"""What a notebook shows: well-formed pictures that say what the text says."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest

import raystream as rs
from raystream.graph.picture import BOX_HEIGHT, BOX_WIDTH, places

SVG = "{http://www.w3.org/2000/svg}"
CLICKS = pa.schema({"user": pa.int64(), "at": pa.timestamp("us", "UTC")})


def parsed(picture):
    return ET.fromstring(picture)  # noqa: S314  it is our own


def clicks(job):
    return job.from_items([], schema=CLICKS, watermark=rs.WatermarkStrategy("at"))


def test_a_job_is_drawn_with_all_its_operators_and_streams():
    job = rs.Job("drawn & quartered", parallelism=3)
    left, right = clicks(job), clicks(job).named('the "other" <one>')
    counted = left.union(right).key_by("user").window(rs.Tumbling("1m")).aggregate(n=rs.count())
    counted.sink(rs.MemorySink())
    drawn = parsed(job._repr_html_())
    names = [node.text for node in drawn.iter(f"{SVG}title")]
    assert names[0] == "job drawn & quartered"
    operators = [name.split("\n")[0] for name in names[1:]]
    assert operators == [node.name for node in job._draft.plan().nodes if node.spec is not None]
    assert 'the "other" <one>' in operators
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert "p=3" in texts
    assert len(list(drawn.iter(f"{SVG}path"))) == 3  # two into the window, one out of it


def test_boxes_stand_behind_all_that_lead_to_them_and_never_overlap():
    inputs = {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "e": ["c", "d"], "f": ["d"], "g": []}
    at = places(inputs)
    for name, before in inputs.items():
        assert all(at[one].x + BOX_WIDTH < at[name].x for one in before)
    boxes = list(at.values())
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one.x != other.x or abs(one.y - other.y) >= BOX_HEIGHT


def test_no_job_at_all_is_a_picture_too():
    assert parsed(rs.Job("empty")._repr_html_()) is not None


def test_a_stream_shows_its_columns():
    shown = clicks(rs.Job("shown"))._repr_html_()
    assert "<td style='text-align:left'>user</td>" in shown
    assert "timestamp[us, tz=UTC]" in shown
    assert "objects" in rs.Job("objects").from_items([1])._repr_html_()


@pytest.mark.parametrize(
    ("window", "bars"),
    [
        (rs.Tumbling("1m"), 4),
        (rs.Sliding("1m", "20s"), 10),
        (rs.Sliding("1h", "1s"), 12),
        (rs.Cumulative("1d", "6h"), 8),
        (rs.Session("30s"), 3),
        (rs.Session(lambda row: "1s"), 0),
        (rs.TumblingCount(10), 0),
        (rs.Global(), 0),
    ],
    ids=str,
)
def test_windows_are_drawn_as_they_lie_in_time(window, bars):
    windowed = clicks(rs.Job("windows")).key_by("user").window(window)
    shown = windowed._repr_html_()
    drawn = parsed(shown.replace("<br/>", ""))
    assert len(list(drawn.iter(f"{SVG}rect"))) == bars
    assert str(window).split(" ")[0] in shown
    assert "of each user" in shown
    assert repr(windowed) == f"<WindowedStream {window}>"


def test_overlapping_windows_stand_below_each_other():
    windowed = clicks(rs.Job("lanes")).key_by("user").window(rs.Sliding("1m", "30s"))
    rects = [
        (float(one.get("x")), float(one.get("x")) + float(one.get("width")), one.get("y"))
        for one in parsed(windowed._repr_html_()).iter(f"{SVG}rect")
    ]
    for i, (start, stop, lane) in enumerate(rects):
        for other_start, other_stop, other_lane in rects[:i]:
            assert lane != other_lane or stop <= other_start + 1 or other_stop <= start + 1
