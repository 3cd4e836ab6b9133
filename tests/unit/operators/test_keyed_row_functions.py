"""map_with_state, reduce and aggregates of objects: state by key, emits, errors."""

import numpy as np
import pyarrow as pa
import pytest

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts import aggregate as rs
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.state import ValueState
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, Objects
from raystream.flow.element import MAX_TIME
from raystream.operators.map_with_state import MapWithStateSpec
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.operator import Spec
from raystream.operators.reduce import ReduceSpec

WIRE = pa.schema([("k", pa.int64()), ("v", pa.int64()), EVENT_TIME_FIELD])


def opened(spec, rows_max=1_000):
    assert isinstance(spec, Spec)
    operator = spec.build()
    limits = Limits(batch_rows_max=rows_max, row_batch_rows_max=rows_max)
    operator.open(OpenContext(limits=limits))
    return operator


def objects(values, keys, times=None):
    return Objects(values, None if times is None else np.array(times, np.int64), keys)


def columns(*rows):
    return Columns(
        pa.RecordBatch.from_pylist(
            [dict(zip("kv", row[:2], strict=True)) | {"__ts": row[2]} for row in rows], WIRE
        )
    )


def rows_of(batches):
    out = []
    for batch in batches:
        if isinstance(batch, Columns):
            out += [tuple(row.values()) for row in batch.record.to_pylist()]
        else:
            times = (
                [None] * batch.num_rows if batch.timestamps is None else batch.timestamps.tolist()
            )
            out += zip(batch.values, times, strict=True)
    return out


def mapping(function, initial=None, keys=None, output=None):
    return MapWithStateSpec(
        Function(function), initial, keys, output, "map_with_state#1", "job.py:7"
    )


def reducing(function, emit="row", keys=None, output=None):
    return ReduceSpec(Function(function), keys, output, emit, "reduce#1", "job.py:8")


def number(state, row):
    return state + 1, (row, state + 1)


class TestMapWithState:
    def test_state_is_kept_per_key(self):
        operator = opened(mapping(number, 0))
        out = operator.on_batch(0, objects("abc", [1, 2, 1], [7, 8, 9]))
        assert rows_of(out) == [(("a", 1), 7), (("b", 1), 8), (("c", 2), 9)]
        assert rows_of(operator.on_batch(0, objects("d", [2]))) == [(("d", 2), None)]

    def test_columns_come_in_as_dicts_and_go_out_as_columns(self):
        def total(state, row):
            return state + row["v"], {"k": row["k"], "v": state + row["v"]}

        operator = opened(mapping(total, 0, ("k",), WIRE))
        out = list(operator.on_batch(0, columns((1, 10, 5), (2, 20, 6), (1, 5, 7))))
        assert out[0].record.schema == WIRE
        assert rows_of(out) == [(1, 10, 5), (2, 20, 6), (1, 15, 7)]

    def test_none_out_is_no_row_and_times_stay_with_their_rows(self):
        operator = opened(mapping(lambda state, row: (1, row if row > 1 else None)))
        out = operator.on_batch(0, objects([1, 2, 0, 3], [1, 1, 1, 1], [10, 20, 30, 40]))
        assert rows_of(out) == [(2, 20), (3, 40)]
        assert not list(operator.on_batch(0, objects([0], [1], [50])))

    def test_a_state_of_none_is_forgotten(self):
        seen = []

        def step(state, row):
            seen.append(state)
            return (None if row == "end" else [*state, row]), None

        operator = opened(mapping(step, []))
        list(operator.on_batch(0, objects(["a", "end", "b"], [1, 1, 1])))
        assert seen == [[], ["a"], []]
        assert operator._states == {1: ["b"]}

    def test_initial_is_copied_deeply_for_each_key(self):
        def grow(state, row):
            state["rows"].append(row)
            return state, len(state["rows"])

        initial = {"rows": []}
        operator = opened(mapping(grow, initial))
        assert rows_of(operator.on_batch(0, objects("xyz", [1, 2, 1]))) == [
            (1, None),
            (1, None),
            (2, None),
        ]
        assert initial == {"rows": []}

    def test_a_callable_makes_the_initial_state(self):
        operator = opened(mapping(lambda state, row: ([*state, row], [*state, row]), list))
        out = operator.on_batch(0, objects("ab", [1, 1]))
        assert rows_of(out) == [(["a"], None), (["a", "b"], None)]

    def test_a_state_that_goes_out_and_is_changed_later_does_not_change_what_went_out(self):
        def grow(state, row):
            state["n"] = state.get("n", 0) + 1
            return state, state

        operator = opened(mapping(grow, {}))
        out = rows_of(operator.on_batch(0, objects("aaa", [1, 1, 1])))
        assert [row["n"] for row, _ in out] == [1, 2, 3]

    def test_keys_are_told_apart_by_kind_and_nan_is_one(self):
        nan = float("nan")
        keys = [1, True, 1.0, nan, -nan, 0.0, -0.0, None, (1, 2), (1, True)]
        operator = opened(mapping(number, 0))
        out = rows_of(operator.on_batch(0, objects(keys, keys)))
        assert [n for (_, n), _ in out] == [1, 1, 1, 1, 2, 1, 2, 1, 1, 1]

    def test_several_key_columns_are_one_key(self):
        operator = opened(mapping(number, 0, ("k", "v"), None))
        out = rows_of(operator.on_batch(0, columns((1, 2, 0), (1, 3, 0), (1, 2, 0))))
        assert [n for (_, n), _ in out] == [1, 1, 2]

    def test_large_batches_go_out_in_slices(self):
        operator = opened(mapping(number, 0), rows_max=2)
        out = list(operator.on_batch(0, objects(range(5), [1] * 5)))
        assert [batch.num_rows for batch in out] == [2, 2, 1]
        assert [n for (_, n), _ in rows_of(out)] == [1, 2, 3, 4, 5]

    def test_a_failing_function_names_the_row(self):
        operator = opened(mapping(lambda state, row: (1, 10 // row)))
        with pytest.raises(UserFunctionError) as error:
            list(operator.on_batch(0, objects([5, 0, 1], [1, 1, 1])))
        assert error.value.row == "0"
        assert error.value.operator == "map_with_state#1"
        assert error.value.where == "job.py:7"
        assert isinstance(error.value.__cause__, ZeroDivisionError)

    @pytest.mark.parametrize("wrong", [None, 5, [1, 2, 3], (1, 2, 3)])
    def test_a_function_that_gives_no_pair_is_told_what_to_return(self, wrong):
        operator = opened(mapping(lambda state, row: (1, 1) if row else wrong))
        with pytest.raises(UserFunctionError, match=r"instead of \(state, out\)") as error:
            list(operator.on_batch(0, objects([1, 0], [1, 1])))
        assert error.value.row == "0"

    def test_a_class_is_made_and_opened_once(self):
        class Counting:
            def open(self, ctx):
                self.opened = ctx.subtask_index

            def __call__(self, state, row):
                return state, (self.opened, row)

        operator = opened(mapping(Counting, 1))
        assert rows_of(operator.on_batch(0, objects("a", [1]))) == [((0, "a"), None)]
        operator.close()


class TestReduce:
    def test_the_first_row_goes_out_as_it_is(self):
        operator = opened(reducing(lambda a, b: a + b))
        out = rows_of(operator.on_batch(0, objects([1, 5, 2], "xyx", [7, 8, 9])))
        assert out == [(1, 7), (5, 8), (3, 9)]

    def test_columns_stay_columns(self):
        def add(a, b):
            return {"k": a["k"], "v": a["v"] + b["v"]}

        rows = columns((1, 10, 5), (2, 20, 6), (1, 5, 4))
        for emit, wanted in (
            ("row", [(1, 10, 5), (2, 20, 6), (1, 15, 4)]),
            ("batch", [(1, 15, 5), (2, 20, 6)]),
            ("final", [(1, 15, 5), (2, 20, 6)]),
        ):
            operator = opened(reducing(add, emit, ("k",), WIRE))
            out = [*operator.on_batch(0, rows), *operator.on_watermark(MAX_TIME)]
            out += operator.on_end()
            assert rows_of(out) == wanted

    def test_a_row_that_the_function_changes_in_place_has_not_changed_what_went_out(self):
        def add(a, b):
            a["n"] += b["n"]
            return a

        operator = opened(reducing(add))
        rows = [{"n": 1}, {"n": 2}, {"n": 4}]
        out = rows_of(operator.on_batch(0, objects(rows, "xxx")))
        assert [row["n"] for row, _ in out] == [1, 3, 7]

    def test_the_end_comes_in_slices_and_can_be_resumed(self):
        operator = opened(reducing(max, "final"), rows_max=2)
        list(operator.on_batch(0, objects([1, 2, 3, 9], "abca", [0, 5, 6, 7])))
        assert operator.output_watermark(99) is None
        firing = operator.on_watermark(MAX_TIME)
        assert rows_of([next(firing)]) == [(9, 7), (2, 5)]
        firing.close()
        assert rows_of(operator.on_watermark(MAX_TIME)) == [(3, 6)]
        assert not list(operator.on_end())

    def test_a_batch_gives_only_the_keys_it_touched(self):
        operator = opened(reducing(lambda a, b: a + b, "batch"))
        assert rows_of(operator.on_batch(0, objects("ab", "xy"))) == [("a", None), ("b", None)]
        assert rows_of(operator.on_batch(0, objects("cd", "yy"))) == [("bcd", None)]

    def test_a_failing_function_names_the_row(self):
        for emit in ("row", "batch"):
            operator = opened(reducing(lambda a, b: a + b, emit))
            with pytest.raises(UserFunctionError) as error:
                list(operator.on_batch(0, objects([1, 2, "x"], "aaa")))
            assert error.value.row == "'x'"

    def test_a_row_that_does_not_fit_the_schema_is_refused(self):
        operator = opened(reducing(lambda a, b: {"k": 1}, "row", ("k",), WIRE))
        with pytest.raises(UserFunctionError, match='has no "v"'):
            list(operator.on_batch(0, columns((1, 1, 0), (1, 2, 0))))


def aggregating(emit="row", names=("key",), **aggregates):
    pairs = tuple(aggregates.items())
    return ObjectAggregateSpec(pairs, emit, names, "aggregate#1", "job.py:9")


class TestObjectAggregate:
    def test_rows_are_dicts_of_the_key_and_the_values(self):
        operator = opened(aggregating(n=rs.count(), total=rs.sum(len)))
        out = rows_of(operator.on_batch(0, objects(["ab", "c", "d"], ["x", "y", "x"], [3, 4, 5])))
        assert out == [
            ({"key": "x", "n": 1, "total": 2}, 3),
            ({"key": "y", "n": 1, "total": 1}, 4),
            ({"key": "x", "n": 2, "total": 3}, 5),
        ]

    def test_fields_name_the_parts_of_the_key(self):
        operator = opened(aggregating("final", ("a", "b"), n=rs.count()))
        list(operator.on_batch(0, objects([0, 0, 0], [(1, "x"), (2, "y"), (1, "x")], [1, 2, 3])))
        assert rows_of(operator.on_end()) == [
            ({"a": 1, "b": "x", "n": 2}, 3),
            ({"a": 2, "b": "y", "n": 1}, 2),
        ]

    def test_a_field_that_is_missing_is_told_with_the_row(self):
        operator = opened(aggregating(n=rs.sum("v")))
        with pytest.raises(UserFunctionError, match="KeyError: 'v'") as error:
            list(operator.on_batch(0, objects([{"v": 1}, {"w": 2}], [1, 1])))
        assert error.value.row == "{'w': 2}"

    def test_an_expression_is_refused_when_the_job_is_built(self):
        import narwhals.stable.v2 as nw

        with pytest.raises(PlanError, match="Python objects as rows"):
            aggregating(n=rs.sum(nw.col("v")))


@pytest.mark.parametrize("before", ["memory", "disk"])
@pytest.mark.parametrize("after", ["memory", "disk"])
def test_state_of_map_with_state_moves_between_backends(before, after):
    def of(backend):
        operator = mapping(lambda n, row: (n + 1, n), 0).build()
        operator.open(OpenContext(limits=Limits(state_backend=backend)))
        return operator

    one, other = of(before), of(after)
    rows_of(one.on_batch(0, objects([1, 2, 3], ["a", "b", "a"])))
    other.restore(one.snapshot())
    assert rows_of(other.on_batch(0, objects([4, 5], ["a", "c"]))) == [(2, None), (0, None)]
    for operator in (one, other):
        operator.close()


def test_state_of_map_with_state_is_forgotten_after_its_ttl():
    clock = ManualClock()
    spec = MapWithStateSpec(
        Function(lambda n, row: (n + 1, n)), 0, None, None, "it", "", ValueState("state", ttl="10s")
    )
    operator = spec.build()
    operator.open(OpenContext(clock=clock))
    seen = []
    for seconds in (0, 9, 9, 10):
        clock.advance(seconds * 1_000_000)
        seen += rows_of(operator.on_batch(0, objects([1], ["a"])))
    assert [row for row, _ in seen] == [0, 1, 2, 0]
