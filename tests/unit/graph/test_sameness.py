"""Chains that are the same in two plans of a job, made from the same lines at other sizes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

import raystream as rs
from raystream.graph.rescaling import Replan
from raystream.graph.sameness import same, unchanged

ROWS = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("t", pa.timestamp("us", "UTC"))])


class Nothing(rs.Source):
    schema = ROWS

    def splits(self) -> list[rs.Split]:
        return []

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        raise AssertionError("nothing is read here")


def replan(**settings: Any) -> Replan:
    job = rs.Job("same", parallelism=2, **settings)
    rows = job.source(Nothing(), name="read", watermark=rs.WatermarkStrategy("t"))
    doubled = rows.with_columns(v=rs.col("v") * 2).key_by("k")
    counted = doubled.map_with_state(lambda s, row: (s, row), schema=ROWS).uid("count")
    windowed = counted.key_by("v").window(rs.Tumbling("1s")).aggregate(n=rs.count())
    windowed.uid("windowed").print()
    return Replan(job._draft.plan())


def heads(names: Any) -> set[str]:
    return {name.split("→")[0].split("#")[0] for name in names}


MADE = replan()


@pytest.mark.parametrize(
    ("scale", "stay"),
    [
        ({}, {"read", "map_with_state", "window"}),
        ({"read": 3}, {"map_with_state", "window"}),
        ({"windowed": 3}, {"read", "map_with_state"}),
        ({"": 3}, set()),
    ],
)
def test_chains_that_keep_their_size_are_the_same(scale, stay):
    before = MADE.plan({})
    assert heads(unchanged(before, MADE.plan(scale))) == stay


def test_an_operator_that_gets_other_rows_at_another_size_of_its_input_is_another():
    # One subtask sends rows to one subtask; two send what they have grouped.
    one, two = MADE.plan({"count": 1, "windowed": 1}), MADE.plan({"count": 2, "windowed": 1})
    assert "window" not in heads(unchanged(one, two))


def test_plans_of_different_scripts_share_nothing_that_a_user_wrote():
    assert "map_with_state" not in heads(unchanged(MADE.plan({}), replan().plan({})))


def test_a_job_of_other_key_groups_or_limits_shares_nothing():
    before = MADE.plan({})
    for other in (
        dataclasses.replace(before, max_parallelism=64),
        replan(config={"batch_rows_max": 7}).plan({}),
    ):
        assert unchanged(before, other) == frozenset()


class Told:
    def __init__(self, what: Any) -> None:
        self.what = what


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1, True),
        (1, True, False),
        ((1, "a"), (1, "a"), True),
        ((1, 2), (1, 2, 3), False),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": 1}, {"b": 1}, False),
        (pa.int64(), pa.int64(), True),
        (pa.int64(), pa.int32(), False),
        (Told(1), Told(1), True),
        (Told(1), Told(2), False),
        (Told(len), Told(len), True),
        (Told(lambda: 1), Told(lambda: 1), False),
        ({1}, {1}, False),  # nobody looks into it
        (object(), object(), False),
    ],
)
def test_what_is_certain_to_be_the_same(one, other, alike):
    assert same(one, other) is alike
