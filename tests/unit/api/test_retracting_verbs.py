"""Aggregates and top_k behind a changelog, as a job is written."""

from collections import Counter

import pyarrow as pa
import pytest

import raystream as rs
from raystream.errors import PlanError
from raystream.operators.running_aggregate import RunningAggregateSpec
from raystream.operators.top_k import TopKSpec

ROWS = pa.table({"k": [*"aabac"], "c": [*"xxxxy"], "v": [1, 5, 2, 3, 9]})


class Longest(rs.AggregateFunction):
    type = pa.string()

    def create(self):
        return ""

    def add(self, acc, row):
        return max(acc, row["k"], key=len)

    def merge(self, a, b):
        return max(a, b, key=len)

    def result(self, acc):
        return acc


class Texts(Longest):
    def create(self):
        return Counter()

    def retract(self, acc, row):
        acc[row["k"]] -= 1
        return acc


def finals():
    rows = rs.Job("t").from_items(ROWS)
    return rows.key_by("k", "c").aggregate(final=rs.max("v"), n=rs.count(), emit="changes")


def test_an_aggregate_of_a_changelog_takes_rows_back():
    averages = finals().key_by("c").aggregate(avg=rs.mean("final"), emit="changes")
    spec = averages._tip.node.spec
    assert isinstance(spec, RunningAggregateSpec)
    assert spec.signed
    assert averages.changelog == ("c",)
    (given,) = averages._tip.node.inputs
    assert given.prepared is not None
    assert given.prepared.type.wire.names == ["c", "final", "__op"]


def test_an_aggregate_of_plain_rows_does_not():
    assert not finals()._tip.node.spec.signed


def test_what_keeps_single_rows_is_given_them_whole():
    lasts = finals().key_by("c").aggregate(last=rs.last("final"))
    assert lasts.changelog is None
    (given,) = lasts._tip.node.inputs
    assert given.prepared is None


def test_top_k_of_a_changelog_sees_what_rows_do():
    best = finals().key_by("c").top_k(2, by="final", rank="r", emit="changes")
    spec = best._tip.node.spec
    assert isinstance(spec, TopKSpec)
    assert spec.signed
    assert best.changelog == ("c", "r")
    assert set(best.schema.names) == {"k", "c", "final", "n", "r"}


@pytest.mark.parametrize(
    ("aggregate", "named", "way_out"),
    [
        (rs.approx_count_distinct("k"), "approx_count_distinct", "count_distinct"),
        (Longest(), "Longest", "retract(self, acc, row)"),
    ],
)
def test_what_cannot_take_back_is_refused_with_the_way_out(aggregate, named, way_out):
    keyed = finals().key_by("c")
    with pytest.raises(PlanError) as caught:
        keyed.aggregate(x=aggregate, emit="changes")
    assert "x" in caught.value.message
    assert named in caught.value.message
    assert way_out in caught.value.hint
    assert "to_rows" in caught.value.hint
    assert "test_retracting_verbs.py" in caught.value.where


def test_an_own_aggregate_that_can_take_back_is_taken():
    assert finals().key_by("c").aggregate(x=Texts()).schema.names == ["c", "x"]


def test_aggregates_over_rows_before_take_no_changelog():
    keyed = finals().key_by("c")
    with pytest.raises(PlanError, match="changelog"):
        keyed.aggregate(many=rs.count(), over=3)


def test_the_mean_of_maxima_follows_the_maxima():
    means = finals().key_by("c").aggregate(mean=rs.mean("final"), n=rs.count(), emit="changes")
    rows = sorted(means.collect(), key=lambda row: row["c"])
    assert rows == [{"c": "x", "mean": 3.5, "n": 2}, {"c": "y", "mean": 9.0, "n": 1}]


def test_the_best_of_maxima_follow_them_through_a_filter():
    best = finals().key_by("c").top_k(1, by="final", rank="r", emit="changes")
    dear = best.filter(rs.col("final") < 9).select("k", "r", "final")
    assert dear.collect() == [{"k": "a", "r": 1, "final": 5}]


def test_a_condition_holds_for_what_is_taken_back_too():
    some = rs.max("final").where(rs.col("k") == "b")
    rows = finals().key_by(d=rs.col("c")).aggregate(x=some, emit="final").collect()
    assert sorted(rows, key=lambda row: row["d"]) == [{"d": "x", "x": 2}, {"d": "y", "x": None}]
