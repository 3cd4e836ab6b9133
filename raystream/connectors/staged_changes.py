"""Changes that wait for their commit: a few in the checkpoint itself, many in files beside it."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.ipc

from raystream.connectors.file_listing import filesystem_of
from raystream.connectors.net_changes import CHANGES
from raystream.connectors.staged_records import Folder, Part, remove
from raystream.contracts.context import OpenContext
from raystream.errors import SinkError

_INLINE_BYTES_MAX = 128 * 1024
"""What travels in the checkpoint: manifests are read whole."""

_PART_BYTES = 64 * 1024 * 1024
"""Bytes of changes, uncompressed, that are kept in memory before they go to a file."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one subtask has prepared for one checkpoint; ``lane`` is the sink's, of one run.

    ``tolerant``: rows that turn out not to fit are left out, and do not fail the job.
    """

    lane: str
    checkpoint_id: int
    subtask: int
    parts: tuple[Part, ...]
    tolerant: bool

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands among others."""
        return self.checkpoint_id, self.subtask


class Staged:
    """Takes the changes of one subtask until a checkpoint asks for them; of bounded memory."""

    def __init__(self, ctx: OpenContext, lane: str) -> None:
        # Without checkpoints nothing outlives this process, nor need it.
        url = ctx.staging or tempfile.gettempdir()
        self._folder = Folder(url, f"{lane}-{ctx.subtask_index}-{secrets.token_hex(4)}")
        self._lane, self._subtask = lane, ctx.subtask_index
        self._tolerant = ctx.errors.tolerant
        self._kept: list[pa.RecordBatch] = []
        self._kept_bytes = 0
        self._stored: list[Part] = []
        self._count = 0

    def add(self, changes: pa.RecordBatch) -> None:
        """Take changes."""
        self._kept.append(changes)
        self._kept_bytes += changes.nbytes
        if self._kept_bytes >= _PART_BYTES:
            self._stored.append(self._store(self._packed()))

    def prepared(self, checkpoint_id: int) -> list[Prepared]:
        """Give what came since the last time; it outlives this process."""
        parts, self._stored = self._stored, []
        if self._kept:
            body = self._packed()
            parts.append(body if len(body) <= _INLINE_BYTES_MAX else self._store(body))
        if not parts:
            return []
        made = Prepared(self._lane, checkpoint_id, self._subtask, tuple(parts), self._tolerant)
        return [made]

    def discard(self) -> None:
        """Let go of what was never prepared."""
        self._kept, self._kept_bytes = [], 0
        for part in self._stored:
            remove(part)
        self._stored = []

    def _packed(self) -> bytes:
        taken, self._kept, self._kept_bytes = self._kept, [], 0
        out = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with pa.ipc.new_stream(out, CHANGES, options=options) as writer:
            for batch in taken:
                writer.write_batch(batch)
        body: bytes = out.getvalue().to_pybytes()
        return body

    def _store(self, body: bytes) -> str:
        self._count += 1
        return self._folder.store(self._count, body)


def changes_of(prepared: Sequence[Prepared]) -> pa.RecordBatch:
    """Read the changes that were prepared, in order.

    Raises: SinkError if a file of them is gone.
    """
    batches = [pa.RecordBatch.from_pylist([], CHANGES)]
    for one in prepared:
        for part in one.parts:
            batches += _read(part)
    return pa.concat_batches(batches)


def forget(prepared: Sequence[Prepared]) -> None:
    """Remove the files of what was prepared."""
    for one in prepared:
        for part in one.parts:
            remove(part)


def _read(part: Part) -> list[pa.RecordBatch]:
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(part, bytes):
                raw = stack.enter_context(pa.BufferReader(part))
            else:
                filesystem, path = filesystem_of(part)
                raw = stack.enter_context(filesystem.open(path, "rb"))
            return list(stack.enter_context(pa.ipc.open_stream(raw)))
    except (OSError, pa.ArrowException) as error:
        raise SinkError(
            f"cannot read what is to be committed{_where(part)}: {error}",
            hint="files that a job keeps beside its checkpoints must stay until it removes them",
        ) from error


def _where(part: Part) -> str:
    return f", {part}" if isinstance(part, str) else ""
