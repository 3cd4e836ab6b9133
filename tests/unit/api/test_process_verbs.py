"""process() and connect(): what they are checked for, what flows out, and how plans show them."""

import pyarrow as pa
import pytest

import raystream as rs

ROWS = [{"k": "a", "n": 1}, {"k": "b", "n": 2}, {"k": "a", "n": 3}]
SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64())])
OUT = pa.schema([("k", pa.string()), ("seen", pa.int64())])


class Passes(rs.ProcessFunction):
    def __init__(self, times=1):
        self.times = times

    def open(self, ctx):
        self.where = (ctx.subtask_index, ctx.parallelism)
        ctx.metrics.counter("opened").inc()

    def process(self, row, ctx):
        ctx.output("seen", row)
        for _ in range(self.times):
            yield row


class Counts(rs.KeyedProcessFunction):
    def open(self, ctx):
        self.seen = ctx.state(rs.ValueState("seen", type=pa.int64(), default=0))

    def process(self, row, ctx):
        self.seen.update(self.seen.value() + 1)
        yield {"k": ctx.key, "seen": self.seen.value()}


class Meets(rs.CoProcessFunction):
    def process_left(self, row, ctx):
        yield "left", ctx.key, row

    def process_right(self, row, ctx):
        yield "right", ctx.key, row


class Keeps(rs.CoProcessFunction):
    def open(self, ctx):
        self.left = ctx.state(rs.ListState("left"))
        self.right = ctx.state(rs.ListState("right"))

    def process_left(self, row, ctx):
        self.left.add(row)
        yield from ((ctx.key, row, other) for other in self.right.get())

    def process_right(self, row, ctx):
        self.right.add(row)
        yield from ((ctx.key, other, row) for other in self.left.get())


class Allowed(rs.BroadcastProcessFunction):
    def process(self, row, ctx):
        yield ctx.key, row

    def process_broadcast(self, row, ctx):
        yield "rule", row


def stream(rows=ROWS, schema=SCHEMA, parallelism=1, **more):
    return rs.Job("t", parallelism=parallelism).from_items(rows, schema=schema, **more)


def of(job, rows=ROWS, schema=SCHEMA):
    return job.from_items(rows, schema=schema)


def test_an_instance_a_class_and_a_class_with_arguments_are_functions():
    assert stream().process(Passes()).collect() == ROWS
    assert stream().process(Passes).collect() == ROWS
    twice = stream().process(Passes, fn_kwargs={"times": 2}, schema=SCHEMA)
    assert twice.schema == SCHEMA
    assert twice.collect() == [row for row in ROWS for _ in range(2)]


def test_a_keyed_function_gives_objects_or_columns():
    objects = stream().key_by("k").process(Counts())
    assert objects.schema is None
    columns = stream().key_by("k").process(Counts(), OUT)
    assert columns.schema == OUT
    expected = [("a", 1), ("b", 1), ("a", 2)]
    assert [tuple(row.values()) for row in objects.collect()] == expected
    assert [tuple(row.values()) for row in columns.collect()] == expected


def test_event_time_goes_on_and_windows_may_follow():
    counted = stream(timestamps=[1, 2, 12]).key_by("k").process(Counts(), OUT)
    windows = counted.key_by("k").window(rs.Tumbling(10)).aggregate(n=rs.count()).collect()
    assert sorted((row["k"], row["n"]) for row in windows) == [("a", 1), ("a", 1), ("b", 1)]


def test_the_key_of_several_columns_is_a_tuple_and_of_a_function_what_it_gives():
    class Key(rs.KeyedProcessFunction):
        def process(self, row, ctx):
            yield ctx.key

    assert stream().key_by("n", "k").process(Key()).collect()[0] == (1, "a")
    keyed = stream().key_by(lambda row: (row["k"], 1.5))
    assert keyed.process(Key()).collect()[0] == ("a", 1.5)


def test_what_is_sent_aside_is_read_by_its_tag():
    main = stream().process(Passes(0))
    assert main.side_output("seen").collect() == ROWS
    assert main.side_output("seen", SCHEMA).to_arrow().to_pylist() == ROWS
    assert main.side_output("never").collect() == []


def test_an_instance_is_one_in_each_subtask():
    opened = []

    class Remembers(rs.ProcessFunction):
        def open(self, ctx):
            self.index = ctx.subtask_index
            opened.append(ctx.subtask_index)

        def process(self, row, ctx):
            yield self.index

    rows = stream(parallelism=2, rows=ROWS * 4).rebalance().process(Remembers()).collect()
    assert sorted(opened) == [0, 1]
    assert sorted(rows) == [0] * 6 + [1] * 6


def test_open_and_close_may_be_async():
    told = []

    class Slow(rs.ProcessFunction):
        async def open(self, ctx):
            told.append("open")

        def process(self, row, ctx):
            told.append("row")

        async def close(self):
            told.append("close")

    stream(ROWS[:1]).process(Slow).collect()
    assert told == ["open", "row", "close"]


# Two streams --------------------------------------------------------------------------------------


def test_rows_of_two_streams_without_keys_meet_in_one_function():
    job = rs.Job("t")
    met = of(job).connect(job.from_items([7])).process(Meets())
    assert sorted(met.collect(), key=str) == sorted(
        [*(("left", None, row) for row in ROWS), ("right", None, 7)], key=str
    )


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("objects", [False, True])
def test_rows_of_two_keyed_streams_meet_by_key(parallelism, objects):
    job = rs.Job("t", parallelism=parallelism)
    numbers = job.from_items([{"id": n} for n in range(20)], schema=pa.schema([("id", pa.int64())]))
    small = pa.schema([("n", pa.int32())])
    others = job.from_items([{"n": n % 10} for n in range(20)], schema=None if objects else small)
    right = others.key_by(lambda row: row["n"]) if objects else others.key_by("n")
    met = numbers.key_by("id").connect(right).process(Keeps()).collect()
    assert sorted((key, left["id"], right["n"]) for key, left, right in met) == sorted(
        (n, n, n) for n in range(10) for _ in range(2)
    )


def test_with_one_side_keyed_there_are_no_keys():
    job = rs.Job("t")
    met = of(job).key_by("k").connect(of(job)).process(Meets())
    assert {key for _, key, _ in met.collect()} == {None}
    with pytest.raises(rs.JobFailed, match="the rows here have no key"):
        of(job).key_by("k").connect(of(job)).process(Keeps()).collect()


@pytest.mark.parametrize("parallelism", [1, 2])
def test_every_subtask_sees_the_rows_of_a_broadcast_stream(parallelism):
    job = rs.Job("t", parallelism=parallelism)
    rules = job.from_items(["x"])
    rows = of(job).key_by("k").connect(rules.broadcast()).process(Allowed()).collect()
    assert rows.count(("rule", "x")) == parallelism
    assert sorted(key for key, _ in rows if key != "rule") == ["a", "a", "b"]


def test_the_output_has_event_time_if_either_input_has():
    job = rs.Job("t")
    timed = job.from_items([1], timestamps=[5])
    for one, other in ((timed, of(job)), (of(job), timed)):
        assert one.connect(other).process(Meets())._tip.node.type.timed
    assert not of(job).connect(of(job)).process(Meets())._tip.node.type.timed


def test_unions_may_be_connected():
    job = rs.Job("t")
    left = of(job).union(of(job)).key_by("k")
    met = left.connect(of(job).union(of(job)).key_by("k")).process(Meets()).collect()
    assert len(met) == 4 * len(ROWS)


# Plans --------------------------------------------------------------------------------------------


def test_plans_show_functions_exchanges_and_ports():
    job = rs.Job("t", parallelism=2)
    left = of(job).named("payments").key_by("k")
    left.connect(of(job).named("rules").broadcast()).process(Allowed()).uid("watch").print()
    plan = job.explain(physical=True)
    assert "process Allowed with a broadcast" in plan
    assert "← payments hash(k), rules broadcast" in plan
    assert "input 0: hash(k) from payments" in plan
    assert "input 1: broadcast from rules" in plan
    assert "process#1  " in plan


# What is refused ----------------------------------------------------------------------------------


class Nothing(rs.ProcessFunction):
    pass


class Async(rs.ProcessFunction):
    async def process(self, row, ctx):
        return [row]


class HalfAsync(rs.CoProcessFunction):
    def process_left(self, row, ctx):
        return None

    async def process_right(self, row, ctx):
        yield row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.process(Counts()), r"process\(\) takes a rs.ProcessFunction, got Counts"),
        (lambda s: s.process(print), "takes a rs.ProcessFunction, got a builtin_function"),
        (lambda s: s.process(int), "takes a rs.ProcessFunction, got the class int"),
        (lambda s: s.key_by("k").process(Passes()), r"key_by\(…\).process\(\) takes a rs.Keyed"),
        (lambda s: s.process(Nothing()), r"Nothing has no process\(row, ctx\)"),
        (lambda s: s.process(Async()), "takes plain functions; Async.process is async"),
        (lambda s: s.connect(s).process(HalfAsync), "HalfAsync.process_right is async"),
        (lambda s: s.process(Passes(), fn_kwargs={"times": 2}), "Passes is an instance already"),
        (lambda s: s.process(Passes, fn_kwargs={"time": 2}), "cannot make Passes: .*'time'"),
        (lambda s: s.process(Passes(), schema="k"), "schema"),
        (lambda s: s.connect([1]), r"connect\(\) takes a stream, got \[1\]"),
        (lambda s: s.connect(s).process(Passes()), r"connect\(other\).process\(\) takes a rs.Co"),
        (lambda s: s.connect(s.broadcast()).process(Meets()), "takes a rs.BroadcastProcess"),
        (lambda s: s.broadcast().connect(s), 'the left stream "source#1" is broadcast'),
        (lambda s: s.connect(stream()), 'belongs to job "t"'),
        (lambda s: s.key_by("k").connect(s.key_by("n")).process(Meets()),
         'the keys of "source#1" are k string, those of "source#1" n int64: no row would meet'),
        (lambda s: s.key_by("k").connect(s.key_by("k", "n")).process(Meets()), "no row would meet"),
        (lambda s: s.broadcast().key_by("k"), r"is broadcast, and key_by\(\) behind it"),
        (lambda s: s.broadcast().key_by(lambda row: 1), r"is broadcast, and key_by\(\) behind it"),
        (lambda s: s.broadcast().window_all(rs.Tumbling(1)), "is broadcast, and window_all"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_line(call, message):
    with pytest.raises(rs.PlanError, match=message) as error:
        call(stream())
    assert "test_process_verbs.py" in error.value.where


# map_with_state -----------------------------------------------------------------------------------


def test_map_with_state_checks_the_type_of_its_state():
    keyed = stream().key_by("k")
    counted = keyed.map_with_state(lambda n, row: (n + 1, n), 0, type=pa.int64())
    assert counted.collect() == [0, 0, 1]
    wrong = keyed.map_with_state(lambda n, row: ("one", n), 0, type=pa.int64())
    with pytest.raises(rs.JobFailed, match="'one'"):
        wrong.collect()
    for arguments in ({"type": "int64"}, {"ttl": "soon"}):
        with pytest.raises(rs.RaystreamError) as error:
            keyed.map_with_state(lambda n, row: (n, n), 0, **arguments)
        assert "test_process_verbs.py" in error.value.where


def test_rows_of_an_input_without_event_time_have_none_beside_those_that_have_some():
    class Both(rs.CoProcessFunction):
        def process_left(self, row, ctx):
            yield {"k": "left", "seen": ctx.timestamp}

        def process_right(self, row, ctx):
            yield {"k": "right", "seen": ctx.timestamp}

    job = rs.Job("t")
    timed = job.from_items([1], timestamps=[5])
    met = timed.connect(job.from_items([2])).process(Both(), OUT)
    rows = met.map(lambda row: (row["k"], row["seen"])).collect()
    assert sorted(rows) == [("left", 5), ("right", None)]
