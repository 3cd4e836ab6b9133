"""Keep one Python row of each key: the first to arrive, or that with the greatest event time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import text
from raystream.flow.batch import NO_TIME, Batch, Objects
from raystream.flow.key import canonical_keys
from raystream.keyed.key_rows import ChangedRows, key_rows, read_key_rows
from raystream.keyed.snapshot import Snapshot
from raystream.operators.emitting import EmittingOperator
from raystream.operators.operator import Output


@dataclass(frozen=True)
class ObjectDeduplicateSpec:
    """As ``DeduplicateSpec``, over objects with keys; ``emit`` is row, batch or final."""

    keep: str
    emit: str
    ttl_us: int | None

    @property
    def verb(self) -> str:
        return "deduplicate"

    def describe(self) -> str:
        ttl = "" if self.ttl_us is None else f"  ttl={text(self.ttl_us)}"
        return f"keep {self.keep}  emit={self.emit}{ttl}"

    def build(self) -> ObjectDeduplicate:
        return ObjectDeduplicate(self)


class ObjectDeduplicate(EmittingOperator):
    """The operator of one subtask: by key the time of the kept row, when it was written, the row.

    The row itself is held only where it goes out at the end.
    """

    def __init__(self, spec: ObjectDeduplicateSpec) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._kept: dict[Hashable, tuple[int | None, int, Any]] = {}
        self._swept_us = 0
        self._changed = ChangedRows("kept")

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Objects), "the stream is one of objects"
        assert batch.keys is not None, "a keyed object stream carries its keys"
        now_us = self._ctx.clock.now_us()
        self._sweep(now_us)
        taken = self._take(batch, now_us)
        self._changed.mark(key for key, _ in taken)
        if self._spec.emit == "batch":
            taken = sorted(dict(taken).items(), key=lambda one: one[1])
        if taken and self._spec.emit != "final":
            out = batch.take(np.array([place for _, place in taken], np.int64))
            yield Objects(out.values, out.timestamps)

    def on_end(self) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        while self._spec.emit == "final" and self._kept:
            keys = [key for key, _ in zip(self._kept, range(rows_max), strict=False)]
            some = [self._kept.pop(key) for key in keys]
            self._changed.mark(keys)
            times = [NO_TIME if time_us is None else time_us for time_us, _, _ in some]
            timed = some[0][0] is not None
            yield Objects([row for _, _, row in some], np.array(times) if timed else None)

    def snapshot(self) -> Snapshot:
        return (key_rows("kept", self._kept.items(), self._ctx.max_parallelism),)

    def changes(self) -> Snapshot:
        groups = self._ctx.max_parallelism
        return (self._changed.section(self._kept, self._kept.__getitem__, groups),)

    def restore(self, snapshot: Snapshot) -> None:
        self._kept.update(read_key_rows(snapshot, "kept"))

    def _take(self, batch: Objects, now_us: int) -> list[tuple[Hashable, int]]:
        """Give the places of rows that take their key's place, with the key."""
        assert batch.keys is not None, "a keyed object stream carries its keys"
        first, ttl_us = self._spec.keep == "first", self._spec.ttl_us
        times: Any = repeat(None) if batch.timestamps is None else batch.timestamps.tolist()
        final = self._spec.emit == "final"
        taken = []
        # A loop over rows: keys and rows are Python objects.
        for place, (key, row, time_us) in enumerate(
            zip(canonical_keys(batch.keys), batch.values, times)  # noqa: B905  repeat() has no end
        ):
            held = self._kept.get(key)
            if held is not None and (ttl_us is None or now_us - held[1] < ttl_us):
                later = time_us is None or held[0] is None or time_us > held[0]
                if first or not later:
                    continue
            self._kept[key] = (time_us, now_us, row if final else None)
            taken.append((key, place))
        return taken

    def _sweep(self, now_us: int) -> None:
        """Forget keys whose time is over, once in their time."""
        ttl_us = self._spec.ttl_us
        if ttl_us is None or self._spec.emit == "final" or now_us - self._swept_us < ttl_us:
            return
        self._swept_us = now_us
        old = [
            key for key, (_, written_us, _) in self._kept.items() if now_us - written_us >= ttl_us
        ]
        self._changed.mark(old)
        for key in old:
            del self._kept[key]
