"""Where each row goes: every row once, to the right subtask, in its order."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from subtasks import WIRE, rows

from raystream.errors import UserFunctionError
from raystream.flow.batch import Columns, Objects
from raystream.flow.exchange import (
    Broadcast,
    Custom,
    Forward,
    Hash,
    Rebalance,
    Shuffle,
    ToOne,
)
from raystream.flow.hashing import hash_value
from raystream.graph.physical import Edge
from raystream.subtask.partition import divide_by, local_group, partitioner
from raystream.subtask.wiring import receivers

MAX = 128


def make(exchange, up=1, down=3, upstream=0):
    return partitioner(
        exchange,
        upstream=upstream,
        parallelism_up=up,
        parallelism_down=down,
        max_parallelism=MAX,
    )


def numbers(batch):
    return batch.record.column("n").to_pylist() if isinstance(batch, Columns) else batch.values


def shares(divide, *batches):
    """Give the numbers that each destination gets, in order."""
    got = {}
    for batch in batches:
        for destination, part in divide.divide(batch):
            assert part.num_rows
            assert part.num_rows == len(part.timestamps)
            assert part.timestamps.tolist() == numbers(part)
            got.setdefault(destination, []).extend(numbers(part))
    return got


def objects(start, count):
    values = list(range(start, start + count))
    return Objects(values, np.array(values), [f"k{value % 7}" for value in values])


EXCHANGES = [
    Forward(),
    Hash(("n",)),
    Hash(("n", "text")),
    Rebalance(),
    Rebalance(local=True),
    Shuffle(),
    ToOne(),
    Custom(lambda row: row["n"] * 3 - 11, "by", "test"),
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=str)
@pytest.mark.parametrize("down", [1, 2, 3, 7])
def test_each_row_goes_to_one_place_and_rows_keep_their_order(exchange, down):
    for upstream in range(3):
        divide = make(exchange, up=3, down=down, upstream=upstream)
        got = shares(divide, rows(0, 100), rows(100, 1), rows(101, 50))
        assert sorted(n for some in got.values() for n in some) == list(range(151))
        assert all(some == sorted(some) for some in got.values())


@pytest.mark.parametrize("exchange", [*EXCHANGES[1:], Broadcast()], ids=str)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 2), (1, 4), (4, 1), (3, 5), (5, 3)])
def test_rows_only_go_where_a_channel_leads(exchange, up, down):
    edge = Edge(0, "a", "b", 0, exchange, WIRE)
    for upstream in range(up):
        known = receivers(edge, upstream, up, down)
        divide = make(exchange, up=up, down=down, upstream=upstream)
        for destination in shares(divide, rows(0, 200)):
            assert destination in known


def test_forward_keeps_to_the_own_index():
    assert set(shares(make(Forward(), up=3, down=3, upstream=2), rows(0, 10))) == {2}


def test_to_one_goes_to_the_first():
    assert set(shares(make(ToOne(), down=4), rows(0, 10))) == {0}


def test_broadcast_goes_everywhere_whole():
    got = shares(make(Broadcast(), down=4), rows(0, 10))
    assert got == {at: list(range(10)) for at in range(4)}


def test_broadcast_to_one_subtask_is_one_copy():
    assert shares(make(Broadcast(), down=1), rows(0, 3)) == {0: [0, 1, 2]}


@pytest.mark.parametrize("down", [2, 3, 5, 128])
def test_hash_follows_the_key_groups(down):
    got = shares(make(Hash(("n",)), down=down), rows(0, 500))
    for destination, some in got.items():
        for n in some:
            assert hash_value(n) % MAX * down // MAX == destination


def test_an_object_goes_where_a_column_of_the_same_key_goes():
    keys = ["a", "ß", None, "", "k3", "漢"] * 3
    times = np.arange(len(keys))
    record = pa.RecordBatch.from_arrays(
        [pa.array(times), pa.array(keys), pa.array(times)], WIRE.names
    )
    by_column = shares(make(Hash(("text",))), Columns(record.cast(WIRE)))
    by_object = shares(make(Hash(())), Objects(times.tolist(), times, keys))
    assert by_column == by_object
    assert len(by_column) > 1


def test_keys_of_objects_travel_with_them():
    for _, part in make(Hash(())).divide(objects(0, 60)):
        assert part.keys == [f"k{value % 7}" for value in part.values]


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 100])
def test_rebalance_goes_on_where_the_last_batch_stopped(batch_rows):
    divide = make(Rebalance(), down=3)
    batches = [rows(start, min(batch_rows, 100 - start)) for start in range(0, 100, batch_rows)]
    got = shares(divide, *batches)
    assert got == {at: list(range(at, 100, 3)) for at in range(3)}


def test_upstreams_begin_to_rebalance_at_different_places():
    first = [
        next(iter(shares(make(Rebalance(), up=3, upstream=up), rows(0, 1)))) for up in range(3)
    ]
    assert sorted(first) == [0, 1, 2]


@pytest.mark.parametrize("up", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("down", [1, 2, 3, 5, 8])
def test_local_groups_leave_nobody_out_and_are_of_even_size(up, down):
    groups = [local_group(upstream, up, down) for upstream in range(up)]
    assert {index for group in groups for index in group} == set(range(down))
    lengths = {len(group) for group in groups}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1


def test_shuffle_reaches_all_about_evenly_and_the_same_way_each_time():
    got = shares(make(Shuffle(), down=4), rows(0, 4_000))
    assert got == shares(make(Shuffle(), down=4), rows(0, 4_000))
    assert got != shares(make(Shuffle(), down=4, up=2, upstream=1), rows(0, 4_000))
    assert all(800 < len(some) < 1_200 for some in got.values())


@pytest.mark.parametrize("answer", [-1, 2**70, True, np.int8(5), -(10**30)])
def test_a_function_may_give_any_int(answer):
    got = shares(make(Custom(lambda _: answer, "by", "test")), rows(0, 5))
    assert got == {int(answer) % 3: [0, 1, 2, 3, 4]}


def test_a_function_sees_rows_without_the_hidden_time_and_objects_as_they_are():
    seen = []
    divide = make(Custom(lambda row: seen.append(row) or 0, "by", "test"))
    list(divide.divide(rows(3, 1)))
    list(divide.divide(objects(8, 1)))
    assert seen == [{"n": 3, "text": "3333"}, 8]


@pytest.mark.parametrize("answer", [1.5, None, "1"])
def test_a_function_that_gives_no_int_is_told_with_the_row(answer):
    divide = make(Custom(lambda row: answer if row["n"] == 2 else 0, "by#1", "job.py:3"))
    with pytest.raises(UserFunctionError, match="integer") as caught:
        list(divide.divide(rows(0, 5)))
    assert caught.value.operator == "by#1"
    assert "'n': 2" in str(caught.value)


def test_a_function_that_raises_is_told_with_the_row():
    divide = make(Custom(lambda row: 1 // (row["n"] - 3), "by#1", "job.py:3"))
    with pytest.raises(UserFunctionError, match="ZeroDivisionError") as caught:
        list(divide.divide(rows(0, 5)))
    assert "'n': 3" in str(caught.value)


@pytest.mark.parametrize("seed", range(10))
def test_divide_by_is_what_a_loop_would_do(seed):
    rng = random.Random(seed)
    parallelism = rng.choice([1, 2, 5, 256, 257, 300])
    count = rng.randint(1, 400)
    chosen = [rng.randrange(parallelism) for _ in range(count)]
    expected = {}
    for n, destination in enumerate(chosen):
        expected.setdefault(destination, []).append(n)
    for batch in (rows(0, count), objects(0, count)):
        got = list(divide_by(batch, np.array(chosen), parallelism))
        assert {at: numbers(part) for at, part in got} == expected
        assert [at for at, _ in got] == sorted(expected)


def test_a_batch_that_goes_to_one_place_is_not_copied():
    batch = rows(0, 50)
    ((destination, same),) = divide_by(batch, np.full(50, 2), 4)
    assert destination == 2
    assert same is batch


def test_counts_of_hash_are_even_enough():
    counts = Counter()
    for destination, some in shares(make(Hash(("n",)), down=8), rows(0, 8_000)).items():
        counts[destination] = len(some)
    assert min(counts.values()) > 700
    assert max(counts.values()) < 1_300
