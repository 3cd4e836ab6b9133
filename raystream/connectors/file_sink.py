"""Write files that appear whole, each row in exactly one of them."""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raystream.connectors.file_encoders import Encoder, Rows, encoder
from raystream.connectors.file_listing import PathLike, filesystem_of, is_local
from raystream.connectors.file_places import FileName, Place, UnseenFile, place_of
from raystream.connectors.partitions import by_folder
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError

_EXTENSIONS = {
    "parquet": "parquet",
    "csv": "csv",
    "json": "json",
    "arrow": "arrow",
    "text": "txt",
}
_OPEN_FILES_MAX = 64
"""More partitions at a time than this close the file that was written to longest ago."""

_KEPT_BYTES_MAX = 64 * 1024 * 1024
"""What all open files of a subtask may keep of rows that are not yet written."""


class FileSink(Sink):
    """Write rows to files in a folder; they appear when a checkpoint is complete.

    Guarantee: exactly once; a file is written under a name that starts with ``_tmp-``, and renamed
    once the checkpoint that covers its rows is durable. In S3 it is an upload of parts until then,
    and each file that is open keeps up to 5 MiB in memory.

    What a process wrote that was killed stays behind: files ``_tmp-*``, which no ``FileSource``
    reads and which may be deleted when no job writes to the folder, or uploads, which a lifecycle
    rule of the bucket ends (``AbortIncompleteMultipartUpload``, some days).

    ``format`` is ``"parquet"``, ``"csv"`` (with a header), ``"json"`` (one object a line),
    ``"arrow"`` or ``"text"`` (one string column). ``partition_by`` puts rows in folders such as
    ``day=2020-01-01/`` and takes those columns out of the files. Files end at checkpoints, and
    before that at ``roll_rows`` rows, or at about ``roll_bytes`` bytes.

    Raises: PlanError for an unknown format or a limit that is not positive.
    """

    def __init__(
        self,
        path: PathLike,
        format: str,
        partition_by: str | Sequence[str] | None = None,
        roll_rows: int | None = None,
        roll_bytes: int | None = None,
    ) -> None:
        if format not in _EXTENSIONS:
            raise PlanError(f"unknown format {format!r}", hint=f"known: {', '.join(_EXTENSIONS)}")
        for name, limit in (("roll_rows", roll_rows), ("roll_bytes", roll_bytes)):
            if limit is not None and limit <= 0:
                raise PlanError(f"{name} must be positive, got {limit!r}")
        filesystem, inside = filesystem_of(os.fspath(path))
        self._url = inside if is_local(filesystem) else os.fspath(path).rstrip("/")
        self._format = format
        columns = [partition_by] if isinstance(partition_by, str) else partition_by or ()
        self._partition_by = tuple(columns)
        self._roll_rows, self._roll_bytes = roll_rows, roll_bytes

    def open(self, ctx: OpenContext) -> Writer:
        rolling = _Rolling(self._format, self._partition_by, self._roll_rows, self._roll_bytes)
        return _FileWriter(place_of(self._url), rolling, ctx.subtask_index)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        place_of(self._url).publish(committables)

    def abort(self, committables: Sequence[Any]) -> None:
        place_of(self._url).remove(committables)

    def describe(self) -> str:
        parts = f" by {', '.join(self._partition_by)}" if self._partition_by else ""
        return f"FileSink({self._url}, {self._format}){parts}"


@dataclass(frozen=True, slots=True)
class _Rolling:
    """What files hold, and when they end."""

    format: str
    partition_by: tuple[str, ...]
    roll_rows: int | None
    roll_bytes: int | None

    def room(self, file: _OpenFile, count: int) -> int:
        """Give how many of ``count`` rows the file still takes."""
        return count if self.roll_rows is None else min(count, self.roll_rows - file.rows)

    def is_full(self, file: _OpenFile) -> bool:
        """Tell whether a file ends here."""
        if self.roll_rows is not None and file.rows >= self.roll_rows:
            return True
        return self.roll_bytes is not None and file.size >= self.roll_bytes


def _slice(rows: Rows, start: int, count: int) -> Rows:
    if isinstance(rows, list):
        return rows[start : start + count]
    return rows.slice(start, count)


class _OpenFile:
    """A file that is being written."""

    def __init__(self, file: UnseenFile, first: Rows, format: str) -> None:
        self.unseen = file
        self.rows = 0
        self.encoder: Encoder = encoder(format, first, file.out)

    @property
    def size(self) -> int:
        """Bytes written, and those of rows that are kept."""
        return self.unseen.out.tell() + self.encoder.kept_bytes

    def write(self, rows: Rows) -> None:
        self.encoder.write(rows)
        self.rows += len(rows)


class _FileWriter(Writer):
    """Writes the files of one subtask; names carry a random token, so that no two runs collide."""

    def __init__(self, place: Place, rolling: _Rolling, subtask: int) -> None:
        self._place = place
        self._rolling = rolling
        self._subtask = subtask
        self._token = secrets.token_hex(4)
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._finished: list[UnseenFile] = []
        self._count = 0
        place.make()

    def write(self, batch: Batch) -> None:
        if not len(batch):
            return
        for partition, rows in by_folder(batch.rows, self._rolling.partition_by):
            self._append(partition, rows)
        while sum(file.encoder.kept_bytes for file in self._open.values()) > _KEPT_BYTES_MAX:
            max(self._open.values(), key=lambda file: file.encoder.kept_bytes).encoder.flush()

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        for partition in list(self._open):
            self._finish(partition)
        prepared, self._finished = self._finished, []
        return [file.committable(checkpoint_id) for file in prepared]

    def close(self) -> None:
        for file in self._open.values():
            file.encoder.discard()
            file.unseen.remove()
        for finished in self._finished:
            finished.remove()
        self._open.clear()
        self._finished = []

    def _append(self, partition: str, rows: Rows) -> None:
        start, count = 0, len(rows)
        while start < count:
            file = self._file(partition, rows)
            taken = self._rolling.room(file, count - start)
            file.write(rows if taken == count else _slice(rows, start, taken))
            start += taken
            if self._rolling.is_full(file):
                self._finish(partition)

    def _file(self, partition: str, first: Rows) -> _OpenFile:
        if partition in self._open:
            self._open.move_to_end(partition)
            return self._open[partition]
        if len(self._open) >= _OPEN_FILES_MAX:
            self._finish(next(iter(self._open)))
        self._count += 1
        extension = _EXTENSIONS[self._rolling.format]
        unseen = self._place.create(
            FileName(partition, self._subtask, self._count, self._token, extension)
        )
        try:
            file = _OpenFile(unseen, first, self._rolling.format)
        except (SinkError, pa.ArrowException):
            unseen.remove()
            raise
        self._open[partition] = file
        return file

    def _finish(self, partition: str) -> None:
        file = self._open.pop(partition)
        self._finished.append(file.unseen)
        file.encoder.finish()
        file.unseen.seal()
