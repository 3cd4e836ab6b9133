"""Laws of sinks that commit: wherever an attempt dies, each row is visible once in the end."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs
from raystream.connectors.file_sink import FileSink
from raystream.connectors.files import FileSource
from raystream.contracts.source import END

ROWS = 12


@dataclass
class Job:
    """What a job's log and checkpoints would hold of one source subtask and its sink."""

    sink: FileSink
    durable: int = 0  # the last complete checkpoint
    position: int = 0  # of the source, there
    prepared: dict[int, bytes] = field(default_factory=dict)  # not known to be committed
    next_id: int = 1

    def restore(self) -> tuple[int, Any]:
        """Start an attempt: commit what is durable, abort the rest, go on from the position."""
        for checkpoint_id, committables in sorted(self.prepared.items()):
            if checkpoint_id <= self.durable:
                self.sink.commit(checkpoint_id, pickle.loads(committables))
            else:
                self.sink.abort(pickle.loads(committables))
        self.prepared = {}
        return self.position, self.sink.open(rs.OpenContext())

    def attempt(self, moves: list[str]) -> bool:
        """Do what the moves say until one is a crash; True if all rows are visible."""
        at, writer = self.restore()
        for move in moves:
            if move == "row" and at < ROWS:
                writer.write(rs.Batch(pa.record_batch({"n": [at], "k": [str(at % 2)]})))
                at += 1
            elif move in {"checkpoint", "lost", "given up"}:
                checkpoint_id, self.next_id = self.next_id, self.next_id + 1
                self.prepared[checkpoint_id] = pickle.dumps(writer.prepare_commit(checkpoint_id))
                if move != "given up":
                    self.durable, self.position = checkpoint_id, at
                    self._commit(noted=move == "checkpoint")
            elif move == "crash":
                writer.close()
                return False
            elif move == "killed":
                return False
        self.attempt_end(at, writer)
        return True

    def attempt_end(self, at: int, writer: Any) -> None:
        """Read what is left, and take the last checkpoint."""
        for n in range(at, ROWS):
            writer.write(rs.Batch(pa.record_batch({"n": [n], "k": [str(n % 2)]})))
        self.prepared[self.next_id] = pickle.dumps(writer.prepare_commit(self.next_id))
        self.durable, self.position = self.next_id, ROWS
        writer.close()
        self._commit(noted=True)

    def _commit(self, *, noted: bool) -> None:
        for checkpoint_id, committables in sorted(self.prepared.items()):
            self.sink.commit(checkpoint_id, pickle.loads(committables))
        if noted:
            self.prepared = {}


def visible(url: str) -> list[int]:
    source = FileSource(url, "json", pa.schema({"n": pa.int64()}))
    found = []
    for split in source.splits():
        reader = source.open(split, None)
        while (rows := reader.poll(100)) is not END:
            found += rows.column("n").to_pylist()
    return sorted(found)


MOVES = st.lists(
    st.sampled_from(["row", "row", "row", "checkpoint", "lost", "given up", "crash", "killed"]),
    max_size=14,
)


@pytest.mark.parametrize("where", ["local", "memory"])
@given(attempts=st.lists(MOVES, max_size=4), roll=st.sampled_from([None, 2]))
def test_every_row_is_visible_once_wherever_attempts_die(where, attempts, roll):
    with tempfile.TemporaryDirectory() as folder:
        url = f"{folder}/out" if where == "local" else "memory://epochs"
        try:
            sink = FileSink(url, "json", partition_by="k", roll_rows=roll)
            job = Job(sink)
            if not any(job.attempt(moves) for moves in attempts):
                job.attempt([])
            assert visible(url) == list(range(ROWS))
            if where == "local" and not any("killed" in moves for moves in attempts):
                assert not list(Path(folder).rglob("_tmp-*"))
        finally:
            if where == "memory":
                fsspec.filesystem("memory").rm("/epochs", recursive=True)
