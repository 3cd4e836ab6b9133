"""Process functions: timers, event time, side outputs, state, errors, and what is bounded."""

from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.process import ProcessMaker
from raystream.flow.batch import EVENT_TIME_FIELD, NO_TIME, Columns, Objects
from raystream.flow.element import MAX_TIME, MIN_TIME, Side
from raystream.keyed.key_form import KeyForm
from raystream.operators.broadcast_process import BroadcastProcessSpec
from raystream.operators.co_process import CoProcessSpec
from raystream.operators.operator import Spec
from raystream.operators.process import ProcessSpec

harness = rs.testing.harness
WIRE = pa.schema([("k", pa.string()), ("n", pa.int64()), EVENT_TIME_FIELD])


class Calls(rs.KeyedProcessFunction):
    """Does what rows say, ``(key, call, time)``, and tells of each timer."""

    def process(self, row, ctx):
        _, call, time = row
        getattr(ctx.timers, call)(time)

    def on_timer(self, timestamp, ctx):
        yield ctx.key, timestamp, ctx.domain, ctx.timestamp, ctx.watermark


def by_first(row):
    return row[0]


def fired(rows):
    return [f"{key}{timestamp}" for key, timestamp, *_ in rows]


def opened(function, *, rows_max=8, keys=("k",), output=None, clock=None):
    spec = ProcessSpec(
        ProcessMaker(function),
        keys,
        None if keys is None else KeyForm.objects(),
        output,
        True,
        "it",
        "job.py:7",
    )
    assert isinstance(spec, Spec)
    operator = spec.build()
    limits = Limits(row_batch_rows_max=rows_max, batch_rows_max=rows_max)
    operator.open(OpenContext(limits=limits, clock=clock or ManualClock(0)))
    return operator


def objects(*rows, keys=None, times=None):
    stamps = np.array(times or [0] * len(rows), np.int64)
    return Objects(list(rows), stamps, list(keys or rows))


# §3: timers ---------------------------------------------------------------------------------------


def test_c10_a_timer_registered_three_times_fires_once_and_earlier_ones_first():
    it = harness(Calls, keyed_by=by_first)
    for key, time in [("k", 10), ("k", 10), ("k", 10), ("k", 5), ("j", 10)]:
        it.push((key, "register_event_time", time))
    rows = it.watermark(10)
    assert fired(rows)[0] == "k5"
    assert sorted(fired(rows)[1:]) == ["j10", "k10"]


def test_c10_deleting_takes_away_exactly_one_timer():
    it = harness(Calls, keyed_by=by_first)
    for key, time in [("k", 10), ("k", 10), ("k", 10), ("k", 5), ("j", 10)]:
        it.push((key, "register_event_time", time))
    it.push(("k", "delete_event_time", 10))
    it.push(("k", "delete_event_time", 11))
    it.push(("k", "delete_processing_time", 5))
    assert fired(it.watermark(10)) == ["k5", "j10"]


def test_c11_an_event_timer_in_the_past_fires_at_the_next_watermark():
    it = harness(Calls, keyed_by=by_first)
    assert it.watermark(20) == []
    assert it.push(("k", "register_event_time", 15), ts=25) == []
    assert it.watermark(21) == [("k", 15, "event", 15, 21)]


def test_s3_all_timers_up_to_the_watermark_fire_in_order_of_their_time():
    it = harness(Calls, keyed_by=by_first)
    for time in (7, -3, 12, 0, 8):
        it.push(("k", "register_event_time", time))
    assert fired(it.watermark(8)) == ["k-3", "k0", "k7", "k8"]
    assert it.watermark(11) == []
    assert fired(it.watermark(12)) == ["k12"]


class Again(rs.KeyedProcessFunction):
    """A timer that sets the next one, up to a time."""

    def process(self, row, ctx):
        ctx.timers.register_event_time(row)

    def on_timer(self, timestamp, ctx):
        yield timestamp, ctx.watermark
        ctx.timers.register_event_time(timestamp + 2)


def test_s3_a_timer_set_in_on_timer_up_to_the_watermark_fires_in_the_same_pass():
    it = harness(Again, keyed_by=lambda row: "k")
    it.push(1)
    assert it.watermark(6) == [(1, 6), (3, 6), (5, 6)]
    assert it.watermark(7) == [(7, 7)]


def test_s3_a_processing_timer_in_the_past_fires_at_once():
    it = harness(Calls, keyed_by=by_first)
    it.advance(100)
    caused = it.push(("k", "register_processing_time", 40))
    assert caused == [("k", 40, "processing", None, MIN_TIME)]
    assert it.advance(0) == []


def test_s3_processing_timers_fire_when_their_time_comes():
    it = harness(Calls, keyed_by=by_first)
    for key, time in [("b", 20), ("a", 10), ("a", 20), ("c", 31)]:
        it.push((key, "register_processing_time", time))
    it.push(("a", "delete_processing_time", 20))
    assert fired(it.advance(30)) == ["a10", "b20"]
    assert fired(it.advance("1us")) == ["c31"]


def test_c9_the_end_of_input_fires_event_timers_and_no_processing_timers():
    it = harness(Calls, keyed_by=by_first)
    it.push(("e", "register_event_time", 10**15))
    it.push(("p", "register_processing_time", 10**15))
    assert it.watermark(MAX_TIME) == [("e", 10**15, "event", 10**15, MAX_TIME)]


def test_timers_of_the_two_domains_are_two_timers():
    it = harness(Calls, keyed_by=by_first)
    it.push(("k", "register_event_time", 5))
    it.push(("k", "register_processing_time", 5))
    assert [row[2] for row in it.watermark(5) + it.advance(5)] == ["event", "processing"]


def test_timers_take_datetimes():
    it = harness(Calls, keyed_by=by_first)
    it.push(("k", "register_event_time", datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)))
    it.push(("k", "register_event_time", np.int64(7)))
    assert fired(it.watermark(1_000_000)) == ["k7", "k1000000"]


@pytest.mark.parametrize("time", ["10s", 1.5, None, True, 2**63])
def test_what_is_no_point_in_time_is_refused(time):
    it = harness(Calls, keyed_by=by_first)
    with pytest.raises(rs.UserFunctionError, match="a timer is set for a"):
        it.push(("k", "register_event_time", time))


# Event time ---------------------------------------------------------------------------------------


class Timed(rs.KeyedProcessFunction):
    def process(self, row, ctx):
        ctx.timers.register_event_time(50)
        ctx.timers.register_processing_time(9)
        ctx.output("side", ctx.timestamp)
        return [row, row]

    def on_timer(self, timestamp, ctx):
        ctx.output("side", ctx.timestamp)
        yield ctx.domain


def flat(outs):
    rows = {None: [], "side": []}
    for out in outs:
        tag, batch = (out.tag, out.batch) if isinstance(out, Side) else (None, out)
        rows[tag] += zip(batch.values, batch.timestamps.tolist(), strict=True)
    return rows


def test_rows_carry_the_time_of_their_row_of_their_event_timer_or_none():
    clock = ManualClock(0)
    it = opened(Timed(), clock=clock)
    came = flat(it.on_batch(0, objects("a", "b", times=[3, NO_TIME])))
    assert came[None] == [("a", 3), ("a", 3), ("b", NO_TIME), ("b", NO_TIME)]
    assert came["side"] == [(3, 3), (None, NO_TIME)]
    assert flat(it.on_watermark(60)) == {None: [("event", 50)] * 2, "side": [(50, 50)] * 2}
    clock.advance(9)
    assert flat(it.on_timer(9))[None] == [("processing", NO_TIME)] * 2


def test_a_row_of_a_processing_timer_has_no_event_time_in_columns_either():
    class Ticks(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            ctx.timers.register_processing_time(0)

        def on_timer(self, timestamp, ctx):
            return [{"k": ctx.key, "n": timestamp}]

    it = opened(Ticks(), output=WIRE)
    assert list(it.on_batch(0, objects("a"))) == []
    (batch,) = it.on_timer(0)
    assert isinstance(batch, Columns)
    assert batch.record.to_pylist() == [{"k": "a", "n": 0, "__ts": NO_TIME}]


# Rows ---------------------------------------------------------------------------------------------


def test_rows_are_yielded_returned_in_a_list_or_none():
    class Each(rs.ProcessFunction):
        def process(self, row, ctx):
            return {0: None, 1: [], 2: ["a", "b"], 3: ("c",), 4: iter("de"), 5: (x for x in "f")}[
                row
            ]

    it = harness(Each())
    assert [it.push(row) for row in range(6)] == [[], [], ["a", "b"], ["c"], ["d", "e"], ["f"]]
    assert it.rows == list("abcdef")


@pytest.mark.parametrize("made", [{"k": 1}, "row", b"row", 7])
def test_one_row_where_rows_are_expected_is_refused_with_a_hint(made):
    class One(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            ctx.timers.register_event_time(1)
            return made if row == "now" else None

        def on_timer(self, timestamp, ctx):
            return made

    it = harness(One, keyed_by=lambda row: row)
    with pytest.raises(rs.UserFunctionError, match="where rows are expected") as error:
        it.push("now")
    assert error.value.hint == "return [row], or yield"
    it.push("later")
    with pytest.raises(rs.UserFunctionError, match=r"in on_timer\(1\) of key 'now'.*rows are exp"):
        it.watermark(1)


def test_a_row_that_makes_many_is_given_in_bounded_batches_and_pulled_no_further():
    pulled = []

    class Many(rs.ProcessFunction):
        def process(self, row, ctx):
            for number in range(row):
                pulled.append(number)
                yield number

    it = opened(Many(), keys=None)
    outs = it.on_batch(0, objects(20, 3, times=[5, 6]))
    assert next(outs).values == list(range(8))
    assert len(pulled) == 8
    batches = list(outs)
    assert [batch.num_rows for batch in batches] == [8, 7]
    assert np.concatenate([b.timestamps for b in batches]).tolist() == [5] * 12 + [6] * 3


def test_side_rows_leave_in_bounded_batches_too():
    class Aside(rs.ProcessFunction):
        def process(self, row, ctx):
            for number in range(row):
                ctx.output("even" if number % 2 == 0 else "odd", number)

    it = opened(Aside(), keys=None)
    sides = list(it.on_batch(0, objects(50, 3)))
    assert all(isinstance(out, Side) and 0 < out.batch.num_rows <= 8 for out in sides)
    even = [row for out in sides if out.tag == "even" for row in out.batch.values]
    assert even == [*range(0, 50, 2), 0, 2]


def test_a_batch_without_results_is_a_place_to_pause_now_and_then():
    class Nothing(rs.ProcessFunction):
        def process(self, row, ctx):
            return None

    outs = list(opened(Nothing(), keys=None).on_batch(0, objects(*range(30))))
    assert [out.num_rows for out in outs] == [0, 0, 0]


def test_many_timers_without_results_are_fired_with_pauses():
    class Nothing(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            ctx.timers.register_event_time(row)

    it = opened(Nothing())
    list(it.on_batch(0, objects(*range(100))))
    assert [out.num_rows for out in it.on_watermark(200)] == [0] * 12


def test_a_processing_timer_that_sets_itself_anew_lets_others_have_their_turn():
    class Busy(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            ctx.timers.register_processing_time(0)

        def on_timer(self, timestamp, ctx):
            ctx.timers.register_processing_time(timestamp - 1)

    it = opened(Busy())
    list(it.on_batch(0, objects("a")))
    assert len(list(it.on_timer(0))) == 1
    assert it.timer_due_us() == -8


# Stopping a firing --------------------------------------------------------------------------------


class Long(rs.KeyedProcessFunction):
    """A timer that gives twenty rows, changes state, and then sends aside."""

    def open(self, ctx):
        self.fired = ctx.state(rs.ValueState("fired", default=0))

    def process(self, row, ctx):
        ctx.timers.register_event_time(row)

    def on_timer(self, timestamp, ctx):
        for number in range(20):
            yield ctx.key, number
        self.fired.update(self.fired.value() + 1)
        ctx.output("done", (ctx.key, ctx.timestamp, ctx.watermark))


def test_a_firing_that_is_stopped_goes_on_where_it_was_with_its_own_key():
    it = opened(Long())
    list(it.on_batch(0, objects(1, 2)))
    got = []
    for _ in range(20):
        outs = it.on_watermark(5)
        out = next(outs, None)
        if out is None:
            break
        got.append(out)
        outs.close()
    rows = [row for out in got if not isinstance(out, Side) for row in out.values]
    assert rows == [(key, number) for key in (1, 2) for number in range(20)]
    done = [row for out in got if isinstance(out, Side) for row in out.batch.values]
    assert done == [(1, 1, 5), (2, 2, 5)]
    assert it.present("fired") == {1: 1, 2: 1}


def test_what_a_stopped_firing_had_yet_to_give_is_kept_and_its_state_with_it():
    it, again = opened(Long()), opened(Long())
    list(it.on_batch(0, objects(1, 2)))
    outs = it.on_watermark(5)
    first = next(outs).values
    kept = it.snapshot()
    outs.close()
    again.restore(kept)
    assert again.present("fired") == {1: 1}
    rest = list(again.on_watermark(5))
    assert sum(out.num_rows for out in rest if not isinstance(out, Side)) == 40 - len(first)
    assert [out.batch.values for out in rest if isinstance(out, Side)] == [[(1, 1, 5)], [(2, 2, 5)]]
    assert all(isinstance(out, Side) or out.num_rows <= 8 for out in rest)
    # It goes on as well where it was: nothing is lost by having been asked.
    assert sum(out.num_rows for out in it.on_watermark(5) if not isinstance(out, Side)) == 32


def test_rows_of_a_stopped_firing_leave_before_others():
    it = opened(Long())
    list(it.on_batch(0, objects(1)))
    next(it.on_watermark(5))
    assert it.timer_due_us() == MIN_TIME
    outs = list(it.on_batch(0, objects(9)))
    assert sum(out.num_rows for out in outs if not isinstance(out, Side)) == 12
    assert it.timer_due_us() is None


def test_the_watermark_of_a_restored_function_is_what_it_was():
    class Asks(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            yield ctx.watermark

    before, after = harness(Asks, keyed_by=str), harness(Asks, keyed_by=str)
    assert before.push("a") == [MIN_TIME]
    before.watermark(8)
    after.restore(before.snapshot())
    assert after.push("a") == [8]


# State --------------------------------------------------------------------------------------------


class Everything(rs.KeyedProcessFunction):
    def open(self, ctx):
        self.value = ctx.state(rs.ValueState("value", type=pa.int64()))
        self.list = ctx.state(rs.ListState("list"))
        self.map = ctx.state(rs.MapState("map"))
        self.sum = ctx.state(rs.ReducingState("sum", lambda a, b: a + b))
        self.top = ctx.state(rs.AggregatingState("top", rs.max("n")))
        self.mine = ctx.state(rs.OperatorListState("mine"))
        self.all = ctx.state(rs.UnionListState("all"))

    def process(self, row, ctx):
        number = row["n"]
        self.value.update(number)
        self.list.add(number)
        self.map[number] = ctx.key
        self.sum.add(number)
        self.top.add(row)
        self.mine.add(number)
        self.all.add(number)


def test_every_kind_of_state_is_there_by_key_and_over_a_restore():
    it, again = harness(Everything, keyed_by="k"), harness(Everything, keyed_by="k")
    for key, number in [("a", 1), ("b", 5), ("a", 3)]:
        it.push({"k": key, "n": number})
    again.restore(it.snapshot())
    for one in (it, again):
        assert one.state("value") == {"a": 3, "b": 5}
        assert one.state("list") == {"a": [1, 3], "b": [5]}
        assert one.state("map") == {"a": {1: "a", 3: "a"}, "b": {5: "b"}}
        assert one.state("sum") == {"a": 4, "b": 5}
        assert one.state("top") == {"a": 3, "b": 5}
        assert one.state("mine") == one.state("all") == [1, 5, 3]
    with pytest.raises(rs.UserError, match='no state "other". There is: "value", "list"'):
        it.state("other")


def test_state_lives_as_long_as_its_ttl_says():
    class Once(rs.KeyedProcessFunction):
        def open(self, ctx):
            self.seen = ctx.state(rs.ValueState("seen", ttl="10s"))

        def process(self, row, ctx):
            if self.seen.value() is None:
                self.seen.update(True)
                yield row

    it = harness(Once, keyed_by=str)
    assert [it.push("a"), it.push("a"), it.advance("9s"), it.push("a")] == [["a"], [], [], []]
    it.advance("1s")
    assert it.state("seen") == {}
    assert it.push("a") == ["a"]


def opening(declare, kind=rs.KeyedProcessFunction):
    class Declares(kind):
        def open(self, ctx):
            declare(ctx)

        def process(self, row, ctx):
            return None

    return harness(Declares, keyed_by=str if kind is rs.KeyedProcessFunction else None)


def test_a_name_that_is_two_states_is_refused():
    def twice(ctx):
        ctx.state(rs.ValueState("n", type=pa.int64()))
        ctx.state(rs.ValueState("n", type=pa.string()))

    with pytest.raises(rs.UserFunctionError, match='failed in open: state "n" is a ValueState'):
        opening(twice)

    def keyed_and_not(ctx):
        ctx.state(rs.ListState("n"))
        ctx.state(rs.OperatorListState("n"))

    with pytest.raises(rs.UserFunctionError, match='state "n" is an OperatorListState'):
        opening(keyed_and_not)


def test_what_describes_no_state_is_refused():
    with pytest.raises(rs.UserFunctionError, match="'total' describes no state"):
        opening(lambda ctx: ctx.state("total"))


def test_keyed_state_without_keys_is_refused():
    with pytest.raises(rs.UserFunctionError, match="the rows here have no key") as error:
        opening(lambda ctx: ctx.state(rs.ValueState("n")), rs.ProcessFunction)
    assert "key_by" in error.value.hint


@pytest.mark.parametrize(
    "call",
    [
        "register_event_time",
        "register_processing_time",
        "delete_event_time",
        "delete_processing_time",
    ],
)
def test_timers_without_keys_are_refused(call):
    class Timers(rs.ProcessFunction):
        def process(self, row, ctx):
            getattr(ctx.timers, call)(row)

    with pytest.raises(rs.UserFunctionError, match="no timers here: the rows have no key") as error:
        harness(Timers).push(5)
    assert error.value.row == "5"
    assert "key_by" in error.value.hint


def test_a_key_that_can_be_none_is_refused():
    it = harness(Calls, keyed_by=lambda row: [row])
    with pytest.raises(rs.UserFunctionError, match="a key cannot be a list") as error:
        it.push(("k", "register_event_time", 1))
    assert error.value.operator == "key_by"


def test_none_is_a_key_like_any_other_and_nan_is_one_key():
    it = harness(Everything, keyed_by="k")
    for key in (None, float("nan"), float("nan"), 1):
        it.push({"k": key, "n": 1})
    assert sorted(it.state("sum").values()) == [1, 1, 2]


# Errors -------------------------------------------------------------------------------------------


def test_an_error_of_the_function_names_operator_row_and_cause():
    class Fails(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            ctx.timers.register_event_time(4)
            if row == "c":
                yield 1 / 0

        def on_timer(self, timestamp, ctx):
            raise KeyError("lost")

    it = opened(Fails())
    with pytest.raises(rs.UserFunctionError, match="it failed: ZeroDivisionError") as error:
        list(it.on_batch(0, objects("a", "b", "c", "d")))
    assert (error.value.operator, error.value.row, error.value.where) == ("it", "'c'", "job.py:7")
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    with pytest.raises(
        rs.UserFunctionError, match=r"in on_timer\(4\) of key 'a': KeyError: 'lost'"
    ):
        list(it.on_watermark(4))


# Two inputs ---------------------------------------------------------------------------------------


class Shared(rs.CoProcessFunction):
    def open(self, ctx):
        self.left = ctx.state(rs.ListState("left"))

    def process_left(self, row, ctx):
        self.left.add(row["n"])
        ctx.timers.register_event_time(ctx.timestamp + 1)

    def process_right(self, row, ctx):
        yield ctx.key, self.left.get(), ctx.domain

    def on_timer(self, timestamp, ctx):
        yield ctx.key, ctx.domain
        self.left.clear()


def test_both_inputs_see_the_state_of_their_key():
    it = harness(Shared, keyed_by="k")
    it.push({"k": 1, "n": 10}, ts=1)
    it.push({"k": 2, "n": 20}, ts=1, to="left")
    assert it.push({"k": 1}, to="right") == [(1, [10], None)]
    assert it.watermark(2) == [(1, "event"), (2, "event")]
    assert it.push({"k": 2}, to="right") == [(2, [], None)]
    with pytest.raises(rs.UserError, match='no input "broadcast", it has "left", "right"'):
        it.push({"k": 1}, to="broadcast")


def test_the_inputs_may_be_keyed_differently():
    it = harness(Shared, keyed_by={"left": "id", "right": ["k"]})
    it.push({"id": 1, "n": 10}, ts=1)
    assert it.push({"k": 1}, to="right") == [(1, [10], None)]


class Rules(rs.BroadcastProcessFunction):
    def open(self, ctx):
        self.rules = ctx.state(rs.BroadcastState("rules"))
        self.seen = ctx.state(rs.ValueState("seen", default=0))
        self.broken = None

    def process(self, row, ctx):
        self.seen.update(self.seen.value() + 1)
        if row == "write":
            self.rules.put("a", 1)
        elif row == "timer":
            ctx.timers.register_event_time(3)
        return [(ctx.key, dict(self.rules.items()), "a" in self.rules, len(self.rules))]

    def process_broadcast(self, rule, ctx):
        if rule == "state":
            self.seen.value()
        elif rule == "timer":
            ctx.timers.register_event_time(3)
        else:
            self.rules[rule] = rule.upper()
            yield ctx.key

    def on_timer(self, timestamp, ctx):
        yield ctx.key, self.rules.get("a")
        self.rules.clear()


def test_broadcast_state_is_written_by_broadcast_rows_and_read_by_all():
    it, again = harness(Rules, keyed_by=str), harness(Rules, keyed_by=str)
    assert it.push("row") == [("row", {}, False, 0)]
    assert it.push("a", to="broadcast") == [None]
    assert it.push("b", to="right") == [None]
    again.restore(it.snapshot())
    for one in (it, again):
        assert one.push("row") == [("row", {"a": "A", "b": "B"}, True, 2)]
        assert one.state("rules") == {"a": "A", "b": "B"}
    assert again.state("seen") == {"row": 2}


def test_broadcast_state_is_read_only_elsewhere():
    it = harness(Rules, keyed_by=str)
    with pytest.raises(rs.UserFunctionError, match="broadcast state is read-only here") as error:
        it.push("write")
    assert error.value.hint == "write it in process_broadcast()"
    it.push("a", to="broadcast")
    it.push("timer")
    with pytest.raises(rs.UserFunctionError, match="on_timer.*read-only here"):
        it.watermark(3)


def test_a_broadcast_row_has_neither_keyed_state_nor_timers():
    it = harness(Rules, keyed_by=str)
    it.push("row")
    with pytest.raises(rs.UserFunctionError, match="no key here, and keyed state is of a key"):
        it.push("state", to="broadcast")
    with pytest.raises(rs.UserFunctionError, match="a broadcast row is of no key"):
        it.push("timer", to="broadcast")
    assert it.push("row") == [("row", {}, False, 0)]
    assert it.state("seen") == {"row": 2}


def test_specs_say_what_they_are():
    rest = (None, None, True, "it", "")
    assert ProcessSpec(ProcessMaker(Calls), None, *rest).describe() == "Calls"
    spec = CoProcessSpec(ProcessMaker(Shared()), None, None, *rest)
    assert (spec.verb, spec.describe()) == ("process", "Shared of two inputs")
    spec = BroadcastProcessSpec(ProcessMaker(Rules), None, *rest)
    assert spec.describe() == "Rules with a broadcast"


def test_state_may_be_kept_on_disk_and_is_the_same():
    def counted(backend):
        spec = BroadcastProcessSpec(
            ProcessMaker(Rules), (), KeyForm.objects(), None, True, "it", "job.py:7"
        )
        it = spec.build()
        it.open(OpenContext(limits=Limits(state_backend=backend), clock=ManualClock(0)))
        list(it.on_batch(0, objects("a", "b", "a", "timer")))
        with pytest.raises(rs.UserFunctionError, match="no key here"):
            list(it.on_batch(1, objects("state")))
        kept = it.present("seen"), [one.table for one in it.snapshot()]
        it.close()
        return kept

    assert counted("disk") == counted("memory")
    assert counted("memory")[0] == {"a": 2, "b": 1, "timer": 1}
