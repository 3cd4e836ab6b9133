"""Tables in one object: each an Arrow IPC stream of its own, one after another, zstd inside.

A chunk has no head and no index: where a table lies in it, and the checksum of its bytes, stand in
the manifest that lists it. So a reader asks for the tables it needs, and trusts none unverified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from raystream.errors import CorruptSnapshot
from raystream.flow.snapshots import Part

BATCH_ROWS_MAX = 65_536
"""Rows of one record batch: what is compressed and decompressed in one piece."""

BATCH_BYTES_TARGET = 16 * 1024 * 1024
"""Bytes of one record batch, about: rows may be wide."""

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One table as the bytes that a chunk holds."""

    data: pa.Buffer
    sha256: str
    rows: int


def encoded(table: pa.Table) -> Encoded:
    """Encode a table; its schema is kept as it is, with metadata."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table, max_chunksize=_batch_rows(table))
    data = sink.getvalue()
    return Encoded(data, hashlib.sha256(data).hexdigest(), table.num_rows)


def laid_out(chunk: str, tables: Sequence[Encoded]) -> tuple[bytes, tuple[Part, ...]]:
    """Put tables behind one another: the bytes of ``chunk``, and where each table is in them."""
    parts = []
    offset = 0
    for one in tables:
        parts.append(Part(chunk, offset, one.data.size, one.sha256, one.rows))
        offset += one.data.size
    return b"".join(one.data for one in tables), tuple(parts)


def verifies(data: bytes | memoryview, part: Part) -> bool:
    """Tell whether bytes are those that were written for a part."""
    return len(data) == part.length and hashlib.sha256(data).hexdigest() == part.sha256


def decoded(data: bytes | memoryview, part: Part, url: str) -> pa.Table:
    """Read the table of a part from its bytes; ``url`` is where its chunk was read.

    Raises: CorruptSnapshot if the bytes are not those that were written.
    """
    if not verifies(data, part):
        raise corrupt(part, url, f"{len(data)} bytes do not have the checksum of the manifest")
    try:
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise corrupt(part, url, f"no table can be read: {error}") from error
    if table.num_rows != part.rows:
        raise corrupt(part, url, f"a table of {table.num_rows} rows, not of {part.rows}")
    return table


def corrupt(part: Part, url: str, what: str) -> CorruptSnapshot:
    """Say that a part cannot be used; the caller raises it."""
    return CorruptSnapshot(
        f'chunk "{part.chunk}" is damaged at byte {part.offset}: {what}',
        where=url,
        hint="something outside of raystream changed, cut or removed it; "
        "start from another snapshot with --from PATH",
    )


def _batch_rows(table: pa.Table) -> int:
    row_bytes = int(table.nbytes // max(1, table.num_rows))
    return max(1, min(BATCH_ROWS_MAX, BATCH_BYTES_TARGET // max(1, row_bytes)))
