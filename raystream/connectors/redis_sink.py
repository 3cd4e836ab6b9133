"""Write a stream to Redis: hashes, strings, sorted sets that follow a table, or streams."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.key_template import KeyTemplate
from raystream.connectors.keyed_documents import columns_of, documents, give_up, no_columns
from raystream.connectors.net_changes import netted, newest
from raystream.connectors.redis_kinds import MEMBER, Entry, Hash, Kind, SortedSet, String
from raystream.connectors.redis_server import Server, concerns_server, driver
from raystream.connectors.staged_changes import Prepared, Staged, changes_of, forget
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.secret import Secret
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError, SubtaskLost
from raystream.flow.time import Duration, positive

LOG = logging.getLogger("raystream.redis")

_COMMANDS_MAX = 1_000
"""Rows that are written by one transaction: a server does nothing else meanwhile."""

_MARK_KEPT_S = 30 * 24 * 3600
"""How long it is known what has been committed: a job may be resumed that late."""

_GUARANTEES = ("at_least_once", "exactly_once")
_KINDS = ("hash", "string", "sorted_set", "stream")


class RedisSink(Sink):
    """Write each row to the key that ``key`` makes of its columns: ``"order:{id}"``.

    Guarantee: at least once, and idempotent: a row replaces the whole value of its key, so that
    rows that come again after a failure leave what was there. A job that starts again without a
    snapshot may read other rows than before: what it then never tells stays as it was written. With
    ``guarantee="exactly_once"``, and with ``kind="stream"``, rows wait for the checkpoint.

    ``kind="hash"`` writes a field each column (null: none), ``"string"`` one column, ``value=``, or
    the row as JSON, ``"sorted_set"`` a ``member=`` (a template, too) with the column ``score=``.
    These take changelogs, whose deletes delete. Of rows that wait for the checkpoint what was
    brought and taken back cancels, and the rest is written in transactions that are never repeated;
    those of a table that has no other columns than those of ``key`` and ``member`` always wait.

    ``kind="stream"`` adds entries to the stream ``key``, at a checkpoint, in transactions that note
    what has been committed (keys ``raystream:…``, kept for 30 days); it takes no changelog.
    ``length_max`` trims it, about.

    ``ttl`` lets hashes and strings end that long after their last write. One server: no cluster. A
    server that loses what it has acknowledged (``appendfsync``) loses it here, too.

    Rows without a key, or whose key holds a value of another kind, follow ``on_error``.

    Raises: PlanError for a password in ``url``, and for arguments or columns that do not fit.
    """

    def __init__(
        self,
        url: str | Secret,
        key: str,
        kind: Literal["hash", "string", "sorted_set", "stream"] = "hash",
        *,
        value: str | None = None,
        member: str | None = None,
        score: str | None = None,
        ttl: Duration | None = None,
        length_max: int | None = None,
        guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once",
        password: Secret | None = None,
    ) -> None:
        if guarantee not in _GUARANTEES:
            raise PlanError(
                f"RedisSink(guarantee=) is one of {', '.join(_GUARANTEES)}, got {guarantee!r:.60}"
            )
        self._waits = guarantee == "exactly_once" or kind == "stream"
        self._server = Server(url, password, SinkError)
        self._key = KeyTemplate.of(key, "RedisSink(key=)")
        self._kind = _kind(
            kind, value=value, member=member, score=score, ttl=ttl, length_max=length_max
        )
        self.upserts = kind != "stream"
        self.table_key = (self._columns or None) if self.upserts else None

    def bound(self, schema: pa.Schema | None, changelog: tuple[str, ...] | None) -> Sink:
        """Give the sink as it writes this stream: at once, or with checkpoints."""
        if schema is None:
            raise no_columns(self.describe())
        self._key.check(schema.names, f"{self.describe()}, key=")
        missing = [name for name in self._kind.columns if name not in schema.names]
        if missing:
            raise PlanError(
                f"{self.describe()}: the stream has no column {', '.join(missing)}; "
                f"it has {', '.join(schema.names)}"
            )
        waits = self._waits or not self._in_order(schema, changelog)
        kind = _WithCheckpoints if waits else RedisSink
        bound = kind.__new__(kind)
        bound.__dict__.update(self.__dict__)
        if isinstance(bound, _WithCheckpoints):
            # Every run is another lane: what it has prepared brings its name.
            bound.lane = f"redis-{secrets.token_hex(6)}"
            bound.retracting = self.upserts
        return bound

    def open(self, ctx: OpenContext) -> Writer:
        return _AtOnce(self, ctx)

    def describe(self) -> str:
        return f"RedisSink({self._server}, {self._kind.name} {self._key.written})"

    @property
    def server(self) -> Server:
        """Where it writes."""
        return self._server

    @property
    def kind(self) -> Kind:
        """What a row becomes."""
        return self._kind

    def encoded(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """Give the key and the value of each row. Raises: SinkError for one that has none."""
        return self._kind.encoded(rows, self._key)

    def _in_order(self, schema: pa.Schema, changelog: tuple[str, ...] | None) -> bool:
        """Tell whether the changes of each key come in their order."""
        if changelog is None:
            return True
        named = set(self._columns)
        return named == set(changelog) and named != set(schema.names)

    @property
    def _columns(self) -> tuple[str, ...]:
        """The columns that say where a row is."""
        member = self._kind.member.columns if isinstance(self._kind, SortedSet) else ()
        return tuple(dict.fromkeys([*self._key.columns, *member]))


class _AtOnce(Writer):
    """Writes rows as they come."""

    def __init__(self, sink: RedisSink, ctx: OpenContext) -> None:
        self._sink, self._errors = sink, ctx.errors
        self._client = sink.server.connect()

    def write(self, batch: Batch) -> None:
        rows = columns_of(batch, self._sink.describe())
        made = documents(batch, rows, self._sink.encoded, self._errors)
        places = newest(made.changes.column("key"))
        changes = made.changes.take(pa.array(places))
        failed = []
        try:
            for start in range(0, changes.num_rows, _COMMANDS_MAX):
                some = changes.slice(start, _COMMANDS_MAX)
                with self._client.pipeline(transaction=True) as pipe:
                    errors = sent(pipe, self._sink.kind, some)
                failed += [(start + place, answer) for place, answer in errors]
        except driver().RedisError as error:
            raise lost(self._sink, error) from None
        for place, answer in failed:
            at = int(made.places[places[place]])
            key = changes.column("key")[place].as_py()
            refused = self._sink.server.told(f"cannot write {key!r:.100}", answer)
            give_up(batch, rows, at, refused, self._errors)

    def close(self) -> None:
        self._client.close()


class _WithCheckpoints(RedisSink):
    """The sink where rows wait for their checkpoint."""

    global_commit = True
    lane: str

    def open(self, ctx: OpenContext) -> Writer:
        return _Waiting(self, ctx)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        prepared: list[Prepared] = sorted(committables, key=lambda one: one.order)
        client = self._server.connect()
        try:
            for lane in dict.fromkeys(one.lane for one in prepared):
                mine = [one for one in prepared if one.lane == lane]
                with self._server.translated("cannot commit"):
                    self._commit(client, lane, checkpoint_id, mine)
        finally:
            client.close()
        forget(prepared)

    def abort(self, committables: Sequence[Any]) -> None:
        forget(committables)

    def _commit(self, client: Any, lane: str, checkpoint_id: int, mine: list[Prepared]) -> None:
        """Write the rows of checkpoints that are not noted as written, a transaction a part."""
        mark = f"raystream:{lane}"
        done, parts = _noted(client.get(mark))
        new = [one for one in mine if one.checkpoint_id > done]
        if not new:
            return
        changes = changes_of(new)
        if not isinstance(self._kind, Entry):
            changes = netted(changes)
        count = max(1, -(-changes.num_rows // _COMMANDS_MAX))
        part = parts.get(checkpoint_id, 0)
        while part < count:
            with client.pipeline(transaction=True) as pipe:
                pipe.watch(mark)
                done, parts = _noted(pipe.get(mark))
                if done >= checkpoint_id:
                    return
                part = parts.get(checkpoint_id, 0)
                pipe.multi()
                ends = checkpoint_id if part + 1 == count else done
                note = f"{ends} {checkpoint_id} {part + 1}"
                pipe.set(mark, note, ex=_MARK_KEPT_S)
                some = changes.slice(part * _COMMANDS_MAX, _COMMANDS_MAX)
                try:
                    failed = sent(pipe, self._kind, some, noted=1)
                except driver().WatchError:
                    continue  # somebody who is given up for dead is at it, too
                part += 1
            for place, answer in failed:
                key = some.column("key")[place].as_py()
                refused = self._server.told(f"cannot write {key!r:.100}", answer)
                if not all(one.tolerant for one in new):
                    raise refused
                LOG.error("a row is left out: %s", refused.message)


class _Waiting(Writer):
    """Keeps rows for their commit."""

    def __init__(self, sink: _WithCheckpoints, ctx: OpenContext) -> None:
        self._sink, self._errors = sink, ctx.errors
        self._staged = Staged(ctx, sink.lane)
        self._client = sink.server.connect()

    def write(self, batch: Batch) -> None:
        rows = columns_of(batch, self._sink.describe())
        made = documents(batch, rows, self._sink.encoded, self._errors)
        changes = made.changes
        kept = self._fitting(changes.column("key"))
        for place in np.flatnonzero(~kept).tolist():
            key = changes.column("key")[place].as_py()
            refused = SinkError(f"the key {key!r:.100} holds a value of another kind")
            give_up(batch, rows, int(made.places[place]), refused, self._errors)
        if kept.any():
            self._staged.add(changes if kept.all() else changes.filter(pa.array(kept)))

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        return list(self._staged.prepared(checkpoint_id))

    def close(self) -> None:
        self._client.close()
        self._staged.discard()

    def _fitting(self, keys: pa.Array) -> Any:
        """Tell which keys can be written: the commit must not meet one that cannot.

        Shapes: keys [n] -> bool [n].
        """
        takes = self._sink.kind.takes
        if takes is None or not len(keys):
            return np.ones(len(keys), bool)
        holders = pc.split_pattern(keys, MEMBER, max_splits=1)
        coded = pc.list_element(holders, 0).dictionary_encode()
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for name in coded.dictionary.to_pylist():
                    pipe.type(name)
                found = pipe.execute()
        except driver().RedisError as error:
            raise lost(self._sink, error) from None
        fits = np.array([kind in {b"none", takes} for kind in found], bool)
        return fits[coded.indices.to_numpy()]


def sent(
    pipe: Any, kind: Kind, changes: pa.RecordBatch, *, noted: int = 0
) -> list[tuple[int, Exception]]:
    """Write changes in one transaction; give the places that were refused, and why.

    ``noted`` answers come before those of the changes.
    Raises: RedisError where the server did not do it.
    """
    keys, values, removes = (column.to_pylist() for column in changes.columns)
    # A loop over rows: each is a command of its own.
    counts = [
        kind.remove(pipe, key) if gone else kind.put(pipe, key, value)
        for key, value, gone in zip(keys, values, removes, strict=True)
    ]
    answers = pipe.execute(raise_on_error=False)[noted:]
    failed = []
    of = np.repeat(np.arange(len(counts)), counts)
    for place, answer in zip(of.tolist(), answers, strict=True):
        if isinstance(answer, Exception):
            if concerns_server(answer):
                raise answer
            failed.append((place, answer))
    return list({place: (place, error) for place, error in failed}.values())


def lost(sink: RedisSink, error: BaseException) -> SubtaskLost:
    """Say that the server is gone: of that no row is guilty."""
    return SubtaskLost(sink.server.told("is not written to", error).message)


def _noted(mark: bytes | None) -> tuple[int, dict[int, int]]:
    """Read which checkpoint is written, and of which one how many parts."""
    if mark is None:
        return -1, {}
    done, checkpoint_id, parts = map(int, mark.split())
    return done, {checkpoint_id: parts}


def _kind(
    kind: str,
    *,
    value: str | None,
    member: str | None,
    score: str | None,
    ttl: Duration | None,
    length_max: int | None,
) -> Kind:
    """Make the kind of a name. Raises: PlanError for arguments that it has no use for."""
    given = {"value": value, "member": member, "score": score, "ttl": ttl, "length_max": length_max}
    takes = {
        "hash": {"ttl"},
        "string": {"value", "ttl"},
        "sorted_set": {"member", "score"},
        "stream": {"length_max"},
    }
    if kind not in takes:
        raise PlanError(f"RedisSink(kind=) is one of {', '.join(_KINDS)}, got {kind!r:.60}")
    odd = [name for name, one in given.items() if one is not None and name not in takes[kind]]
    if odd:
        raise PlanError(f'RedisSink(kind="{kind}") has no use for {", ".join(odd)}')
    ttl_ms = None if ttl is None else max(1, positive(ttl, "ttl") // 1000)
    if kind == "hash":
        return Hash(ttl_ms)
    if kind == "string":
        return String(value, ttl_ms)
    if kind == "sorted_set":
        if member is None or score is None:
            raise PlanError('RedisSink(kind="sorted_set") needs member= and score=')
        return SortedSet(KeyTemplate.of(member, "RedisSink(member=)"), score)
    if length_max is not None and length_max < 1:
        raise PlanError(f"length_max must be positive, got {length_max!r}")
    return Entry(length_max)
