"""What async_map has in flight, and when it lets it go."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import SystemClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.rejects import Rejects
from raystream.errors import UserFunctionError
from raystream.flow.batch import Objects
from raystream.flow.element import MAX_TIME, Status, Watermark
from raystream.operators.async_map import AsyncMapSpec


class Gate:
    """Answers a row once the test lets it through."""

    def __init__(self, *through):
        self.through = set(through)
        self.waiting = {}
        self.under_way = set()
        self.most = 0

    async def open(self, ctx):
        self.loop = asyncio.get_running_loop()

    async def __call__(self, row):
        self.under_way.add(row)
        self.most = max(self.most, len(self.under_way))
        if row not in self.through:
            self.waiting[row] = asyncio.Event()
            await self.waiting[row].wait()
        self.under_way.discard(row)
        return -row

    def let(self, *rows):
        """Let rows through; in the loop, where nothing else happens meanwhile."""
        self.loop.call_soon_threadsafe(self._let, rows)

    def _let(self, rows):
        self.through |= set(rows)
        for row in rows:
            if row in self.waiting:
                self.waiting[row].set()


class Stand:
    """An operator on the machine's own clock, and what has come out of it."""

    def __init__(self, function, policy="fail", limits=None, **given):
        self.ctx = OpenContext(
            "it", clock=SystemClock(), limits=limits or Limits(), errors=Rejects(policy, "it")
        )
        self.operator = AsyncMapSpec(
            Function(function), output=None, operator="it", where="", **{"keys": None, **given}
        ).build()
        self.out = []

    def __enter__(self):
        try:
            self.operator.open(self.ctx)
        except UserFunctionError:  # a chain closes what it could not open
            self.operator.close()
            raise
        return self

    def __exit__(self, *_):
        self.operator.close()

    def take(self, outs):
        for out in outs:
            if isinstance(out, Watermark):
                self.out.append(("watermark", out.time_us))
            elif isinstance(out, Status):
                self.out.append("idle" if out.idle else "active")
            else:
                self.out += out.values
        return self.out

    def batch(self, *rows, keys=None):
        return self.take(self.operator.on_batch(0, objects(*rows, keys=keys)))

    def until(self, *wanted):
        """Look as often as it takes; a test that hangs is ended by its timeout."""
        while self.out != list(wanted):
            assert len(self.out) <= len(wanted), self.out
            assert self.operator.timer_due_us() is not None
            self.operator._loop.wait(self.operator._something_is_ready, 0.001)
            self.take(self.operator.on_timer(self.ctx.clock.now_us()))


def objects(*rows, keys=None):
    return Objects(list(rows), np.arange(len(rows)), None if keys is None else list(keys))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_results_leave_in_the_order_of_their_rows():
    with Stand(gate := Gate()) as it:
        it.batch(1, 2, 3)
        gate.let(2)
        it.take(it.operator.on_timer(0))
        assert it.out == []
        gate.let(1, 3)
        it.until(-1, -2, -3)
        assert it.operator.timer_due_us() is None


def test_results_leave_as_they_come_but_never_across_a_watermark():
    with Stand(gate := Gate(), ordered=False) as it:
        it.batch(1, 2)
        it.take(it.operator.on_watermark(7))
        it.batch(3)
        gate.let(3, 2)
        it.until(-2)
        gate.let(1)
        it.until(-2, -1, ("watermark", 7), -3)


def test_idleness_waits_for_the_rows_before_it_and_the_last_word_counts():
    with Stand(gate := Gate()) as it:
        it.take(it.operator.on_status(Status(idle=True)))
        assert it.out == ["idle"]
        it.take(it.operator.on_status(Status(idle=False)))
        it.batch(1)
        for time_us, idle in ((5, True), (6, False), (7, True)):
            it.take(it.operator.on_watermark(time_us))
            it.take(it.operator.on_status(Status(idle)))
        assert it.out == ["idle", "active"]
        gate.let(1)
        it.until("idle", "active", -1, ("watermark", 7), "idle")


def test_rows_of_one_key_stay_in_order():
    with Stand(gate := Gate(), ordered=False, keys=()) as it:
        it.batch(1, 2, 3, 4, keys="aabb")
        gate.let(2, 3)
        it.until(-3)
        gate.let(1, 4)
        it.take(it.operator.on_end())
        assert sorted(it.out) == [-4, -3, -2, -1]
        assert it.out.index(-1) < it.out.index(-2)


def test_a_watermark_leaves_behind_the_rows_before_it_and_of_several_the_last():
    with Stand(gate := Gate()) as it:
        assert it.take(it.operator.on_watermark(1)) == [("watermark", 1)]
        it.batch(1)
        for time_us in (2, 3, 3):
            it.take(it.operator.on_watermark(time_us))
            assert it.operator.output_watermark(time_us) is None
        gate.let(1)
        it.until(("watermark", 1), -1, ("watermark", 3))
        assert it.operator.output_watermark(MAX_TIME) == MAX_TIME


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_rows_are_in_flight_than_there_is_room_for(ordered):
    with Stand(gate := Gate(), capacity=3, ordered=ordered) as it:
        gate.let(*range(20))
        it.batch(*range(20))
        it.take(it.operator.on_end())
        assert sorted(it.out) == sorted(-row for row in range(20))
        assert 1 <= gate.most <= 3


def test_a_full_operator_pauses_with_empty_batches_while_it_waits():
    with Stand(gate := Gate(), capacity=1) as it:
        outs = it.operator.on_batch(0, objects(1, 2))
        assert next(outs).num_rows == 0
        gate.let(1)
        while not (given := next(outs)).num_rows:
            pass
        assert given.values == [-1]
        outs.close()


def test_what_leaves_at_once_has_a_bound():
    with Stand(gate := Gate(), limits=Limits(row_batch_rows_max=2)) as it:
        gate.let(1, 2, 3, 4, 5)
        it.operator.on_batch(0, objects())
        for _ in it.operator.on_batch(0, objects(1, 2, 3, 4, 5)):
            pass
        assert {out.num_rows for out in it.operator.on_end()} <= {0, 1, 2}


def test_the_error_of_a_row_names_it():
    async def divide(row):
        return 1 // row

    with Stand(divide) as it:
        it.batch(1, 0)
        with pytest.raises(UserFunctionError, match="row: 0") as caught:
            it.take(it.operator.on_end())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "in divide" in caught.value.user_traceback


def test_rows_that_fail_are_given_up_where_that_is_the_policy():
    async def divide(row):
        return 6 // row

    with Stand(divide, "dead_letter") as it:
        it.batch(1, 0, 2)
        it.take(it.operator.on_end())
        assert it.out == [6, 3]
        (letter,) = it.ctx.errors.take()
    assert (letter["row"], letter["timestamp"]) == (0, 1)
    assert letter["error"].startswith("ZeroDivisionError")


def test_an_attempt_that_takes_too_long_has_failed():
    async def never(row):
        await asyncio.Event().wait()

    with Stand(never, "dead_letter", timeout_us=2_000, retries=1) as it:
        it.batch(1)
        it.take(it.operator.on_end())
        (letter,) = it.ctx.errors.take()
    assert letter["error"] == "TimeoutError: no answer within 0.002 s"


def test_a_row_is_tried_again_as_often_as_was_said():
    tries = {}

    async def third_time(row):
        tries[row] = tries.get(row, 0) + 1
        if tries[row] < row:
            raise OSError(row)
        return row

    with Stand(third_time, "dead_letter", retries=2) as it:
        it.batch(1, 3, 4)
        it.take(it.operator.on_end())
        assert it.out == [1, 3]
        assert tries == {1: 1, 3: 3, 4: 3}
        assert [letter["row"] for letter in it.ctx.errors.take()] == [4]


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, StopAsyncIteration])
def test_whatever_a_function_raises_is_an_error_of_its_row(error):
    async def odd(row):
        raise error

    with Stand(odd, "dead_letter") as it:
        it.batch(1)
        it.take(it.operator.on_end())
        assert [letter["row"] for letter in it.ctx.errors.take()] == [1]


def test_rows_in_flight_are_kept_and_called_again():
    with Stand(Gate(), capacity=5) as it:
        it.batch(1, 2, 3)
        it.take(it.operator.on_watermark(9))
        kept = it.operator.snapshot()
    with Stand(gate := Gate(), capacity=2) as again:
        again.operator.restore(kept)
        gate.let(1, 2, 3, 4)
        again.batch(4)
        again.take(again.operator.on_end())
        assert again.out == [-1, -2, -3, -4]
        assert gate.most <= 2
        assert again.operator.snapshot() == ()


@pytest.mark.parametrize("fails", ["__init__", "open", "close"])
def test_no_thread_is_left_where_a_function_cannot_be_opened_or_closed(fails):
    class Broken:
        def __init__(self):
            self._at("__init__")

        async def open(self, ctx):
            self._at("open")

        async def __call__(self, row):
            await asyncio.Event().wait()

        async def close(self):
            self._at("close")

        def _at(self, place):
            if place == fails:
                raise RuntimeError(place)

    def live():
        with Stand(Broken) as it:
            it.batch(1)

    with pytest.raises(UserFunctionError, match=fails):
        live()


# As scripts use it -------------------------------------------------------------------------------


async def twice(row):
    await asyncio.sleep(0)
    return {"n": 2 * row["n"]}


def numbers(count=5, **given):
    rows = [{"n": n} for n in range(count)]
    return rs.Job("it", runtime="local").from_items(rows, **given)


N = pa.schema({"n": pa.int64()})


@pytest.mark.parametrize("given", [{}, {"schema": N}])
@pytest.mark.parametrize("schema", [None, N])
def test_it_maps_objects_and_columns_to_objects_and_columns(given, schema):
    made = numbers(**given).async_map(twice, schema=schema)
    assert made.schema == schema
    assert made.collect() == [{"n": 2 * n} for n in range(5)]


def test_none_is_a_value_as_it_is_in_map():
    async def nothing(row):
        return None

    assert numbers(2).async_map(nothing).collect() == [None, None]
    with pytest.raises(rs.JobFailed, match="not a dict"):
        numbers(2).async_map(nothing, schema=N).collect()


def test_windows_behind_it_see_every_row():
    windows = (
        numbers(100, schema=N, timestamps=range(0, 100_000, 1_000))
        .async_map(twice, schema=N, ordered=False, capacity=7)
        .window_all(rs.Tumbling("10ms"))
        .aggregate(rows=rs.count())
    )
    assert [row["rows"] for row in windows.collect()] == [10] * 10


def test_keyed_streams_keep_the_order_of_a_key():
    async def slow_first(row):
        for _ in range(50 - row["n"]):
            await asyncio.sleep(0)
        return row

    keyed = numbers(50).key_by(lambda row: row["n"] % 3)
    out = [row["n"] for row in keyed.async_map(slow_first, ordered=False).collect()]
    for key in range(3):
        assert [n for n in out if n % 3 == key] == list(range(key, 50, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.async_map(lambda row: row), r"map\(\) calls plain functions"),
        (lambda s: s.async_map(3), "takes a function"),
        (lambda s: s.async_map(twice, capacity=0), "capacity is an int of at least 1"),
        (lambda s: s.async_map(twice, retries=-1), "retries is an int of at least 0"),
        (lambda s: s.async_map(twice, timeout="0s"), "timeout must be longer than nothing"),
        (lambda s: s.async_map(twice, ordered="yes"), "ordered is a bool"),
        (lambda s: s.map(twice), r"async_map\(\) awaits functions"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(call, message):
    with pytest.raises((rs.PlanError, rs.ConfigError), match=message):
        call(numbers())


@pytest.mark.slow
def test_sites_of_sensors_are_asked_over_http(http_sites):
    url, asked = http_sites

    class Site:
        def __init__(self, url):
            self.url = url

        async def open(self, ctx):
            import aiohttp

            self.http = aiohttp.ClientSession()

        async def __call__(self, row):
            async with self.http.get(f"{self.url}/{row['sensor']}") as answer:
                return row | {"site": (await answer.json())["site"]}

        async def close(self):
            await self.http.close()

    schema = pa.schema({"sensor": pa.string(), "value": pa.float64()})
    rows = [{"sensor": f"s{n % 7}", "value": float(n)} for n in range(200)]
    rows[50]["sensor"] = "broken"
    job = rs.Job("anomalies", runtime="local")
    odd = job.from_items(rows, schema=schema)
    sites = odd.async_map(
        Site,
        fn_kwargs={"url": url},
        capacity=20,
        timeout="2s",
        retries=3,
        schema=odd.schema.append(pa.field("site", pa.string())),
    ).on_error("dead_letter")
    sink, dead = rs.MemorySink(), rs.MemorySink()
    sites.sink(sink)
    sites.dead_letters.sink(dead)
    job.run()
    good = [row for row in rows if row["sensor"] != "broken"]
    assert sink.rows == [row | {"site": f"site of {row['sensor']}"} for row in good]
    assert [letter["row"] for letter in dead.rows] == [rows[50]]
    assert asked["broken"] == 4


@pytest.fixture
def http_sites():
    """A server of our own: says where a sensor stands, and of one that it does not know."""
    web = pytest.importorskip("aiohttp.web")
    asked = {}

    async def site(request):
        sensor = request.match_info["sensor"]
        asked[sensor] = asked.get(sensor, 0) + 1
        if sensor == "broken":
            return web.Response(status=500, text="no such sensor")
        return web.json_response({"site": f"site of {sensor}"})

    async def start():
        app = web.Application()
        app.router.add_get("/{sensor}", site)
        runner = web.AppRunner(app)
        await runner.setup()
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        return runner, listening._server.sockets[0].getsockname()[1]

    loop = asyncio.new_event_loop()
    runner, port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}", asked
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
