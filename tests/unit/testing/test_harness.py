"""The harness: what goes in, what comes out, and what it refuses."""

import pytest

import raystream as rs

harness = rs.testing.harness


class Tells(rs.KeyedProcessFunction):
    def __init__(self, first=0):
        self.first = first

    def open(self, ctx):
        self.seen = ctx.state(rs.ValueState("seen", default=self.first))

    def process(self, row, ctx):
        self.seen.update(self.seen.value() + 1)
        ctx.output("times", (ctx.timestamp, ctx.processing_time))
        ctx.timers.register_processing_time(ctx.processing_time + 5)
        yield ctx.key, self.seen.value()

    def on_timer(self, timestamp, ctx):
        yield "timer", timestamp, ctx.processing_time

    def close(self):
        self.closed = True


class Plain(rs.ProcessFunction):
    def process(self, row, ctx):
        yield row


def test_each_call_gives_what_it_caused_and_rows_are_all_of_them():
    it = harness(Tells(), keyed_by="k")
    assert it.push({"k": "a"}, ts=7) == [("a", 1)]
    assert it.push({"k": "a"}) == [("a", 2)]
    assert it.advance("2us") == []
    assert it.push({"k": "b"}) == [("b", 1)]
    assert it.advance(10) == [("timer", 5, 5), ("timer", 7, 7)]
    assert it.watermark(100) == []
    assert len(it.rows) == 5
    assert it.side("times") == [(7, 0), (None, 0), (None, 2)]
    assert it.side("other") == []
    it.close()


@pytest.mark.parametrize(
    ("by", "key"),
    [("k", "a"), (["k", "n"], ("a", 1)), (("k",), "a"), (lambda row: row["n"], 1)],
    ids=["name", "names", "one name", "function"],
)
def test_keys_are_read_as_key_by_reads_them(by, key):
    assert harness(Tells, keyed_by=by).push({"k": "a", "n": 1}) == [(key, 1)]


@pytest.mark.parametrize(
    ("by", "row"),
    [
        ("k", {"n": 1}),
        (["n", "k"], {"n": 1}),
        ("k", 5),
        (lambda row: row["k"], {"n": 1}),
        ("k", {"k": []}),
    ],
    ids=["name", "names", "no dict", "function", "no key"],
)
def test_a_row_without_its_key_fails_as_in_a_job(by, row):
    job = rs.Job("it", runtime="local").from_items([row])
    keyed = job.key_by(*by) if isinstance(by, list) else job.key_by(by)
    with pytest.raises(rs.JobFailed) as failed:
        keyed.process(Tells()).collect()
    with pytest.raises(rs.UserFunctionError, match="key_by failed: ") as error:
        harness(Tells(), keyed_by=by).push(row)
    assert error.value.message == failed.value.__cause__.message.replace("key_by#1", "key_by")
    assert error.value.row == repr(row)


def test_a_class_is_made_with_its_arguments():
    it = harness(Tells, keyed_by=str, fn_kwargs={"first": 10})
    assert it.push("x") == [("x", 11)]


def test_a_function_that_was_given_is_copied_and_stays_as_it_was():
    function = Tells()
    one, other = harness(function, keyed_by=str), harness(function, keyed_by=str)
    assert [one.push("x"), one.push("x"), other.push("x")] == [[("x", 1)], [("x", 2)], [("x", 1)]]
    assert not hasattr(function, "seen")


def test_restoring_begins_anew_from_what_was_kept():
    it = harness(Tells, keyed_by=str)
    it.push("x")
    kept = it.snapshot()
    it.push("x")
    it.push("y")
    it.restore(kept)
    assert it.state("seen") == {"x": 1}
    assert it.advance(5) == [("timer", 5, 5)]
    it.restore(())
    assert it.state("seen") == {}


@pytest.mark.parametrize(
    ("function", "by", "message"),
    [
        (Tells, None, r"harness\(\) takes a rs.ProcessFunction, got Tells, a rs.Keyed"),
        (Plain, "k", r"harness\(\) takes a rs.KeyedProcessFunction, got Plain"),
        (print, "k", "got a builtin_function_or_method"),
        (rs.CoProcessFunction, None, r"has no process_left\(row, ctx\)"),
    ],
)
def test_what_it_cannot_drive_is_refused(function, by, message):
    with pytest.raises(rs.PlanError, match=message):
        harness(function, keyed_by=by)


def test_a_function_of_one_input_has_one():
    with pytest.raises(rs.UserError, match='Plain has no input "right", it has "left"'):
        harness(Plain()).push(1, to="right")


class Wakes(rs.KeyedProcessFunction):
    """Sets a timer at the time that a row says, in the domain that it says."""

    def process(self, row, ctx):
        if row["domain"] == "event":
            ctx.timers.register_event_time(row["at"])
        else:
            ctx.timers.register_processing_time(row["at"])

    def on_timer(self, timestamp, ctx):
        yield timestamp, ctx.domain, ctx.watermark, ctx.processing_time


def wake(at, domain="processing"):
    return {"k": 1, "at": at, "domain": domain}


def test_a_processing_timer_in_the_past_fires_at_once():
    it = harness(Wakes(), keyed_by="k")
    it.advance(10)
    assert [row[0] for row in it.push(wake(4))] == [4]
    assert [row[0] for row in it.push(wake(10))] == [10]
    assert it.push(wake(11)) == []
    assert [row[::3] for row in it.advance(1)] == [(11, 11)]


def test_a_watermark_that_falls_is_none():
    it = harness(Wakes(), keyed_by="k")
    it.watermark(10)
    assert it.push(wake(7, "event"), ts=12) == []
    assert it.watermark(8) == []
    assert it.watermark(10) == []
    assert [row[:3] for row in it.watermark(11)] == [(7, "event", 11)]


def test_a_restored_function_has_seen_no_watermark():
    it = harness(Wakes(), keyed_by="k")
    it.push(wake(7, "event"), ts=0)
    kept = it.snapshot()
    it.watermark(10)
    it.restore(kept)
    assert [row[:3] for row in it.watermark(8)] == [(7, "event", 8)]


def test_time_does_not_go_back():
    with pytest.raises(rs.UserError, match=r"advance\(\) takes a time that passes, got -5"):
        harness(Wakes(), keyed_by="k").advance(-5)
