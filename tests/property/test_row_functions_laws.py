"""Row functions give the same rows and event times wherever batches end."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.flow.batch import Objects
from raystream.operators.row_functions import FilterFunctionSpec, FlatMapSpec, MapSpec


def several(row):
    if row == 0:
        return None
    return [row] * row if row % 2 else iter([row] * row)


def run(spec, rows, cuts, rows_max):
    operator = spec.build()
    operator.open(OpenContext(limits=Limits(row_batch_rows_max=rows_max)))
    bounds = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(bounds):
        times = np.arange(start, stop)
        for batch in operator.on_batch(0, Objects(rows[start:stop], times)):
            assert 0 < batch.num_rows <= max(rows_max, stop - start)
            yield from zip(batch.values, batch.timestamps.tolist(), strict=True)


@given(
    st.lists(st.integers(0, 6), max_size=15),
    st.lists(st.integers(0, 50), max_size=4),
    st.integers(1, 9),
)
@settings(max_examples=100, deadline=None)
def test_rows_and_times_do_not_depend_on_where_batches_end(rows, cuts, rows_max):
    expected = [
        (FlatMapSpec(Function(several), None, "f", ""), lambda row: [row] * row),
        (MapSpec(Function(lambda row: row + 1), None, "f", ""), lambda row: [row + 1]),
        (FilterFunctionSpec(Function(lambda row: row > 2), "f", ""), lambda row: [row][: row > 2]),
    ]
    for spec, model in expected:
        rows_out = [(made, at) for at, row in enumerate(rows) for made in model(row)]
        assert list(run(spec, rows, cuts, rows_max)) == rows_out
