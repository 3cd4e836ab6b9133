"""Rows of many keys, cut into pieces that can be merged one by one.

A merge of a million rows takes the better part of a second, in which a subtask would answer nobody.
Pieces are runs of buckets; a bucket that is too large for one is cut by key, so that what a piece
gives is final whatever the others hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from raystream.flow.hashing import hash_columns

Piece: TypeAlias = list[pa.RecordBatch]
"""Views of rows that are merged together, in order of arrival."""

PIECE_ROWS_MAX = 131_072
"""Merging so many rows takes less than a tenth of a second."""

_CUT_ROWS_MAX = 1_048_576
"""So do hashing and sorting so many."""

_PIECES_MAX = 65_535


def by_key(views: Piece, keys: Sequence[str], rows_max: int) -> Iterator[Piece | None]:
    """Cut rows by key into pieces of about ``rows_max``; None is a place to pause.

    Rows of one key are in one piece, in order of arrival. Without keys there is one piece.
    """
    row_count = sum(view.num_rows for view in views)
    count = min(-(-row_count // rows_max), _PIECES_MAX)
    if count < 2 or not keys:
        yield views
        return
    pieces: list[Piece] = [[] for _ in range(count)]
    for view in views:
        for start in range(0, view.num_rows, _CUT_ROWS_MAX):
            for place, part in _cut(view.slice(start, _CUT_ROWS_MAX), keys, count):
                pieces[place].append(part)
            yield None
    yield from filter(None, pieces)


def _cut(
    rows: pa.RecordBatch, keys: Sequence[str], count: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Divide rows among ``count`` pieces by the hash of their key."""
    hashes = hash_columns([rows.column(key) for key in keys])
    # The low bits decide the key group, and are alike in a subtask.
    places = ((hashes >> np.uint64(32)) % np.uint64(count)).astype(np.uint16)
    order = np.argsort(places, kind="stable")
    sizes = np.bincount(places, minlength=count)
    sorted_rows, start = rows.take(pa.array(order)), 0
    for place, size in enumerate(sizes.tolist()):
        if size:
            yield place, sorted_rows.slice(start, size)
        start += size
