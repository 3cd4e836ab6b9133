"""Tables in one object: Arrow streams one after the other, each with a checksum of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from raystream.errors import CorruptSnapshot
from raystream.flow.snapshots import Part

_ROWS_MAX = 131_072
"""Rows of one record batch: what a reader has to hold at least."""

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def encode(chunk: str, tables: Sequence[pa.Table]) -> tuple[bytes, list[Part]]:
    """Write tables into the bytes of one object; give where each is."""
    content = bytearray()
    parts = []
    for table in tables:
        written = _stream(table)
        digest = hashlib.sha256(written).hexdigest()
        parts.append(Part(chunk, len(content), len(written), digest, table.num_rows))
        content += written
    return bytes(content), parts


def raw(chunk: str, blobs: Sequence[bytes], after: int) -> tuple[bytes, list[Part]]:
    """Give the same for bytes that are no tables, to stand behind ``after`` bytes of an object."""
    content = bytearray()
    parts = []
    for blob in blobs:
        digest = hashlib.sha256(blob).hexdigest()
        parts.append(Part(chunk, after + len(content), len(blob), digest, 0))
        content += blob
    return bytes(content), parts


def verify(content: bytes | None, part: Part, where: str) -> bytes:
    """Give the bytes of a part, if they are those that were written.

    Raises: CorruptSnapshot naming the object.
    """
    if content is None:
        raise CorruptSnapshot(f"{where}/{part.chunk} is gone, which a checkpoint needs")
    if len(content) != part.length or hashlib.sha256(content).hexdigest() != part.sha256:
        raise CorruptSnapshot(
            f"{where}/{part.chunk} is damaged: bytes {part.offset} to "
            f"{part.offset + part.length} are not what was written"
        )
    return content


def decode(content: bytes, part: Part, where: str) -> pa.Table:
    """Read one table of a chunk.

    Raises: CorruptSnapshot naming the object.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(verify(content, part, where))) as reader:
            return reader.read_all()
    except pa.ArrowException as error:
        raise CorruptSnapshot(f"{where}/{part.chunk} cannot be read: {error}") from error


def _stream(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table, max_chunksize=_ROWS_MAX)
    return bytes(out.getvalue())
