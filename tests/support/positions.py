"""What a position promises, checked for any source: the rest is exactly the rest."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from typing import Any, TypeAlias

import raystream as rs
from raystream.contracts.source import Later, Reader, Source, Split
from raystream.flow.element import Status, Watermark

EMPTY_POLLS_MAX = 200

_Poll: TypeAlias = tuple[list[Any], list[Any], Any]
"""What one poll gave: rows, records that are none, and the position after it."""


def check_positions(source: Source, *, seed: int, rows_max: int) -> tuple[list[Any], list[Any]]:
    """Read each split by polls of random size; after each one, let others go on from there.

    Gives all rows that came, over all splits, and all records that were none.
    """
    chance = random.Random(seed)
    rows: list[Any] = []
    broken: list[Any] = []
    for split in source.splits():
        polls = list(_polls(source.open(split, None), chance, rows_max))
        whole = _joined(polls)
        done = (0, 0)
        for rows_of, broken_of, position in polls:
            done = (done[0] + len(rows_of), done[1] + len(broken_of))
            assert_plain(position)
            for again in (position, _tuples(json.loads(json.dumps(position)))):
                rest = read_on(source, split, again, chance, rows_max)
                assert rest == (whole[0][done[0] :], whole[1][done[1] :]), (split.id, position)
        assert read_on(source, split, None, chance, 1 << 20) == whole
        rows += whole[0]
        broken += whole[1]
    return rows, broken


def read_on(
    source: Source, split: Split, position: Any, chance: random.Random, rows_max: int
) -> tuple[list[Any], list[Any]]:
    """Give all that comes from a position on: rows, and records that are none."""
    # The reader of another process has only what travels.
    source, split, position = pickle.loads(pickle.dumps((source, split, position)))
    return _joined(list(_polls(source.open(split, position), chance, rows_max)))


def assert_plain(position: Any) -> None:
    """Positions are written as values: whole numbers, texts, nothing, and tuples of these."""
    if type(position) is tuple:
        for part in position:
            assert_plain(part)
    else:
        assert type(position) in (int, str, type(None)), repr(position)


def _polls(reader: Reader, chance: random.Random, rows_max: int) -> Iterator[_Poll]:
    empty = 0
    while (polled := reader.poll(size := chance.randint(1, rows_max))) is not rs.END:
        rows, broken = _told(polled)
        assert len(rows) + len(broken) <= size
        empty = 0 if rows or broken else empty + 1
        if isinstance(polled, Later) or empty > EMPTY_POLLS_MAX:
            break
        yield rows, broken, reader.position()
    reader.close()


def _told(polled: Any) -> tuple[list[Any], list[Any]]:
    """Give what a poll says: rows with their times and words about time; records that are none."""
    if polled is None or isinstance(polled, Later):
        return [], []
    if isinstance(polled, Watermark | Status):
        return [polled], []
    if not isinstance(polled, rs.Batch):
        polled = rs.Batch(polled)
    times = [None] * len(polled) if polled.timestamps is None else polled.timestamps.tolist()
    rows = list(zip(polled.to_pylist(), times, strict=True))
    return rows, [(raw, str(error)) for raw, error in polled.unreadable]


def _joined(polls: list[_Poll]) -> tuple[list[Any], list[Any]]:
    return [one for rows, _, _ in polls for one in rows], [one for _, b, _ in polls for one in b]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
