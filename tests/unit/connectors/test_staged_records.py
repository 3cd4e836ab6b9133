"""Messages that wait for their commit: few travel in the checkpoint, many lie in files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.connectors import staged_records
from raystream.connectors.staged_records import MESSAGES, Folder, Staging, messages_of, remove
from raystream.runtime.shell import contexts


def messages(values):
    nothing = pa.nulls(len(values), pa.binary())
    columns = [nothing, pa.array(values, pa.binary())]
    columns += [pa.nulls(len(values), MESSAGES.field(index).type) for index in (2, 3, 4)]
    return pa.RecordBatch.from_arrays(columns, schema=MESSAGES)


def values_of(parts):
    return [v for part in parts for batch in messages_of(part) for v in batch["value"].to_pylist()]


def test_few_messages_travel_in_the_checkpoint(tmp_path):
    staging = Staging(Folder(str(tmp_path / "none"), "run"))
    assert staging.finish() == []
    staging.add(messages([b"a", None]))
    staging.add(messages([b"b"]))
    parts = pickle.loads(pickle.dumps(staging.finish()))
    assert values_of(parts) == [b"a", None, b"b"]
    assert staging.finish() == []
    assert not (tmp_path / "none").exists()


def test_many_lie_in_files_of_which_memory_holds_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(staged_records, "_PART_BYTES", 100_000)
    monkeypatch.setattr(staged_records, "_INLINE_BYTES_MAX", 1_000)
    staging = Staging(Folder(str(tmp_path), "run"))
    given = [os.urandom(30_000) for _ in range(10)]
    for value in given:
        staging.add(messages([value]))
    assert len(list(tmp_path.iterdir())) == 2, "two parts are full, the rest is in memory"
    parts = staging.finish()
    assert values_of(parts) == given
    assert all(Path(part).is_absolute() for part in parts)
    for part in parts:
        remove(part)
        remove(part)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(rs.SinkError, match="are gone"):
        values_of(parts)


def test_what_was_never_prepared_goes_with_its_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(staged_records, "_PART_BYTES", 10)
    staging = Staging(Folder(str(tmp_path), "run"))
    staging.add(messages([b"x" * 100]))
    staging.discard()
    assert list(tmp_path.iterdir()) == []
    assert staging.finish() == []


@pytest.mark.parametrize("checkpoint", [None, "memory://kept"])
def test_a_sink_is_told_of_a_folder_beside_the_checkpoints(checkpoint):
    from raystream.graph.planner import physical_plan

    job = rs.Job("a b", checkpoint=checkpoint)
    job.from_items([1]).sink(rs.MemorySink())
    plan = physical_plan(job._draft.plan())
    context = contexts(plan, plan.subtasks[0], ManualClock(), lambda *_: None)
    told = context(plan.chains[0].nodes[0]).staging
    assert told == (None if checkpoint is None else "memory://kept/a%20b/staged")
