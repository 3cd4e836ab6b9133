"""Laws of a job that sizes itself: within bounds, for a reason, the same each time, and at rest."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queueing import Model, Stage

import raystream as rs
from raystream.coordinator.demand import capacity, fit
from raystream.graph.rescaling import Replan

ROWS = pa.schema([("k", pa.int64())])
BOUNDS = st.tuples(st.integers(1, 3), st.integers(3, 20))


def replan(parallelism: int, bounds: tuple[int, int], own: tuple[int, int]) -> Replan:
    job = rs.Job(
        "sized",
        parallelism=parallelism,
        checkpoint="memory://sized",
        autoscale=rs.Autoscale(*bounds),
    )
    rows = job.source(rs.DataGenSource(ROWS, rows_per_second=1), name="read")
    counted = rows.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS).named("count")
    added = counted.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS).named("add")
    added.with_parallelism(own).print()
    return Replan(job._draft.plan())


STAGE = st.builds(
    Stage,
    rate=st.floats(200, 5_000),
    gives=st.sampled_from([0.1, 1.0, 3.0]),
    hot=st.sampled_from([0.0, 0.0, 0.3, 0.8]),
    cores=st.sampled_from([2, 10_000]),
    small=st.sampled_from([0.0, 1.0]),
)
LOADS = st.lists(st.integers(0, 8_000), min_size=1, max_size=3)


@st.composite
def models(draw: Any) -> Any:
    bounds, own = draw(BOUNDS), draw(BOUNDS)
    made = replan(draw(st.integers(1, 4)), bounds, own)
    stages = {name: draw(STAGE) for name in ("read", "count", "add")}
    loads = draw(LOADS)
    rest = {
        "splits": draw(st.sampled_from([1, 3, 1_000])),
        "tells": draw(st.booleans()),
        "live": draw(st.booleans()),
        "room": draw(st.sampled_from([6, 10_000])),
        "noise": draw(st.sampled_from([0.0, 0.2])),
    }

    def arrives(now_s: float) -> float:
        return loads[min(int(now_s // 400), len(loads) - 1)]

    return lambda: Model(made, stages, arrives, **rest), bounds, own


@pytest.mark.slow
@settings(max_examples=25)
@given(models())
def test_sizes_stay_within_bounds_and_every_decision_has_a_reason(drawn):
    make, bounds, own = drawn
    one, two = make().run(1_500), make().run(1_500)
    assert (one.told, one.said) == (two.told, two.said)
    for operator, (least, most) in {"read": bounds, "count": bounds, "add": own}.items():
        assert least <= one.size(operator) <= most
    for _, told in one.told:
        assert told.reason.endswith(tuple("abcdefghijklmnopqrstuvwxyz_()%"))
        assert "→" in told.reason
        assert told.before != told.after
    assert one.scaler.said


@pytest.mark.slow
@settings(max_examples=25)
@given(models())
def test_a_load_that_stays_is_left_alone_in_the_end(drawn):
    make, _, _ = drawn
    it = make().run(6_000)
    before = len(it.grown())
    it.run(600)
    assert len(it.grown()) == before, [one.reason for _, one in it.told]


@given(
    st.floats(0.1, 1e6),
    st.floats(1, 1e5),
    st.floats(0.1, 0.95),
    st.sampled_from([0.0, 0.05, 0.2, 0.9]),
    st.tuples(st.integers(1, 4), st.integers(4, 400)),
)
def test_what_fits_is_the_least_that_does(due, rate, utilisation, hot, bounds):
    least, most = bounds
    found = fit(due, rate, utilisation, hot, (least, most))
    assert least <= found.count <= most
    if found.enough:
        assert due <= capacity(found.count, rate, hot) * utilisation * (1 + 1e-6)
        if found.count > least:
            fewer = capacity(found.count - 1, rate, hot) * utilisation
            assert due > fewer * (1 - 1e-6)
    else:
        assert due > capacity(most, rate, hot) * utilisation * (1 - 1e-6)
