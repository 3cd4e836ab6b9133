"""A job that chooses its own size, with the real machines: it grows, and each row comes once."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from ledger import Ledger, LedgerSink
from topologies import SCHEMA, Rows, count

import raystream as rs
from raystream.contracts.checkpointing import Exponential
from raystream.contracts.source import Reader
from raystream.flow.snapshots import AttemptEntry
from raystream.graph.rescaling import Replan
from raystream.storage.log import read_log
from raystream.testing.world import Faults, World, without_faults

COUNTED = pa.schema([SCHEMA.field("k"), pa.field("seen", pa.int64())])
SIZED = rs.Autoscale(max_parallelism=3, cooldown="2ms")


class Backlog(Rows):
    """Rows that are all there from the beginning, and whose readers say so."""

    def open(self, split: Any, position: Any) -> Reader:
        reader: Any = super().open(split, position)
        reader.backlog = lambda: len(reader._rows) - reader._position
        return reader


def replan(ledger: Ledger, autoscale: rs.Autoscale | None) -> Replan:
    job = rs.Job(
        "grows",
        checkpoint=rs.Checkpointing("sim://", every="5ms", timeout="1s"),
        restart=Exponential(1_000, 10_000, 1_000_000),
        autoscale=autoscale,
        config={"batch_rows_max": 16, "row_batch_rows_max": 8},
    )
    rows = job.source(Backlog(rows=500), name="read")
    counted = rows.key_by("k").map_with_state(count, schema=COUNTED).named("count").uid("c")
    counted.sink(LedgerSink(ledger))
    return Replan(job._draft.plan())


@functools.cache
def undisturbed() -> Counter[str]:
    ledger = Ledger()
    without_faults(replan(ledger, None).plan({}))
    return ledger.rows


def scales(world: World) -> list[dict[str, int]]:
    log = [one.entry for one in read_log(world.root).entries]
    return [dict(one.scale) for one in log if isinstance(one, AttemptEntry)]


def live(seed: int, faults: Faults) -> World:
    ledger = Ledger(undisturbed())
    made = replan(ledger, SIZED)
    world = World([made.plan({})], seed, faults, steps_max=400_000, replan=made)
    ledger.durable = world.newest_durable
    world.run()
    assert not ledger.wrongs, f"seed={seed}: {ledger.wrongs[0]}"
    assert ledger.rows == undisturbed(), f"seed={seed}"
    return world


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_job_with_a_backlog_grows_by_itself_within_its_bounds(seed):
    world = live(seed, Faults(0, 0, 0, 0))
    sizes = [size for scale in scales(world) for size in scale.values()]
    assert 1 < max(sizes, default=1) <= 3, f"seed={seed}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whoever_dies_while_a_job_sizes_itself_takes_no_row_along(seed):
    live(seed, Faults(2, 1, 1, 1))
