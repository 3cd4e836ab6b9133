"""What must be true of every checkpoint of a job, not only of the last one."""

from __future__ import annotations

import pickle

import pytest
from ledger import Ledger
from topologies import ROWS, plan_of

from raystream.contracts.checkpointing import Checkpointing
from raystream.flow import plain
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry, Manifest
from raystream.keyed.snapshot import section
from raystream.storage.jobs import read_manifest
from raystream.storage.loading import load
from raystream.storage.log import read_log
from raystream.testing.world import Faults, World, without_faults


def manifests(world: World) -> list[Manifest]:
    entries = [one.entry for one in read_log(world.root).entries]
    return [
        read_manifest(world.root, e.manifest) for e in entries if isinstance(e, CheckpointEntry)
    ]


def taken(world: World, manifest: Manifest) -> int:
    """Count the rows that sources had given before a checkpoint."""
    table = section(load(manifest, world.root, ["source#1"], 0, 1)["source#1"], "splits")
    assert table is not None
    rows = table.to_pylist()
    return sum(ROWS if row["finished"] else plain.loads(row["position"]) or 0 for row in rows)


@pytest.mark.parametrize("parallelism", [1, 3])
def test_c28_of_each_row_both_copies_are_in_a_snapshot_or_neither(parallelism):
    settings = Checkpointing("sim://", every="1ms", keep=1_000)
    world = without_faults(plan_of("diamond", Ledger(), parallelism, settings), seed=1)
    counts = []
    for manifest in manifests(world):
        uid = "map_with_state#1"
        kept = load(manifest, world.root, [uid], 0, 1).get(uid, ())
        table = section(kept, "state:state")
        seen = 0 if table is None else sum(map(pickle.loads, table.column("pickled").to_pylist()))
        assert seen == 2 * taken(world, manifest)
        counts.append(seen)
    assert len(counts) > 2
    assert counts[-1] == 2 * 3 * ROWS
    assert any(0 < seen < counts[-1] for seen in counts)


@pytest.mark.parametrize("seed", range(4))
def test_whoever_takes_over_tells_of_every_attempt_before(seed):
    settings = Checkpointing("sim://", every="1ms", keep=1_000)
    faults = Faults(subtasks=3, coordinators=2, orphans=1, storage=1)
    world = World([plan_of("counts", Ledger(), 2, settings)], seed, faults)
    world.run()
    entries = [one.entry for one in read_log(world.root).entries]
    told = [e for e in entries if isinstance(e, AttemptEntry | CheckpointEntry)]
    counts = [one.past.restarts + one.past.takeovers for one in told]
    assert counts == sorted(counts)
    assert told[-1].attempt > 1
    assert all(one.attempt <= 1 + count for one, count in zip(told, counts, strict=True))
    takeovers = [f for f in told[-1].past.failures if f.kind == "CoordinatorLost"]
    assert len(takeovers) == told[-1].past.takeovers
