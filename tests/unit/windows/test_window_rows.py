"""What windows that are gathered row by row give, and what they refuse."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pyarrow as pa
import pytest
from windows_by_hand import SCHEMA, ByHand, stream

import raystream as rs
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import Objects

pytestmark = pytest.mark.usefixtures("by_row")

COL = rs.col
both = pytest.mark.parametrize("columnar", [True, False], ids=["columns", "objects"])
SESSION = rs.Session(10)


def sessions(columnar=True):
    return stream(columnar=columnar).key_by("k").window(SESSION)


# Outcomes ----------------------------------------------------------------------------------------


@both
def test_reduce_gives_what_the_function_gives_and_nothing_else(columnar):
    it = ByHand(sessions(columnar).reduce(lambda a, b: {"k": a["k"], "v": a["v"] * 10 + b["v"]}))
    it.rows((20, 1), (0, 2), (21, "b", 7), (11, 3), (5, 4))
    # Merged sessions are joined in order of time, then the row that brought them together.
    assert it.end() == [(29, {"v": 334}), (30, {"k": "b", "v": 7})]


@both
def test_apply_sees_key_window_and_rows_in_order_of_arrival(columnar):
    def seen(key, window, rows):
        yield {"key": key, "from": window.start, "to": window.end}
        yield from (row["v"] for row in rows)

    it = ByHand(sessions(columnar).apply(seen))
    it.rows((20, 1), (0, 2), (10, 3))
    head = {"key": "a", "from": 0, "to": 30}
    assert it.end() == [(29, head), (29, 1), (29, 2), (29, 3)]


def test_apply_with_a_schema_gives_columns():
    made = sessions().apply(
        lambda key, window, rows: [{"n": len(rows)}], schema=pa.schema({"n": pa.int64()})
    )
    assert made.schema == pa.schema({"n": pa.int64()})
    it = ByHand(made)
    it.rows((0, 1), (3, 2))
    assert it.end() == [(12, {"n": 2})]


class Numbered:
    """Made once a subtask, with arguments."""

    def __init__(self, first):
        self.count = itertools.count(first)

    def open(self, ctx):
        assert ctx.operator == "it"

    def __call__(self, key, window, rows):
        return [next(self.count)]


def test_functions_may_be_classes_and_take_arguments():
    it = ByHand(sessions().apply(Numbered, fn_kwargs={"first": 5}))
    it.rows((0, 1), (50, 1))
    assert it.end() == [(9, 5), (59, 6)]
    it = ByHand(sessions().reduce(lambda a, b, by: {**a, "v": by}, fn_kwargs={"by": 9}))
    it.rows((0, 1), (1, 1))
    assert it.end() == [(10, {"v": 9})]


class Broken:
    def __init__(self, moment):
        self.moment = moment

    def open(self, ctx):
        assert self.moment != "open"

    def close(self):
        assert self.moment != "close", "and it was closed"

    def __call__(self, key, window, rows):
        return rows


def test_functions_that_fail_to_open_or_close_say_so():
    rows = [{"k": "a", "v": 1}]
    for moment in ("open", "close"):
        given = rs.Job("t").from_items(rows, timestamps=[0])
        made = given.key_by("k").window(SESSION).apply(Broken(moment))
        with pytest.raises(rs.JobFailed, match="AssertionError"):
            made.collect()


def test_without_a_key_the_key_is_none():
    made = stream().window_all(SESSION).apply(lambda key, window, rows: [(key, len(rows))])
    it = ByHand(made, keyed=False)
    it.rows((0, "a", 1), (3, "b", 2))
    assert it.end() == [(12, (None, 2))]
    assert made._tip.node.single


@pytest.mark.parametrize("window", [SESSION, rs.Tumbling(100)])
def test_behind_a_key_all_rows_may_still_be_gathered_together(window):
    rows = [{"k": "a", "v": 1}, {"k": "b", "v": 2}]
    given = rs.Job("t").from_items(rows, timestamps=[0, 1])
    for keyed in (given.key_by(lambda row: row["k"]), given.key_by("k"), given):
        (row,) = keyed.window_all(window).aggregate(n=rs.sum("v")).collect()
        assert (row["n"], list(row)) == (3, ["window_start", "window_end", "n"])


def test_keys_of_any_type_come_out_as_they_went_in():
    from datetime import date
    from decimal import Decimal

    table = pa.table(
        {
            "text": ["a", "b", "a"],
            "day": pa.array([date(2024, 1, 1)] * 3),
            "price": pa.array([Decimal("1.50")] * 3, pa.decimal128(9, 2)),
            "flag": [True, None, True],
            "at": pa.array([0, 0, 0], pa.timestamp("ms")),
        }
    )
    keys = table.schema.names
    s = rs.Job("t").from_items(table, timestamps=[0, 1, 2])
    made = s.key_by(*keys).window(rs.Session(10)).late_to("x").aggregate(n=rs.count())
    rows = made.collect()
    assert [tuple(row[key] for key in keys) for row in rows] == [
        tuple(row.values()) for row in table.slice(1).to_pylist()
    ]


def test_several_key_columns_are_a_tuple():
    made = stream().key_by("k", "v").window(SESSION).apply(lambda key, window, rows: [key])
    it = ByHand(made)
    it.rows((0, "a", 1), (3, "a", 2), (4, "a", 1))
    assert it.end() == [(12, ("a", 2)), (13, ("a", 1))]


@both
def test_the_best_rows_of_a_session(columnar):
    it = ByHand(sessions(columnar).top_k(2, by="v", rank="place"))
    it.rows((0, 3), (1, 5), (2, 4), (3, 5))
    assert it.end() == [(12, {"v": 5, "place": 1}), (12, {"v": 5, "place": 2})]
    it = ByHand(sessions(columnar).top_k(1, by=["v"], descending=[False], ties=True))
    it.rows((0, 3), (1, 5), (2, 3))
    assert it.end() == [(11, {"v": 3}), (11, {"v": 3})]


def test_objects_are_ranked_by_functions_too():
    it = ByHand(sessions(columnar=False).top_k(1, by=lambda row: -row["v"]))
    it.rows((0, 3), (1, 5))
    assert it.end() == [(10, {"v": 3})]
    expression = ByHand(sessions().top_k(1, by=-COL("v")))
    expression.rows((0, 3), (1, 5))
    assert expression.end() == [(10, {"v": 3})]


@both
def test_one_row_of_a_session_is_kept(columnar):
    for keep, kept in (("first", 3), ("last", 5)):
        it = ByHand(sessions(columnar).deduplicate(keep=keep))
        it.rows((1, 3), (4, 5), (4, 6), (2, 7))
        assert it.end() == [(13, {"v": kept})]


def test_without_event_time_the_last_to_come_is_the_last():
    made = stream(timed=False).key_by("k").window(rs.TumblingCount(3)).deduplicate(keep="last")
    assert ByHand(made).rows((0, 1), (0, 2), (0, 3)) == [(None, {"v": 3})]


def test_windows_of_rows_need_no_event_time_and_give_none():
    made = (
        stream(timed=False)
        .key_by("k")
        .window(rs.SlidingCount(2, 1))
        .aggregate(n=rs.sum("v"), first=rs.first("v"), last=rs.last("v"))
    )
    assert made.schema.names == ["k", "n", "first", "last"]
    rows = [row for _, row in ByHand(made).rows((0, 1), (0, 2), (0, 4))]
    assert rows == [
        {"n": 1, "first": 1, "last": 1},
        {"n": 3, "first": 1, "last": 2},
        {"n": 6, "first": 2, "last": 4},
    ]


class Range(rs.AggregateFunction):
    type = pa.int64()

    def create(self):
        return []

    def add(self, acc, row):
        assert set(row) == {"k", "v"}, "rows as users see them"
        return [*acc, row["v"]]

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return max(acc) - min(acc)


def test_conditions_expressions_and_functions_of_the_users_own_go_together():
    windowed = stream().key_by("k").window(SESSION).late_to("late")
    it = ByHand(
        windowed.aggregate(
            twice=rs.sum(COL("v") * 2),
            odd=rs.count().where(COL("v") % 2 == 1),
            range=Range(),
            small=Range().where(COL("v") < 5),
        )
    )
    it.rows((0, 1), (20, 8), (10, 3))
    expected = {"twice": 24, "odd": 2, "range": 7, "small": 2, "window": (0, 30)}
    assert it.watermark(50) == [(29, expected)]
    it.rows((1, "b", 2))
    assert it.late == [(1, {"k": "b", "v": 2})]


def test_late_rows_keep_the_columns_that_nobody_aggregates():
    made = stream().key_by("k").window(SESSION).late_to("late").aggregate(n=rs.count())
    late = made.side_output("late")
    assert late.schema == SCHEMA
    with pytest.raises(PlanError, match='no side output "early". It has: "late"'):
        made.side_output("early")
    with pytest.raises(PlanError, match="no side output"):
        sessions().aggregate(n=rs.count()).side_output("late")


def test_choices_give_a_new_stream_and_leave_the_old_one():
    plain = sessions()
    late = plain.allowed_lateness("1s").late_to("late")
    assert plain.aggregate(n=rs.count())._tip.node.spec.lateness_us == 0
    spec = late.aggregate(n=rs.count())._tip.node.spec
    assert (spec.lateness_us, spec.late_tag) == (1_000_000, "late")


# Firings -----------------------------------------------------------------------------------------


def test_a_firing_holds_no_more_than_a_batch_of_what_a_function_makes():
    made = []

    def many(key, window, rows):
        for number in range(1_000):
            made.append(number)
            yield number

    it = ByHand(sessions().apply(many), rows_max=10)
    it.rows((0, 1))
    outs = it.operator.on_watermark(100)
    batch = next(outs)
    assert isinstance(batch, Objects)
    assert (batch.num_rows, len(made)) == (10, 10)
    outs.close()
    assert it.operator.timer_due_us() == 0, "the rest is due at once"
    it.again()
    assert [row for _, row in it.advance(0)] == list(range(10, 1_000))


def test_many_windows_fire_a_batch_at_a_time_and_leave_state_before():
    it = ByHand(sessions().aggregate(n=rs.count()), rows_max=4)
    it.rows(*((time * 100, time) for time in range(50)))
    outs = it.operator.on_watermark(10_000)
    assert next(outs).num_rows == 4
    outs.close()
    assert len(it.timers) == 46
    assert len(it.watermark(10_000)) == 46


@both
@pytest.mark.parametrize("window", [rs.Tumbling(10), rs.Session(10)])
def test_a_window_that_fired_fires_again_where_a_restored_watermark_is_behind_it(columnar, window):
    windowed = stream(columnar=columnar).key_by("k").window(window).allowed_lateness(50)
    it, other = (ByHand(windowed.aggregate(n=rs.sum("v"))) for _ in range(2))
    it.rows((0, 1))
    assert [row["n"] for _, row in it.watermark(20)] == [1]
    other.watermark(5)
    it.again(other)
    assert it.rows((0, 2)) == []
    assert [row["n"] for _, row in it.watermark(20)] == [3]
    assert [row["n"] for _, row in it.rows((0, 4))] == [7]


def test_a_late_row_fires_all_its_windows_that_are_not_gone():
    made = stream().key_by("k").window(rs.Sliding(10, 2)).allowed_lateness(4)
    it = ByHand(made.aggregate(n=rs.sum("v")), rows_max=2)
    it.watermark(14)
    # Those that end by 11 are gone; the next two have fired; the last one is still to come.
    assert it.rows((8, 1)) == [(11, {"n": 1, "window": (2, 12)}), (13, {"n": 1, "window": (4, 14)})]
    assert [time for time, _ in it.end()] == [15, 17]


# What is refused ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("gap", "says"),
    [
        (0, "is 0, which is no length longer than nothing"),
        ("-5s", "is '-5s', which is no length"),
        (None, "is None, which is no duration"),
        ("soon", "is 'soon', which is no duration"),
        (2.5, "is 2.5, which is no duration"),
        (1 << 62, "longer than 70,000 years"),
    ],
)
def test_a_gap_that_is_none_is_refused_with_its_row(columnar, gap, says):
    windowed = stream(columnar=columnar).key_by("k").window(rs.Session(lambda row: gap))
    it = ByHand(windowed.aggregate(n=rs.count()))
    with pytest.raises(UserFunctionError, match=says) as error:
        it.rows((0, 77))
    assert "'v': 77" in error.value.row


def test_gaps_come_in_every_form_of_a_duration():
    gaps = iter(["10us", timedelta(microseconds=3), 5])
    it = ByHand(
        stream().key_by("k").window(rs.Session(lambda row: next(gaps))).aggregate(n=rs.count())
    )
    it.rows((0, 1), (100, 1), (200, 1))
    assert [row["window"] for _, row in it.end()] == [(0, 10), (100, 103), (200, 205)]


def test_a_gap_that_fails_tells_the_row():
    it = ByHand(
        stream().key_by("k").window(rs.Session(lambda row: row["w"])).aggregate(n=rs.count())
    )
    with pytest.raises(UserFunctionError, match="KeyError: 'w'") as error:
        it.rows((0, 1))
    assert "'v': 1" in error.value.row


@both
def test_null_keys_are_keys(columnar):
    it = ByHand(sessions(columnar).aggregate(n=rs.sum("v")))
    it.rows((0, None, 1), (1, 2), (2, None, 4))
    it.again()
    assert it.end() == [
        (10, {"n": 2, "window": (1, 11)}),
        (11, {"k": None, "n": 5, "window": (0, 12)}),
    ]


@pytest.mark.parametrize("name", ["window_start", "window_end"])
@pytest.mark.parametrize("window", [SESSION, rs.TumblingCount(2), rs.Global()])
def test_a_key_column_that_is_the_windows_own_is_refused(name, window):
    with pytest.raises(PlanError, match=f'key column cannot be called "{name}"'):
        stream().rename({"k": name}).key_by(name).window(window)


def test_windows_of_rows_leave_the_names_of_bounds_free():
    made = stream().key_by("k").window(rs.TumblingCount(1)).aggregate(window_start=rs.sum("v"))
    assert made.schema.names == ["k", "window_start"]
    with pytest.raises(PlanError, match='"window_start" is taken by the window'):
        sessions().aggregate(window_start=rs.sum("v"))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sessions().reduce(None), "takes a function"),
        (lambda: sessions().apply(3), "takes a function"),
        (lambda: sessions().deduplicate(keep="newest"), r'"first" or "last", got \'newest\''),
        (lambda: sessions(columnar=False).top_k(1, by=COL("v")), "carries objects"),
        (lambda: sessions(columnar=False).top_k(1, by=["v"], descending=[]), "as many descending"),
        (lambda: stream().key_by("k").window(rs.Session), "takes a window, got <class"),
        (lambda: stream(timed=False).key_by("k").window(SESSION), "no watermark strategy"),
        (lambda: stream(timed=False).window_all(rs.Cumulative(10, 5)), "no watermark strategy"),
    ],
)
def test_what_makes_no_result_is_refused_where_it_is_written(call, says):
    with pytest.raises(PlanError, match=says):
        call()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"v": 1}, r"return \[row\], or yield"),
        ("text", r"return \[row\], or yield"),
        (7, r"return \[row\], or yield"),
    ],
)
def test_apply_that_returns_one_row_is_told_to_return_a_list(made, says):
    it = ByHand(sessions().apply(lambda key, window, rows: made))
    it.rows((0, 1))
    with pytest.raises(UserFunctionError, match="where rows are expected") as error:
        it.end()
    assert "return [row], or yield" in (error.value.hint or "")


def test_apply_that_returns_none_gives_no_row():
    it = ByHand(sessions().apply(lambda key, window, rows: None))
    it.rows((0, 1))
    assert it.end() == []


def test_rows_that_do_not_fit_the_columns_are_refused():
    it = ByHand(sessions().reduce(lambda a, b: {"k": a["k"]}))
    it.rows((0, 1), (1, 2))
    with pytest.raises(UserFunctionError, match='has no "v"'):
        it.end()


def test_a_sum_that_overflows_fails():
    it = ByHand(sessions().aggregate(n=rs.sum("v")))
    it.rows((0, 2**62), (1, 2**62))
    with pytest.raises(UserFunctionError, match="does not fit int64"):
        it.end()


def test_a_sum_of_decimals_is_exact():
    from decimal import Decimal

    digits = Decimal("12345678901234567890123456789012.345678")
    table = pa.table({"k": ["a", "a"], "d": pa.array([digits, digits], pa.decimal128(38, 6))})
    s = rs.Job("t").from_items(table, timestamps=[0, 1])
    (row,) = s.key_by("k").window(SESSION).aggregate(d=rs.sum("d")).collect()
    assert row["d"] == Decimal("24691357802469135780246913578024.691356")


def test_a_changelog_is_refused_with_the_way_out():
    from dataclasses import replace

    s = stream()
    s._tip.node.type = replace(s._tip.node.type, changelog=("k",))
    for window in (lambda: s.key_by("k").window(SESSION), lambda: s.window_all(rs.Tumbling(1))):
        with pytest.raises(PlanError, match="is a changelog") as error:
            window()
        assert 'to_rows(op="op")' in error.value.hint


def test_windows_may_stand_on_disk():
    pytest.importorskip("rocksdict")
    made = sessions().late_to("late").allowed_lateness(5).apply(lambda key, window, rows: [rows])
    folded = sessions().late_to("late").aggregate(n=rs.collect("v"))
    for one in (made, folded):
        it = ByHand(one, state_backend="disk")
        it.rows((0, 1), (20, 2), (0, "b", 7))
        it.again()
        it.rows((10, 3))
        out = it.end()
        it.operator.close()
        assert [time for time, _ in out] == [9, 29]
    assert [row["n"] for _, row in out] == [[7], [1, 2, 3]]
