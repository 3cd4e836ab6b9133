"""The splits of a source subtask as a section of its snapshot: where to read on, and what time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raystream.flow import plain
from raystream.flow.split import Split
from raystream.keyed.snapshot import Section, Share, Snapshot, section

NAME = "splits"

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("payload", pa.string()),
        ("earliest", pa.string()),
        ("position", pa.string()),
        ("watermark_us", pa.int64()),
        ("finished", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class KeptSplit:
    """A split, the position of its next row (None: its beginning), its watermark, its end."""

    split: Split
    position: Any
    watermark_us: int
    finished: bool


def splits_section(splits: Iterable[KeptSplit]) -> Section:
    """Write splits; other subtasks may read on where this one stood."""
    rows = [
        {
            "id": kept.split.id,
            "payload": plain.dumps(kept.split.payload),
            "earliest": plain.dumps(dict(kept.split.earliest)),
            "position": plain.dumps(kept.position),
            "watermark_us": kept.watermark_us,
            "finished": kept.finished,
        }
        for kept in splits
    ]
    return Section(NAME, pa.Table.from_pylist(rows, _SCHEMA), Share.SPLIT)


def kept_splits(snapshot: Snapshot) -> tuple[KeptSplit, ...]:
    """Read the splits of a snapshot.

    Raises: CorruptSnapshot.
    """
    table = section(snapshot, NAME)
    rows = [] if table is None else table.to_pylist()
    return tuple(
        KeptSplit(
            Split(row["id"], plain.loads(row["payload"]), plain.loads(row["earliest"])),
            plain.loads(row["position"]),
            row["watermark_us"],
            row["finished"],
        )
        for row in rows
    )
