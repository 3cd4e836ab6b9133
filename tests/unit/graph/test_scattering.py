"""Where the changes of a key keep their order, as sinks are told."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs
from raystream.contracts.sink import Sink


class Told(Sink):
    """Keeps what it was told of its stream."""

    upserts = True

    def __init__(self):
        self.told = []

    def bound(self, schema, changelog):
        self.told.append((changelog, self.scattered))
        return self

    def open(self, ctx):
        raise AssertionError


def table(job, names, key):
    schema = pa.schema([("op", pa.string()), *((name, pa.int64()) for name in names)])
    return job.from_items([], schema=schema).to_changelog(key=[key], op="op")


def told_of(build):
    job, sink = rs.Job("told"), Told()
    orders, customers = table(job, ["id", "customer"], "id"), table(job, ["cid", "n"], "cid")
    build(orders, customers).sink(sink)
    job.explain()
    return sink.told[-1]


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda o, c: o, ("id",)),
        (lambda o, c: o.with_columns(x=rs.col("customer") + 1), ("id",)),
        (lambda o, c: o.rename({"id": "order"}), ("order",)),
        (
            lambda o, c: (
                joined(o, c)
                .to_rows(op="kind")
                .key_by("n")
                .aggregate(emit="changes", orders=rs.count())
            ),
            ("n",),
        ),
        (
            lambda o, c: o.join(c, left_on="id", right_on="cid", how="left", ttl="forever"),
            ("id",),
        ),
    ],
)
def test_changes_of_a_key_that_stay_together_are_in_order(build, key):
    assert told_of(build) == (key, False)


def joined(o, c):
    return o.join(c, left_on="customer", right_on="cid", how="left", ttl="forever")


@pytest.mark.parametrize(
    "build",
    [
        joined,
        lambda o, c: joined(o, c).filter(rs.col("n") > 1),
        lambda o, c: joined(o, c).rename({"id": "order"}),
    ],
)
def test_changes_that_meet_others_elsewhere_are_scattered(build):
    key, scattered = told_of(build)
    assert key in {("id",), ("order",)}
    assert scattered
