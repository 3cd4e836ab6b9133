"""Cut a file of lines into blocks so that reading may begin at any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from raystream.connectors.file_listing import File
from raystream.errors import SourceError

_BLOCK_BYTES = 2 * 1024 * 1024
"""Bytes parsed at a time: about one batch of ordinary rows."""

_BLOCK_BYTES_MAX = 256 * 1024 * 1024
"""A single line may be this long; a longer one is no row of data."""


def blocks_of_lines(file: File, start: int = 0) -> Iterator[tuple[int, bytes]]:
    r"""Give whole lines, without the last ``\n``, and the byte that they begin at.

    What a block holds hangs on its first byte alone, so that who starts there finds the same
    blocks. Bytes are those behind the decompression.
    Raises: SourceError for a line that is too long.
    """
    with file.open_text() as raw:
        _go_to(raw, start, compressed=file.codec is not None)
        block = b""
        while True:
            # What is behind the last whole line waits for more.
            size = len(block) + _BLOCK_BYTES if len(block) >= _BLOCK_BYTES else _BLOCK_BYTES
            block += _read(raw, size - len(block))
            end = block.rfind(b"\n")
            if len(block) < size:
                break
            if end < 0:
                if len(block) > _BLOCK_BYTES_MAX:
                    raise SourceError(
                        f"{file.url} has a line of more than {_BLOCK_BYTES_MAX} bytes"
                    )
                continue
            yield start, block[:end]
            start, block = start + end + 1, block[end + 1 :]
    if block:
        yield start, block.removesuffix(b"\n")


def _read(raw: pa.NativeFile, size: int) -> bytes:
    """Read so many bytes, fewer only at the end: a stream may give less than it is asked for."""
    parts = []
    while size and (part := raw.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _go_to(raw: pa.NativeFile, start: int, *, compressed: bool) -> None:
    if not compressed:
        raw.seek(start)
        return
    left = start
    while left and (skipped := len(raw.read(min(left, _BLOCK_BYTES)))):
        left -= skipped
