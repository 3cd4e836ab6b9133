"""Read streams of Redis: their entries, each from the one behind which a reader stood."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from raystream.connectors.key_template import is_text
from raystream.connectors.patience import Patience
from raystream.connectors.record_formats import Decoded, Rows, decoded
from raystream.connectors.redis_server import Server, concerns_server, driver
from raystream.connectors.text_columns import from_texts
from raystream.contracts.batch import Batch
from raystream.contracts.secret import Secret
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.normal import normal_schema

_BEGINNING = "0-0"
_WAIT_MS = 5
_COUNTED_EVERY_S = 1.0
_STARTS = ("earliest", "latest")


class RedisStreamSource(Source):
    """Read the entries of one stream or several, each a split.

    Guarantee: exactly once into state; a reader's position is the id of the last entry it gave, and
    the stream keeps the entries behind it for as long as nobody trims them.

    ``schema`` names fields and their types, which are read from their texts as ``RedisSink`` writes
    them; one that is not there is null. Without it rows are dicts of texts. ``id`` names a column
    for the ids of the entries. ``start`` is ``"earliest"``, ``"latest"`` or an id, behind which
    reading begins. ``bounded=True`` reads what is there when the job starts.

    Entries that were trimmed before they were read fail the job, or are passed over with
    ``lost="skip"``. Entries that do not fit the schema follow ``on_error``. A server that is away
    is asked again for a minute, then the job fails and is restarted as it says.

    Raises: PlanError for a password in ``url``, and for arguments that do not fit.
    """

    timed = False

    def __init__(
        self,
        url: str | Secret,
        streams: str | Sequence[str],
        schema: pa.Schema | None = None,
        *,
        id: str | None = None,
        start: str = "earliest",
        bounded: bool = False,
        lost: Literal["fail", "skip"] = "fail",
        password: Secret | None = None,
    ) -> None:
        self._server = Server(url, password, SourceError)
        self._streams = (streams,) if isinstance(streams, str) else tuple(streams)
        if not self._streams or not all(map(is_text, self._streams)):
            raise PlanError(f"streams= takes the name of a stream or several, got {streams!r:.60}")
        if start not in _STARTS:
            _parsed(start)
        if lost not in {"fail", "skip"}:
            raise PlanError(f'lost= is "fail" or "skip", got {lost!r:.60}')
        fields = None if schema is None else normal_schema(schema)
        if fields is not None and id in fields.names:
            raise PlanError(f'id="{id}": there is another column of this name')
        self._start, self.bounded, self._lost = start, bounded, lost
        self._decoding = _Decoding(fields, id)
        self.schema = self._decoding.schema
        self._tolerant = False

    def splits(self) -> Sequence[Split]:
        client = self._server.connect()
        try:
            with self._server.translated("cannot list streams"):
                return [self._split(client, name) for name in dict.fromkeys(self._streams)]
        finally:
            client.close()

    def open(self, split: Split, position: Any) -> Reader:
        name, start, stop = split.payload
        after, number = (start, None) if position is None else position
        stretch = _Stretch(name, after, stop, number)
        client = self._server.connect(retries=False)
        if self._lost == "fail":
            try:
                stretch = self._kept(client, stretch, fresh=position is None)
            except SourceError:
                client.close()
                raise
        return _StreamReader(client, self._server, stretch, self._decoding, self._tolerant)

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that reads only these fields."""
        fields = self._decoding.fields
        if fields is None:
            return self
        narrow = _copy(self)
        id = self._decoding.id if self._decoding.id in columns else None
        kept = pa.schema([field for field in fields if field.name in columns])
        narrow._decoding = _Decoding(kept, id)  # noqa: SLF001  a copy of this
        narrow.schema = narrow._decoding.schema  # noqa: SLF001
        return narrow

    def tolerating(self) -> Source:
        """Give a source that hands over what it cannot read."""
        tolerant = _copy(self)
        tolerant._tolerant = True  # noqa: SLF001  a copy of this
        return tolerant

    def describe(self) -> str:
        return f"RedisStreamSource({', '.join(self._streams)} at {self._server})"

    def _split(self, client: Any, name: str) -> Split:
        start, stop = self._start, None
        if start == "latest" or self.bounded:
            newest = client.xrevrange(name, count=1)
            last = newest[0][0].decode() if newest else _BEGINNING
            stop = last if self.bounded else None
            start = last if start == "latest" else start
        return Split(name, (name, _BEGINNING if start == "earliest" else start, stop))

    def _kept(self, client: Any, stretch: _Stretch, *, fresh: bool) -> _Stretch:
        """See that nothing was trimmed behind a position, by how many entries there ever were.

        Raises: SourceError.
        """
        with self._server.translated(f"cannot look at stream {stretch.name}"):
            if not client.exists(stretch.name):
                removed = 0
            else:
                found = client.xinfo_stream(stretch.name)
                if "entries-added" not in found:
                    return stretch  # a server before Redis 7 does not count
                removed = found["entries-added"] - found["length"]
            if fresh:
                return replace(stretch, number=removed if stretch.after == _BEGINNING else None)
            there = client.xrange(stretch.name, stretch.after, stretch.after)
        if stretch.number is not None and removed > stretch.number and not there:
            raise SourceError(
                f"entries of stream {stretch.name} behind {stretch.after} were deleted before "
                "they were read",
                hint='keep more of the stream (MAXLEN, MINID); lost="skip" goes on without them',
            )
        return stretch


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The entries of a stream behind one, up to another or without end.

    ``number`` is how many the stream had had up to there, where that is known.
    """

    name: str
    after: str
    stop: str | None
    number: int | None


@dataclass(frozen=True)
class _Decoding:
    """Makes rows of entries; ``fields`` None: dicts of texts."""

    fields: pa.Schema | None
    id: str | None

    @property
    def schema(self) -> pa.Schema | None:
        """The columns of the rows."""
        if self.fields is None or self.id is None:
            return self.fields
        return self.fields.append(pa.field(self.id, pa.string()))

    @property
    def nothing(self) -> Rows:
        """No rows."""
        return [] if self.schema is None else pa.RecordBatch.from_pylist([], self.schema)

    def rows(self, entries: Sequence[Any]) -> Decoded:
        """Read entries. Raises: SourceError if one of them does not fit."""
        try:
            if self.fields is None or self.schema is None:
                return Decoded([self._dict(*entry) for entry in entries])
            arrays = [self._column(entries, field) for field in self.fields]
            if self.id is not None:
                arrays.append(pa.array([id.decode() for id, _ in entries], pa.string()))
            return Decoded(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        except UnicodeDecodeError as error:
            raise SourceError(f"a field is no UTF-8: {error}") from error

    def _column(self, entries: Sequence[Any], field: pa.Field) -> pa.Array:
        name = field.name.encode()
        # A loop over entries: the client gives each as a dict.
        held = pa.array([fields.get(name) for _, fields in entries], pa.binary())
        try:
            return from_texts(held.cast(pa.string()), field.type, field.name)
        except pa.ArrowInvalid as error:
            raise SourceError(f'field "{field.name}" is no UTF-8: {error}') from error

    def _dict(self, id: bytes, fields: dict[bytes, bytes]) -> dict[str, str]:
        row = {name.decode(): value.decode() for name, value in fields.items()}
        return row if self.id is None else {**row, self.id: id.decode()}


class _StreamReader(Reader):
    """Reads one stream; its position is the id of the last entry that was read, and its number."""

    def __init__(
        self, client: Any, server: Server, stretch: _Stretch, decoding: _Decoding, tolerant: bool
    ) -> None:
        self._client, self._server = client, server
        self._stretch = stretch
        self._decoding, self._tolerant = decoding, tolerant
        self._patience = Patience()
        self._left: int | None = None
        self._counted_s = -math.inf

    def poll(self, max_rows: int) -> Polled:
        name, after, stop = self._stretch.name, self._stretch.after, self._stretch.stop
        if stop is not None and _parsed(after) >= _parsed(stop):
            return END
        redis = driver()
        try:
            came = self._client.xread({name: after}, count=max_rows, block=_WAIT_MS)
            added = self._added() if came and stop is None else None
        except redis.RedisError as error:
            told = self._server.told(f"cannot read stream {name}", error)
            if not concerns_server(error):
                raise told from None
            return self._patience.failed(told)
        self._patience.reached()
        entries = _entries(came)
        if stop is not None:
            kept = [one for one in entries if _parsed(one[0].decode()) <= _parsed(stop)]
            if len(kept) < len(entries) or not entries:
                # What was to be the last has been deleted since.
                self._stretch = replace(self._stretch, after=stop)
            entries = kept
        self._count(added, len(entries))
        if not entries:
            return None if stop is None else END
        number = self._stretch.number
        last = entries[-1][0].decode() if self._stretch.after == after else self._stretch.after
        number = None if number is None else number + len(entries)
        self._stretch = replace(self._stretch, after=last, number=number)
        return self._made(entries)

    def position(self) -> tuple[str, int | None]:
        return self._stretch.after, self._stretch.number

    def backlog(self) -> int | None:
        """Tell how many entries were to come when they were last counted, at most a second ago.

        Of a bounded stream, or one that is not read from its beginning, nobody knows. Entries that
        were deleted before they were read are among them, until there is none.
        """
        return self._left

    def close(self) -> None:
        self._client.close()

    def _added(self) -> int | None:
        """Ask now and then how many entries the stream has ever had."""
        if time.monotonic() - self._counted_s < _COUNTED_EVERY_S:
            return None
        self._counted_s = time.monotonic()
        added = self._client.xinfo_stream(self._stretch.name).get("entries-added")
        return None if added is None else int(added)

    def _count(self, added: int | None, came: int) -> None:
        number = self._stretch.number
        if not came and self._stretch.stop is None:
            self._left = 0
        elif added is not None and number is not None:
            self._left = max(0, added - number - came)
        elif self._left is not None:
            self._left = max(0, self._left - came)

    def _made(self, entries: list[Any]) -> Batch | Rows:
        found = decoded(entries, self._decoding.rows, self._decoding.nothing)
        if not found.broken:
            return found.rows
        unreadable = []
        for place, error in found.broken:
            id, fields = entries[place]
            at = SourceError(
                f"stream {self._stretch.name}, entry {id.decode()}: {error.message}",
                hint='.on_error("skip") or .on_error("dead_letter") of the source goes on '
                "without it",
            )
            if not self._tolerant:
                raise at from error
            unreadable.append((fields, at))
        return Batch(found.rows, unreadable=unreadable)


def _entries(came: Any) -> list[Any]:
    """Give the entries of the one stream that was asked for, whatever the protocol's version."""
    if not came:
        return []
    if isinstance(came, dict):
        (found,) = came.values()
        return list(found[0]) if found and isinstance(found[0], list) else list(found)
    return [(id, fields or {}) for id, fields in came[0][1]]


def _parsed(id: str) -> tuple[int, int]:
    """Read the id of an entry, as one that can be compared. Raises: PlanError."""
    ms, _, seq = str(id).partition("-")
    if not ms.isdecimal() or not (seq or "0").isdecimal():
        raise PlanError(
            f"start= is one of {', '.join(_STARTS)} or the id of an entry, got {id!r:.60}"
        )
    return int(ms), int(seq or 0)


def _copy(source: RedisStreamSource) -> RedisStreamSource:
    made = RedisStreamSource.__new__(RedisStreamSource)
    made.__dict__.update(source.__dict__)
    return made
