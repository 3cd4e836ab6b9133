"""Chunks on their way from the subtasks of one attempt to those of the next, in Ray's object store.

Where a checkpoint is what a move begins from, whoever has stored its part also puts the chunks that
it names into the object store. The writer owns them, and lives until the next attempt runs: who is
let go is let go then. The coordinator holds the references meanwhile, and gives each new subtask
those that it needs; where nobody holds them any more the bytes are gone. They are copies as others
are (``storage.cache``): what is lost, late or wrong is read elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest
from raystream.graph.physical import PhysicalPlan
from raystream.storage.loading import chunks_needed

PATIENCE_S = 5.0
"""So long a subtask waits in all for what was handed to it: half a gigabyte at 1 Gbit/s. Then it
takes what has come by then."""

References = Mapping[str, Any]
"""Of objects, by the chunk whose bytes they are."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What a subtask hands over, before it acks the checkpoint that names it."""

    attempt: int
    references: References


def put(chunks: Iterable[tuple[str, bytes]]) -> References:
    """Put chunks into the object store, as many as it takes; this process owns them."""
    references: dict[str, Any] = {}
    with suppress(ray.exceptions.RayError):  # it is full: the others are read elsewhere
        for chunk, data in chunks:
            references[chunk] = ray.put(pa.py_buffer(data))
    return references


class InTransit:
    """What a coordinator holds of it, between two attempts."""

    def __init__(self) -> None:
        self._references: dict[str, Any] = {}

    def take(self, references: References) -> None:
        """Hold what a subtask hands over."""
        self._references |= references

    def drop(self) -> None:
        """Let go of all: nobody needs it any more."""
        self._references = {}

    def __bool__(self) -> bool:
        """Tell whether anything was handed over."""
        return bool(self._references)

    def needed(
        self, plan: PhysicalPlan, manifest: Manifest | None, subtask: SubtaskId
    ) -> dict[str, Any]:
        """Give what a subtask needs that begins from a snapshot."""
        if manifest is None or not self._references:
            return {}
        uids = [node.uid for node in plan.chain(subtask.chain).nodes]
        chunks = chunks_needed(manifest, uids, subtask.index, subtask.parallelism)
        return {c: ref for c, ref in self._references.items() if c in chunks}


class Handed:
    """What was handed to one subtask, as copies of chunks of its job's root."""

    name = "the object store"

    def __init__(self, root: str, references: References) -> None:
        self._root = root
        self._references = references
        self._until_s = time.monotonic() + PATIENCE_S

    def read(self, root: str, chunk: str, start: int, length: int) -> bytes | None:
        """Give bytes of a copy, unverified; None where there is none, or it does not come soon."""
        reference = self._references.get(chunk) if root == self._root else None
        if reference is None:
            return None
        left_s = max(0.0, self._until_s - time.monotonic())
        try:
            data = ray.get(reference, timeout=left_s)
        except ray.exceptions.RayError:  # its owner or its node is gone, or it takes too long
            return None
        # What is kept of a table must not keep the object.
        return bytes(memoryview(data)[start : start + length])
