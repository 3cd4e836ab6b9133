"""Encoded messages that wait for their commit: a few in the checkpoint itself, many in files.

A *part* is a run of messages as an Arrow stream, compressed: keys, values, headers, times and
partitions as columns. It is small, and travels in the checkpoint, or it is a file in a folder that
every node reaches, and its name travels.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.ipc

from raystream.connectors.file_listing import filesystem_of, is_local
from raystream.errors import SinkError

MESSAGES = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
        ("time_ms", pa.int64()),
        ("partition", pa.int32()),
    ]
)
"""What is known of a message; null where the producer is to choose."""

Part: TypeAlias = bytes | str
"""The stream itself, or the address of a file that holds it."""

_INLINE_BYTES_MAX = 128 * 1024
"""What travels in the checkpoint: manifests are read whole, and an object store wants no crumbs."""

_PART_BYTES = 64 * 1024 * 1024
"""Bytes of messages, uncompressed, that are taken before they go to a file."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where files of parts lie; ``prefix`` begins their names, which no two writers share."""

    url: str
    prefix: str

    def store(self, number: int, body: bytes) -> str:
        """Write a part; give its address."""
        filesystem, folder = filesystem_of(self.url)
        # Whoever commits may be in another folder: a path of this machine is written out.
        root = folder if is_local(filesystem) else self.url
        url = posixpath.join(root, f"{self.prefix}-{number}.arrow")
        try:
            filesystem.makedirs(folder, exist_ok=True)
            filesystem.pipe_file(filesystem_of(url)[1], body)
        except OSError as error:
            raise SinkError(f"cannot keep messages for their commit in {url}: {error}") from error
        return url


class Staging:
    """Takes messages until a checkpoint asks for them; its memory is bounded by one part.

    They are compressed as they come: nothing is kept as it was.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._open: _Packing | None = None
        self._stored: list[Part] = []
        self._count = 0

    def add(self, messages: pa.RecordBatch) -> None:
        """Take messages."""
        if not messages.num_rows:
            return
        if self._open is None:
            self._open = _Packing()
        self._open.add(messages)
        if self._open.taken_bytes >= _PART_BYTES:
            self._stored.append(self._store(self._packed(self._open)))

    def finish(self) -> list[Part]:
        """Give all parts since the last time, in order; they outlive this process."""
        parts, self._stored = self._stored, []
        if self._open is not None:
            body = self._packed(self._open)
            parts.append(body if len(body) <= _INLINE_BYTES_MAX else self._store(body))
        return parts

    def discard(self) -> None:
        """Let go of what was never given."""
        self._open = None
        for part in self._stored:
            remove(part)
        self._stored = []

    def _packed(self, packing: _Packing) -> bytes:
        self._open = None
        return packing.finish()

    def _store(self, body: bytes) -> str:
        self._count += 1
        return self._folder.store(self._count, body)


class _Packing:
    """A part that is being written."""

    def __init__(self) -> None:
        self.taken_bytes = 0
        self._out = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._writer = pa.ipc.new_stream(self._out, MESSAGES, options=options)

    def add(self, messages: pa.RecordBatch) -> None:
        """Take messages."""
        self._writer.write_batch(messages)
        self.taken_bytes += messages.nbytes

    def finish(self) -> bytes:
        """Give all of it as a stream."""
        self._writer.close()
        body: bytes = self._out.getvalue().to_pybytes()
        return body


def messages_of(part: Part) -> Iterator[pa.RecordBatch]:
    """Read the messages of a part.

    Raises: SinkError if its file is gone: its rows are then lost, or were committed.
    """
    if isinstance(part, bytes):
        yield from _unpacked(pa.BufferReader(part))
        return
    filesystem, path = filesystem_of(part)
    try:
        with filesystem.open(path, "rb") as raw:
            yield from _unpacked(raw)
    except FileNotFoundError as error:
        raise SinkError(
            f"messages that were to be committed are gone: {part}",
            hint="files that a job keeps beside its checkpoints must stay until it removes them",
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise SinkError(f"cannot read what is to be committed, {part}: {error}") from error


def remove(part: Part) -> None:
    """Remove the file of a part; one that is gone is no matter."""
    if isinstance(part, str):
        filesystem, path = filesystem_of(part)
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(path)


def _unpacked(raw: Any) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_stream(raw) as reader:
        yield from reader
