"""Frames that an unaligned barrier has left waiting, as a section of the snapshot of a subtask.

They are for this subtask alone, in the same plan at the same parallelism: rows have been shared out
already.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raystream.keyed.snapshot import Section, Share, Snapshot, section

NAME = "channels"


def frames_section(frames: Sequence[bytes]) -> Section:
    """Write frames, in the order in which they wait."""
    table = pa.table({"frame": pa.array(frames, pa.large_binary())})
    return Section(NAME, table, Share.SPLIT)


def kept_frames(snapshot: Snapshot) -> tuple[bytes, ...]:
    """Read the frames of a snapshot."""
    table = section(snapshot, NAME)
    return () if table is None else tuple(table.column("frame").to_pylist())
