"""The end of a chain that writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raystream.contracts.batch import Batch as Rows
from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.contracts.sink import Sink, Writer, commits
from raystream.errors import RaystreamError, SinkError
from raystream.flow.batch import Batch, Columns
from raystream.flow.changes import op_names
from raystream.flow.element import Watermark
from raystream.operators.operator import Operator
from raystream.operators.rejecting import one_by_one


@dataclass(frozen=True)
class SinkSpec:
    """Write a stream to a sink."""

    sink: Sink
    name: str
    where: str

    @property
    def verb(self) -> str:
        return "sink"

    def describe(self) -> str:
        guarantee = "exactly once" if commits(self.sink) else "at least once"
        return f"{self.sink.describe()}, {guarantee}"

    def build(self) -> SinkOperator:
        return SinkOperator(self)


class SinkOperator(Operator):
    """Gives rows to the writer of this subtask."""

    def __init__(self, spec: SinkSpec) -> None:
        self._spec = spec
        self._writer: Writer | None = None
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors
        with _translated(self._spec):
            self._writer = self._spec.sink.open(ctx)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        one_by_one(batch, self._write, self._errors)
        return iter(())

    def _write(self, batch: Batch) -> None:
        assert self._writer is not None, "a sink is opened before it is written"
        rows = batch.visible if isinstance(batch, Columns) else batch.values
        codes = batch.ops if isinstance(batch, Columns) else None
        ops = None if codes is None else op_names(codes)
        with _translated(self._spec):
            self._writer.write(Rows(rows, batch.timestamps, ops))

    def output_watermark(self, time_us: int) -> int | None:
        return None

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        """Finish what was written; give what makes it visible."""
        assert self._writer is not None, "a sink is opened before it commits"
        # A writer that was not derived from Writer need not prepare anything, nor close.
        prepare = getattr(self._writer, "prepare_commit", None)
        with _translated(self._spec):
            return [] if prepare is None else list(prepare(checkpoint_id) or ())

    def close(self) -> None:
        if self._writer is not None:
            close, self._writer = getattr(self._writer, "close", None), None
            if close is not None:
                with _translated(self._spec):
                    close()


class _translated:  # noqa: N801  reads as a word of the with statement
    """Turn what a sink raises into a SinkError that names it."""

    def __init__(self, spec: SinkSpec) -> None:
        self._spec = spec

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, RaystreamError):
            return
        raise SinkError(
            f'sink "{self._spec.name}" ({self._spec.sink.describe()}) failed: '
            f"{type(error).__name__}: {error}",
            where=self._spec.where,
        ) from error


def commit(spec: SinkSpec, checkpoint_id: int, committables: list[Any]) -> None:
    """Make prepared rows visible."""
    with _translated(spec):
        spec.sink.commit(checkpoint_id, committables)


def abort(spec: SinkSpec, committables: list[Any]) -> None:
    """Throw prepared rows away."""
    with _translated(spec):
        spec.sink.abort(committables)
