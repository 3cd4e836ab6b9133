"""What a running aggregate gives as its changes."""

import numpy as np
import pyarrow as pa
import pytest
from conformance_lineage import Lineages, same_rows

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns
from raystream.operators.running_aggregate import RunningAggregateSpec

KEYS = 600


def opened(*aggregates: Bound):
    fields = [("k", pa.int64()), *((one.name, one.output) for one in aggregates)]
    spec = RunningAggregateSpec(("k",), aggregates, "batch", pa.schema(fields))
    operator = spec.build()
    operator.open(OpenContext("it", "job.py:1"))
    return operator


def feed(operator, keys, values):
    columns = {"k": pa.array(keys, pa.int64()), "v": pa.array(values, pa.int64())}
    for _ in operator.on_batch(0, Columns(pa.record_batch(columns))):
        pass


def of(kind: str, output: pa.DataType) -> Bound:
    return Bound("x", kind, output, value="v", value_type=pa.int64())


COUNT = of("count", pa.int64())


def test_only_the_keys_that_were_written_are_given():
    operator = opened(COUNT)
    feed(operator, range(10), range(10))
    assert not operator.changes()[0].delta
    feed(operator, [3, 11, 3], [0, 0, 0])
    operator.snapshot()
    kept = operator.changes()[0]
    assert kept.delta
    assert kept.key == ("k",)
    (counted,) = (name for name in kept.table.column_names if name.startswith("__x."))
    rows = kept.table.select(["k", counted]).to_pylist()
    assert sorted((row["k"], row[counted]) for row in rows) == [(3, 3), (11, 1)]
    assert operator.changes()[0].table.num_rows == 0


def test_a_restored_operator_gives_everything_at_first():
    operator = opened(COUNT)
    feed(operator, range(10), range(10))
    operator.changes()
    again = opened(COUNT)
    again.restore(operator.snapshot())
    feed(again, [3], [0])
    kept = again.changes()[0]
    assert not kept.delta
    assert kept.table.num_rows == 10


@pytest.mark.parametrize(
    "aggregate",
    [
        COUNT,
        of("count_distinct", pa.int64()),
        of("collect", pa.list_(pa.int64())),
        of("last", pa.int64()),
        of("stddev", pa.float64()),
    ],
    ids=lambda one: one.kind,
)
def test_changes_of_few_among_many_keys_add_up_to_the_snapshot(aggregate):
    rng = np.random.default_rng(5)
    operator, lineages = opened(aggregate), Lineages()
    feed(operator, np.tile(np.arange(KEYS), 3), rng.integers(0, 50, 3 * KEYS))
    for round_number in range(6):
        lineages.take(operator.changes())
        same_rows(lineages.snapshot(), operator.snapshot())
        some = rng.integers(0, KEYS + 10 * round_number, 40)
        feed(operator, some, rng.integers(0, 50, 40))
    assert lineages.rows_changed > 100
