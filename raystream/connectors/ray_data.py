"""Ray Data: a stream from a dataset, and a dataset from a stream.

A dataset is read where its job runs: Ray Data makes its blocks on the whole cluster, as fast as the
stream takes them. Leave CPUs for that: what subtasks ask for, Ray Data does not get.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pyarrow as pa

from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.normal import normal_record, normal_schema

__all__ = ["RayDataSource", "from_stream"]

_BATCH_ROWS = 16_384
_BATCHES_MAX = 4
"""So many batches wait for the stream; Ray Data holds back what nobody takes."""

_POLL_S = 0.005
_LOOK_S = 0.1


class RayDataSource(Source):
    """Read the rows of a Ray dataset, in its order, as columns.

    Guarantee: exactly once, if the dataset has the same rows in the same order each time that it is
    executed: files that stay as they are, functions without chance. A recovery executes it again
    and passes over the rows before its position; else it is at least once.

    ``dataset`` is a ``ray.data.Dataset`` over what can be read anywhere, or a function that makes
    one: the only way for rows that lie in Ray's memory, which end with whoever put them there.
    Several are as many splits. ``schema``, if it is not the dataset's own, spares a look at it.

    Raises: PlanError for a dataset that only its maker can read, or one without columns.
    """

    bounded = True

    def __init__(self, *dataset: Any, schema: pa.Schema | None = None) -> None:
        if not dataset:
            raise PlanError("RayDataSource() takes at least one dataset")
        self._makers: list[Callable[[], Any] | bytes] = [_portable(one) for one in dataset]
        self.schema = normal_schema(schema or _columns(_made(self._makers[0])))

    def splits(self) -> Sequence[Split]:
        return [Split(str(number)) for number in range(len(self._makers))]

    def open(self, split: Split, position: Any) -> Reader:
        assert self.schema is not None, "a dataset has columns"
        return _Blocks(self._makers[int(split.id)], self.schema, int(position or 0))

    def describe(self) -> str:
        count = len(self._makers)
        return "RayDataSource" if count == 1 else f"RayDataSource of {count} datasets"


class _Blocks(Reader):
    """Rows as Ray Data makes them, in a thread of its own: the first ones may take seconds."""

    def __init__(self, maker: Callable[[], Any] | bytes, schema: pa.Schema, position: int) -> None:
        self._schema = schema
        self._position = position
        self._rest: pa.RecordBatch | None = None
        self._made: queue.Queue[pa.RecordBatch] = queue.Queue(_BATCHES_MAX)
        self._over = threading.Event()
        pool = ThreadPoolExecutor(1, "ray-data")
        self._making = pool.submit(self._run, maker, position)
        pool.shutdown(wait=False)

    def poll(self, max_rows: int) -> Polled:
        if self._rest is None:
            done = self._making.done()  # asked first: what it has made is in the queue by then
            try:
                self._rest = self._made.get(timeout=_POLL_S)
            except queue.Empty:
                return self._end() if done else None
        batch, rest = self._rest.slice(0, max_rows), self._rest.slice(max_rows)
        self._rest = rest if rest.num_rows else None
        self._position += batch.num_rows
        return batch

    def _end(self) -> Polled:
        error = self._making.exception()
        if error is not None:
            raise SourceError(f"Ray Data cannot read: {error}") from error
        return END

    def position(self) -> int:
        return self._position

    def close(self) -> None:
        self._over.set()

    def _run(self, maker: Callable[[], Any] | bytes, skip: int) -> None:
        for batch in _batches(_made(maker), self._schema, skip):
            while not self._over.is_set():
                with suppress(queue.Full):
                    self._made.put(batch, timeout=_LOOK_S)
                    break
            if self._over.is_set():
                return


def from_stream(stream: Any) -> Any:
    """Run what a bounded stream needs, on Ray, and give its rows as a ``ray.data.Dataset``.

    The rows pass through this process, once the job has finished. More than fit here go to files:
    ``stream.sink(rs.FileSink(folder, "parquet"))``, then ``ray.data.read_parquet(folder)``.
    """
    import ray.data

    return ray.data.from_arrow(stream.to_arrow(runtime="ray"))


def _portable(dataset: Any) -> Callable[[], Any] | bytes:
    from ray.data import Dataset

    if not isinstance(dataset, Dataset):
        if callable(dataset):
            return dataset  # type: ignore[no-any-return]  # what it gives is looked at when it does
        raise PlanError(
            f"RayDataSource() takes datasets, or functions that make them, got {dataset!r:.60}"
        )
    if not dataset.has_serializable_lineage():
        raise PlanError(
            "this dataset holds rows that lie in the memory of this Ray job: a recovery could not "
            "read them again",
            hint="give a function that makes it, lambda: ray.data.from_items(rows), or write it to "
            "files first",
        )
    return bytes(dataset.serialize_lineage())


def _made(maker: Callable[[], Any] | bytes) -> Any:
    from ray.data import Dataset

    dataset = Dataset.deserialize_lineage(maker) if isinstance(maker, bytes) else maker()
    dataset.context.execution_options.preserve_order = True
    return dataset


def _columns(dataset: Any) -> pa.Schema:
    schema = dataset.schema()
    found = None if schema is None else schema.base_schema
    if not isinstance(found, pa.Schema):
        raise PlanError(
            f"the columns of a Ray dataset are not known here: {found!r:.60}",
            hint="RayDataSource(..., schema=pa.schema([...]))",
        )
    return found


def _batches(dataset: Any, schema: pa.Schema, skip: int) -> Iterator[pa.RecordBatch]:
    for table in dataset.iter_batches(batch_size=_BATCH_ROWS, batch_format="pyarrow"):
        rows = table.slice(min(skip, len(table)))
        skip -= len(table) - len(rows)
        for record in rows.select(schema.names).to_batches():
            if record.num_rows:
                yield normal_record(record, schema)
