"""Functions, state, timers and aggregates that are asked for what makes no sense."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest
from bad_input import KINDS, outcome, stream

import raystream as rs

HERE = Path(__file__).name
NAN = float("nan")
ROWS = [{"k": "a", "v": 1.0}, {"k": "a", "v": 2.0}]
Value = rs.ValueState


def keyed(kind):
    return stream(kind, ROWS, [1, 2]).key_by("k")


def with_state(asked, do=None):
    """Make a process function that asks for something in open, and does something for a row."""

    class Asking(rs.KeyedProcessFunction):
        def open(self, ctx):
            self.got = asked(ctx)

        def process(self, row, ctx):
            return [] if do is None else do(self.got, ctx)

    return Asking()


TWICE = [
    (Value("a", type=pa.int64()), Value("a", type=pa.string()), "ValueState(type=string), but was"),
    (Value("a"), rs.ListState("a"), "a ListState, but was a ValueState before"),
    (Value("a"), Value("a", type=pa.int64()), "a ValueState(type=int64), but was a ValueState"),
    (rs.MapState("a"), rs.ReducingState("a", max), "a ReducingState, but was a MapState before"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("one", "other", "told"), TWICE, ids=[told for *_, told in TWICE])
def test_a_name_is_of_one_state(one, other, told, kind):
    fn = with_state(lambda ctx: (ctx.state(one), ctx.state(other)))
    said = outcome(keyed(kind).process(fn).collect)
    assert 'process#1 failed in open: state "a" is a ' in said
    assert told in said
    assert "hint: give each state of an operator a name of its own" in said
    assert HERE in said


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_state_asked_for_twice_is_one(kind):
    def asked(ctx):
        return [ctx.state(Value("a", type=pa.int64(), default=0)) for _ in range(2)]

    def do(states, ctx):
        states[0].update(states[0].value() + 1)
        return [states[1].value()]

    assert keyed(kind).process(with_state(asked, do)).collect() == [1, 2]


STATE = [
    (lambda c: c.state("a"), None, "'a' describes no state"),
    (lambda c: c.state(Value("a")).value(), None, "there is no key here"),
    (lambda c: c.state(Value("a", type=pa.int64())), lambda s, c: s.update("x"), "'x' (a str)"),
    (lambda c: c.state(Value("a", type=pa.int64())), lambda s, c: s.update(1.5), "1.5 (a float)"),
    (lambda c: c.state(Value("a", type=pa.int64())), lambda s, c: s.update(NAN), "nan (a float)"),
    (lambda c: c.state(Value("a", type=pa.int8())), lambda s, c: s.update(300), "300 (an int)"),
    (lambda c: c.state(rs.MapState("a")), lambda s, c: s.put([1], 2), "a key cannot be a list"),
    (lambda c: c.state(rs.MapState("a")), lambda s, c: [s["q"]], "KeyError: 'q'"),
    (lambda c: 1 / 0, None, "process#1 failed in open: ZeroDivisionError"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "do", "told"), STATE, ids=[told for *_, told in STATE])
def test_what_a_state_does_not_take_is_told_with_the_line(asked, do, told, kind):
    said = outcome(keyed(kind).process(with_state(asked, do)).collect)
    assert "process#1 failed" in said
    assert told in said
    assert HERE in said


TIMERS = [(None, "None"), (1.5, "1.5"), (NAN, "nan"), ("1s", "'1s'"), (1 << 63, "64 bits hold")]


@pytest.mark.parametrize("domain", ["event_time", "processing_time"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("time", "told"), TIMERS, ids=[told for _, told in TIMERS])
def test_a_timer_is_set_for_a_point_in_time(time, told, kind, domain):
    for verb in ("register", "delete"):
        fn = with_state(
            lambda ctx: None,
            lambda got, ctx, verb=verb: getattr(ctx.timers, f"{verb}_{domain}")(time),
        )
        said = outcome(keyed(kind).process(fn).collect)
        assert "process#1 failed: a timer is set for" in said
        assert told in said


class AtBothEnds(rs.KeyedProcessFunction):
    def process(self, row, ctx):
        for time in (-(1 << 63), dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc), (1 << 63) - 1):
            ctx.timers.register_event_time(time)

    def on_timer(self, timestamp, ctx):
        yield timestamp


@pytest.mark.parametrize("kind", KINDS)
def test_timers_at_both_ends_of_time_fire_once(kind):
    year_1 = -62_135_596_800_000_000
    assert keyed(kind).process(AtBothEnds).collect() == [-(1 << 63), year_1, (1 << 63) - 1]


class Returning(rs.KeyedProcessFunction):
    def __init__(self, value):
        self.value = value

    def process(self, row, ctx):
        return self.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["abc", b"abc", {"a": 1}, 5], ids=repr)
def test_one_row_is_not_rows(value, kind):
    for made in (
        keyed(kind).process(Returning(value)),
        keyed(kind).window(rs.Tumbling("10s")).apply(lambda key, window, rows: value),
    ):
        said = outcome(made.collect)
        assert f"it returned {value!r}" in said
        assert "hint: return [row], or yield" in said
        assert HERE in said


BUILT = [
    (lambda s: s.process(rs.KeyedProcessFunction()), "has no process(row, ctx)"),
    (lambda s: s.process(rs.ProcessFunction()), "takes a rs.KeyedProcessFunction, got"),
    (lambda s: s.process(lambda row, ctx: [row]), "takes a rs.KeyedProcessFunction, got a func"),
    (lambda s: s.aggregate(), "aggregate() has no aggregates"),
    (lambda s: s.aggregate(n=5), "aggregate(n=) takes an aggregate, got int 5"),
    (lambda s: s.aggregate(k=rs.count()), 'the name "k" is taken by a key column'),
    (lambda s: s.aggregate(n=rs.count(), emit="x"), "emit is one of row, batch, final, changes"),
    (
        lambda s: s.window(rs.Tumbling("10s")).aggregate(window_start=rs.count()),
        'the name "window_start" is taken by the window',
    ),
    (lambda s: s.top_k(0, "v"), "top_k() takes a positive int, got 0"),
    (lambda s: s.top_k(1.5, "v"), "top_k() takes a positive int, got 1.5"),
    (lambda s: s.top_k(1, []), "top_k(by=) names no column"),
    (lambda s: s.top_k(1, ["v"], descending=[True, False]), "as many descending= as by="),
    (lambda s: s.deduplicate("x"), 'keeps "first" or "last"'),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("build", "told"), BUILT, ids=[told for _, told in BUILT])
def test_what_makes_no_sense_is_told_where_the_job_is_built(build, told, kind):
    with pytest.raises(rs.PlanError) as error:
        build(keyed(kind))
    assert told in str(error.value)
    assert HERE in error.value.where


@pytest.mark.parametrize("q", [2, -0.1, NAN])
def test_a_quantile_lies_between_0_and_1(q):
    with pytest.raises(rs.PlanError, match="a quantile lies between 0 and 1"):
        rs.quantile("v", q)


RUN = [
    (lambda s: s.map_with_state(lambda state, row: None, 0), "gave None instead of (state, out)"),
    (lambda s: s.map_with_state(lambda state, row: (1, 2, 3), 0), "gave (1, 2, 3) instead of"),
    (
        lambda s: s.map_with_state(lambda state, row: ("x", 1), 0, type=pa.int64()),
        'state "state" of map_with_state#1 is of type int64',
    ),
    (lambda s: s.reduce(lambda earlier, row: 1 / 0), "reduce#1 failed: ZeroDivisionError"),
    *(
        (
            lambda s, gap=gap: s.window(rs.Session(lambda row: gap)).aggregate(n=rs.count()),
            f"window#1 failed: the gap of a session is {gap!r}, which is {problem}",
        )
        for gap, problem in (
            (0, "no length longer than nothing"),
            (-1, "no length longer than nothing"),
            (None, "no duration"),
            (NAN, "no duration"),
            ("x", "no duration"),
            (1 << 62, "longer than 70,000 years"),
            (1 << 63, "longer than 70,000 years"),
        )
    ),
    (
        lambda s: s.window(rs.Session(lambda row: 1 / 0)).aggregate(n=rs.count()),
        "window#1 failed: ZeroDivisionError",
    ),
    (
        lambda s: s.window(rs.Tumbling("10s")).apply(lambda key, window, rows: 1 / 0),
        "apply#1 failed: ZeroDivisionError",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("build", "told"), RUN, ids=[told for _, told in RUN])
def test_what_a_function_gives_is_told_with_operator_and_line(build, told, kind):
    said = outcome(build(keyed(kind)).collect)
    assert told in said
    assert HERE in said


MISSING = [
    (lambda s: s.aggregate(n=rs.sum("zz")), "aggregate#1"),
    (lambda s: s.window(rs.Tumbling("10s")).aggregate(n=rs.sum("zz")), "window#1"),
    (lambda s: s.top_k(1, "zz"), "top_k#1"),
]


@pytest.mark.parametrize(("build", "operator"), MISSING, ids=[name for _, name in MISSING])
def test_a_column_that_is_not_there(build, operator):
    assert 'column "zz" not found' in outcome(lambda: build(keyed("columns")))
    said = outcome(build(keyed("objects")).collect)
    assert f"{operator} failed: KeyError: 'zz'" in said
    assert f"row: {ROWS[0]!r}" in said


def doubled(kind):
    schema = pa.schema({"k": pa.string(), "v": pa.int64()})
    rows = [{"k": "a", "v": 1 << 62}] * 2
    return stream(kind, rows, [1, 2], schema).key_by("k")


OVERFLOWS = {
    "window": lambda s: s.window(rs.Tumbling("10s")).aggregate(n=rs.sum("v")),
    "session": lambda s: s.window(rs.Session("10s")).aggregate(n=rs.sum("v")),
    "count": lambda s: s.window(rs.TumblingCount(2)).aggregate(n=rs.sum("v")),
    "running": lambda s: s.aggregate(n=rs.sum("v")),
    "over": lambda s: s.aggregate(over="10s", n=rs.sum("v")),
}


@pytest.mark.parametrize("what", OVERFLOWS)
def test_a_sum_that_leaves_64_bits_names_operator_and_line(what):
    said = outcome(OVERFLOWS[what](doubled("columns")).collect)
    assert "overflows int64" in said or f"{1 << 63}, an int, which does not fit int64" in said
    assert "window#1" in said or "aggregate#1" in said
    assert HERE in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", [None, 5, b"x"], ids=repr)
def test_a_side_output_has_a_tag(tag, kind):
    fn = with_state(lambda ctx: None, lambda got, ctx: ctx.output(tag, 1))
    said = outcome(keyed(kind).process(fn).collect)
    assert f"ctx.output() takes a tag, which is a text, got {tag!r}" in said
    assert HERE in said
