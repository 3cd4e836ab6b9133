"""Window joins and as-of joins by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import with_times
from raystream.testing import At, Checkpoint, Crash, Source, Watermark

LEFT = pa.schema([("k", pa.string()), ("a", pa.int64())])
RIGHT = pa.schema([("k", pa.string()), ("b", pa.int64())])
END = 2**63 - 1


def row(key, **value):
    return {"k": key, **value}


def streams(left, right, schemas=(LEFT, RIGHT)):
    job = rs.Job("by hand")
    sources = zip("lr", (left, right), schemas, strict=True)
    return [job.source(Source(some, schema=schema), name=name) for name, some, schema in sources]


def joined(left, right, how="inner", **ways):
    """Give the rows that come out, in order of time."""
    one, other = streams(left, right)
    events = rs.testing.run(one.join(other, on="k", how=how, **ways)).events
    rows = [(event.ts, *event.row.values()) for event in events if isinstance(event, At)]
    return sorted(rows, key=lambda row: tuple((value is None, value or 0) for value in row[2:]))


def told(joins, story):
    """Play a story to the operator: rows of "l" and "r", and watermarks; give what comes out."""
    spec = joins(*streams([At(0, row(None, a=None))], [At(0, row(None, b=None))]))._tip.node.spec
    operator = spec.build()
    context = OpenContext()
    operator.open(context)
    out = []

    def take(outs):
        for batch in outs:
            times = batch.timestamps.tolist()
            out.extend(
                (t, *r.values()) for t, r in zip(times, batch.visible.to_pylist(), strict=True)
            )

    for item in [*story, END]:
        if isinstance(item, int):
            take(operator.on_watermark(item))
            out.append(item)
            continue
        side, time, key, value = item
        schema, port = ((LEFT, 0), (RIGHT, 1))[side == "r"]
        record = pa.RecordBatch.from_pylist(
            [{schema.names[0]: key, schema.names[1]: value}], schema
        )
        take(operator.on_batch(port, with_times(record, np.array([time]))))
    return out[:-1], context.metrics.counter("late_rows").value


LEFTS = [At(1, row("x", a=1)), At(2, row("x", a=2)), At(3, row("y", a=3)), At(4, row(None, a=4))]
RIGHTS = [At(2, row("x", b=1)), At(9, row("x", b=2)), At(3, row("z", b=3)), At(4, row(None, b=4))]
CROSS = [(9, "x", 1, 1), (9, "x", 1, 2), (9, "x", 2, 1), (9, "x", 2, 2)]
LEFT_ALONE = [(9, "y", 3, None), (9, None, 4, None)]
RIGHT_ALONE = [(9, "z", None, 3), (9, None, None, 4)]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("inner", CROSS),
        ("left", CROSS + LEFT_ALONE),
        ("right", CROSS + RIGHT_ALONE),
        ("full", CROSS + LEFT_ALONE + RIGHT_ALONE),
        ("semi", [(9, "x", 1), (9, "x", 2)]),
        ("anti", [(9, "y", 3), (9, None, 4)]),
    ],
)
def test_each_kind_of_join_in_one_window(how, wanted):
    assert joined(LEFTS, RIGHTS, how, window=rs.Tumbling(10)) == wanted


def test_rows_of_different_windows_do_not_meet():
    assert joined([At(9, row("x", a=1))], [At(10, row("x", b=1))], window=rs.Tumbling(10)) == []


def test_c13_rows_meet_in_every_sliding_window_that_both_lie_in_also_before_1970():
    # @-1 lies in [-5, 5) and [-10, 0), @-6 in [-10, 0) and [-15, -5), @4 in [0, 10) and [-5, 5).
    rights = [At(-6, row("x", b=6)), At(4, row("x", b=4))]
    ways = {"window": rs.Sliding(10, 5)}
    assert joined([At(-1, row("x", a=1))], rights, **ways) == [(4, "x", 1, 4), (-1, "x", 1, 6)]
    assert joined([At(-1, row("x", a=1))], rights, "semi", **ways) == [
        (-1, "x", 1),
        (4, "x", 1),
    ]
    assert joined([At(-1, row("x", a=1))], rights, "right", **ways) == [
        (4, "x", 1, 4),
        (-1, "x", 1, 6),
        (9, "x", None, 4),
        (-6, "x", None, 6),
    ]


def test_a_row_between_windows_lies_in_none_and_is_not_late():
    one, other = streams([At(7, row("x", a=1))], [At(11, row("x", b=1))])
    run = rs.testing.run(one.join(other, on="k", how="full", window=rs.Sliding(5, 10)))
    assert run.events == [At(14, {"k": "x", "a": None, "b": 1}), Watermark(END)]


def test_cumulative_windows_give_what_has_come_so_far():
    lefts, rights = [At(1, row("x", a=1)), At(12, row("x", a=2))], [At(4, row("x", b=1))]
    assert joined(lefts, rights, window=rs.Cumulative(20, 5)) == [
        (4, "x", 1, 1),
        (9, "x", 1, 1),
        (14, "x", 1, 1),
        (19, "x", 1, 1),
        (14, "x", 2, 1),
        (19, "x", 2, 1),
    ]


def test_local_days_are_windows_too():
    hour = 3_600_000_000
    # Midnight in Berlin is 23:00 UTC in winter.
    lefts, rights = [At(22 * hour, row("x", a=1))], [At(h * hour, row("x", b=h)) for h in (0, 23)]
    day = rs.Tumbling("1d", tz="Europe/Berlin")
    assert joined(lefts, rights, window=day) == [(23 * hour - 1, "x", 1, 0)]


def test_a_session_is_kept_open_by_rows_of_both_sides():
    lefts = [At(0, row("x", a=1)), At(20, row("x", a=2))]
    session = {"window": rs.Session(10)}
    # The right's row at 10 touches both; the one at 31 is a session of its own.
    assert joined(lefts, [At(10, row("x", b=1)), At(31, row("x", b=2))], "full", **session) == [
        (29, "x", 1, 1),
        (29, "x", 2, 1),
        (40, "x", None, 2),
    ]
    # Without it there are two.
    assert joined(lefts, [Watermark(0)], "left", **session) == [
        (9, "x", 1, None),
        (29, "x", 2, None),
    ]


def test_c17_a_row_is_late_only_for_windows_that_have_fired():
    """[0, 10) has fired for the right's row at 8, and all windows of the one at 4."""
    story = [("l", 3, "x", 1), ("l", 8, "x", 2), 12, ("r", 8, "x", 8), ("r", 4, "x", 4), 13, 14]
    assert told(lambda left, right: left.join(right, on="k", window=rs.Sliding(10, 5)), story) == (
        [12, 13, (14, "x", 2, 8), 14],
        1,
    )


def test_c15_a_row_at_the_last_instant_of_a_window_comes_in_time():
    story = [("l", 3, "x", 1), 8, ("r", 3, "x", 2), 9, ("l", 5, "x", 3)]
    assert told(
        lambda left, right: left.join(right, on="k", how="left", window=rs.Tumbling(10)), story
    ) == ([8, (9, "x", 1, 2), 9], 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("window", [rs.Sliding(10, 5), rs.Session(3)])
def test_nothing_is_lost_or_comes_twice_in_a_job_that_crashes(seed, window):
    def lefts(*words):
        rows = [At(t, row(f"k{t % 3}", a=t)) for t in range(40)]
        return [*rows[:20], Watermark(10), *words, *rows[20:]]

    rights = [At(t, row(f"k{t % 4}", b=t)) for t in range(0, 40, 2)]

    def rows_of(*words, **choices):
        one, other = streams(lefts(*words), rights)
        made = one.join(other, on="k", how="full", window=window)
        return sorted(map(repr, rs.testing.run(made, **choices).rows))

    wanted = rows_of()
    assert rows_of(Checkpoint(), Crash(), seed=seed, crashes=2, parallelism=3) == wanted


def test_keys_of_other_names_and_types_and_columns_of_one_name():
    schemas = (
        pa.schema([("id", pa.int32()), ("v", pa.string())]),
        pa.schema([("ref", pa.int64()), ("v", pa.string())]),
    )
    lefts = [At(1, {"id": 7, "v": "l"})]
    rights = [At(1, {"ref": 7, "v": "r"}), At(2, {"ref": 2**40, "v": "far"})]
    one, other = streams(lefts, rights, schemas)
    made = one.join(other, left_on="id", right_on="ref", how="full", window=rs.Tumbling(10))
    assert sorted(rs.testing.run(made).rows, key=lambda row: row["id"]) == [
        {"id": 7, "v": "l", "v_right": "r"},
        {"id": 2**40, "v": None, "v_right": "far"},
    ]


# as_of_join --------------------------------------------------------------------------------------


def as_of(lefts, rights, **choices):
    one, other = streams(lefts, rights)
    return rs.testing.run(one.as_of_join(other, on="k", **choices)).events


RATES = [At(1, row("EUR", b=11)), At(10, row("EUR", b=12))]


@pytest.mark.parametrize("late", [False, True])
def test_c24_an_order_has_the_rate_of_its_time_whenever_it_comes(late):
    rates = [("r", 1, "EUR", 11), ("r", 10, "EUR", 12)]
    order = ("l", 5, "EUR", 1)
    story = [*rates, order] if late else [order, *rates]
    wanted = [4, (5, "EUR", 1, 11), 5, 20]
    assert told(lambda left, right: left.as_of_join(right, on="k"), [*story, 4, 5, 20]) == (
        wanted,
        0,
    )


def test_a_rate_at_the_same_time_counts_and_of_equal_times_the_last():
    rates = [At(5, row("EUR", b=1)), At(5, row("EUR", b=2)), At(5, row("USD", b=3))]
    assert as_of([At(5, row("EUR", a=1))], rates)[0] == At(5, {"k": "EUR", "a": 1, "b": 2})


def test_what_matches_nothing_has_nulls_or_does_not_come_out():
    orders = [At(0, row("EUR", a=1)), At(3, row("USD", a=2)), At(4, row(None, a=3))]
    rates = [*RATES, At(1, row(None, b=13))]
    assert as_of(orders, rates)[:-1] == [
        At(0, {"k": "EUR", "a": 1, "b": None}),
        At(3, {"k": "USD", "a": 2, "b": None}),
        At(4, {"k": None, "a": 3, "b": None}),
    ]
    assert as_of(orders, rates, how="inner") == [Watermark(END)]


def test_a_tolerance_is_how_old_a_rate_may_be():
    orders = [At(time, row("EUR", a=time)) for time in (3, 4, 10)]
    rates = [event.row["b"] for event in as_of(orders, RATES, tolerance=2)[:-1]]
    assert rates == [11, None, 12]
    assert len(as_of(orders, RATES, tolerance=2, how="inner")) == 3


def test_rows_of_either_side_that_are_late_are_left_out():
    story = [
        ("r", 10, "EUR", 12),
        20,
        ("l", 20, "EUR", 1),
        ("r", 15, "EUR", 15),
        ("l", 21, "EUR", 2),
    ]
    wanted = [20, (21, "EUR", 2, 12), 21]
    assert told(lambda left, right: left.as_of_join(right, on="k"), [*story, 21]) == (wanted, 2)


def test_rows_that_are_due_and_not_yet_matched_keep_their_rates_in_a_snapshot():
    """The watermark is far beyond them, and a rate too old for what comes next is not for them."""
    rows = {"rates": [(0, 10), (100, 11)], "orders": [(1, 1), (2, 2), (101, 3)]}
    one, other = streams([At(0, row(None, a=None))], [At(0, row(None, b=None))])
    spec = one.as_of_join(other, on="k", tolerance=5)._tip.node.spec
    context = OpenContext(limits=Limits(firing_rows_max=2, batch_rows_max=1))
    operator, out = spec.build(), []
    operator.open(context)
    for port, (name, schema) in enumerate((("orders", LEFT), ("rates", RIGHT))):
        times = np.array([time for time, _ in rows[name]])
        values = [{"k": "x", schema.names[1]: value} for _, value in rows[name]]
        record = pa.RecordBatch.from_pylist(values, schema)
        list(operator.on_batch(port, with_times(record, times)))
    for _ in range(10):
        # One batch of one row, and then another operator takes up what was kept.
        some = next((b for b in operator.on_watermark(1_000) if b.num_rows), None)
        out += [] if some is None else [tuple(r.values()) for r in some.visible.to_pylist()]
        kept = operator.snapshot()
        operator = spec.build()
        operator.open(context)
        operator.restore(kept)
    assert out == [("x", 1, 10), ("x", 2, 10), ("x", 3, 11)]
