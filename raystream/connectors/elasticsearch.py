"""Elasticsearch and OpenSearch: an index that follows a stream or a table.

>>> from raystream.connectors import elasticsearch
>>> elasticsearch.ElasticsearchSink("http://search:9200", index="orders", id="{id}").describe()
'ElasticsearchSink(orders by {id} at http://search:9200)'
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raystream.clock import SystemClock
from raystream.connectors.elasticsearch_bulk import AutoIds, Bulk, Documents, check_answers
from raystream.connectors.http_client import Endpoint, HttpClient
from raystream.connectors.key_template import KeyTemplate
from raystream.connectors.keyed_documents import columns_of, documents, give_up, no_columns
from raystream.connectors.net_changes import netted, newest
from raystream.connectors.staged_changes import Prepared, Staged, changes_of, forget
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.secret import Secret
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError, SubtaskLost

__all__ = ["ElasticsearchSink"]

LOG = logging.getLogger("raystream.elasticsearch")

_GUARANTEES = ("at_least_once", "exactly_once")
_RETRIES = 8


class ElasticsearchSink(Sink):
    """Write each row as a document, by bulk requests; for Elasticsearch 7 and later, OpenSearch.

    Guarantee: at least once, and idempotent: a document has a version, and none that is older than
    what is there is written, so that rows that come again after a failure change nothing; without
    ids documents are added, and may be added again. A job that starts again without a snapshot may
    read other rows than before: what it then never tells stays as it was written. With
    ``guarantee="exactly_once"`` documents, which have ids, wait for the checkpoint.

    ``id`` and ``index`` are made of columns as ``"{id}"``; by default the id is the changelog's
    key, its values joined by ``|``. Changelogs are taken: what they delete is deleted. Of rows that
    wait for the checkpoint what was brought and taken back cancels, and the rest is written once it
    is durable; they always wait where documents are told apart by more than the key (an ``index``
    of columns, and no ``id``) or have no other columns.

    ``version`` names a column that grows with each change of a document, an integer or a time.
    Without it the version is when the subtask was opened, with a number that grows with each batch:
    what a process writes that is given up for dead never replaces what its successor wrote. So do
    not write the same documents with a version column first, and without one later.

    ``api_key`` is sent as such; a user and password stand in the URL of a ``rs.secret``.
    ``headers`` go with each request. Rows without an id, and documents that the index refuses,
    follow ``on_error``; those that waited for a checkpoint are then logged
    (``raystream.elasticsearch``). Requests that fail, or that the server is too busy for, are sent
    again for half a minute.

    Raises: PlanError for a password in ``url``, and for arguments or columns that do not fit.
    """

    def __init__(
        self,
        url: str | Secret,
        index: str,
        id: str | None = None,
        *,
        version: str | None = None,
        guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once",
        api_key: Secret | None = None,
        headers: dict[str, str | Secret] | None = None,
    ) -> None:
        if guarantee not in _GUARANTEES:
            raise PlanError(
                f"ElasticsearchSink(guarantee=) is one of {', '.join(_GUARANTEES)}, "
                f"got {guarantee!r:.60}"
            )
        if api_key is not None and not isinstance(api_key, Secret):
            raise PlanError('api_key= takes a rs.secret("NAME"), so that nothing shows it')
        self._endpoint = Endpoint.of(url, headers, SinkError)
        self._api_key = api_key
        self._index = KeyTemplate.of(index, "ElasticsearchSink(index=)")
        self._id = None if id is None else KeyTemplate.of(id, "ElasticsearchSink(id=)")
        self._version = version
        self._waits = guarantee == "exactly_once"
        self.upserts = True
        if self._id is not None:
            self.table_key = tuple(dict.fromkeys([*self._index.columns, *self._id.columns])) or None

    def bound(self, schema: pa.Schema | None, changelog: tuple[str, ...] | None) -> Sink:
        """Give the sink as it writes this stream: at once, or with checkpoints."""
        if schema is None:
            raise no_columns(self.describe())
        id = self._id_of(schema, changelog)
        if id is None and self._waits:
            raise PlanError(
                f"{self.describe()}: documents without ids are added, and may be added again",
                hint='id="{user}/{name}" makes an id of columns',
            )
        if id is None and self._version is not None:
            raise PlanError(f"{self.describe()} has versions of documents, and no id for them")
        for template in (self._index, id):
            if template is not None:
                template.check(schema.names, self.describe())
        if self._version is not None and not _is_version(schema, self._version):
            raise PlanError(
                f'{self.describe()}: version="{self._version}" is no column of integers or times',
                hint=f"the stream has {', '.join(schema.names)}",
            )
        named = {*self._index.columns, *(() if id is None else id.columns)}
        in_order = changelog is None or (named == set(changelog) and named != set(schema.names))
        kind = ElasticsearchSink if in_order and not self._waits else _WithCheckpoints
        bound = kind.__new__(kind)
        bound.__dict__.update(self.__dict__, _id=id)
        if isinstance(bound, _WithCheckpoints):
            bound.retracting = True
            bound.lane = f"elasticsearch-{secrets.token_hex(6)}"
            bound.begun_us = SystemClock().now_us()
        return bound

    def open(self, ctx: OpenContext) -> Writer:
        return _AtOnce(self, ctx)

    def describe(self) -> str:
        by = "" if self._id is None else f" by {self._id.written}"
        return f"ElasticsearchSink({self._index.written}{by} at {self._endpoint})"

    def bulk(self) -> Bulk:
        """Open what writes. Raises: ConfigError, SinkError."""
        endpoint = self._endpoint
        if self._api_key is not None:
            key = {"Authorization": f"ApiKey {self._api_key.reveal()}"}
        else:
            key = {}
        return Bulk(HttpClient(endpoint, _RETRIES), endpoint, key)

    def made(self) -> Documents | AutoIds:
        """Give what makes documents of rows."""
        if self._id is None:
            return AutoIds(self._index)
        return Documents(self._index, self._id, self._version)

    def _id_of(self, schema: pa.Schema, changelog: tuple[str, ...] | None) -> KeyTemplate | None:
        if self._id is not None or changelog is None:
            return self._id
        texts = [name for name in changelog if pa.types.is_string(schema.field(name).type)]
        if set(changelog) == set(schema.names) or len(texts) > 1:
            raise PlanError(
                f"{self.describe()} needs to know what tells documents apart",
                hint='id="{user}/{name}" makes an id of columns',
            )
        escaped = [name for name in changelog if not {"{", "}"} & set(name)]
        if len(escaped) < len(changelog):
            raise PlanError(f"{self.describe()}: the name of a key column has a brace in it")
        return KeyTemplate.of("|".join(f"{{{name}}}" for name in changelog), "id")


class _AtOnce(Writer):
    """Writes documents as they come."""

    def __init__(self, sink: ElasticsearchSink, ctx: OpenContext) -> None:
        self._sink, self._errors = sink, ctx.errors
        self._made = sink.made()
        self._bulk = sink.bulk()
        self._bulk.look()
        self._version = ctx.clock.now_us()

    def write(self, batch: Batch) -> None:
        rows = columns_of(batch, self._sink.describe())
        made = documents(batch, rows, self._made.encoded, self._errors)
        self._version += 1
        changes, places = made.changes, np.arange(made.changes.num_rows)
        if isinstance(self._made, Documents):
            places = newest(changes.column("key"))
            changes = changes.take(pa.array(places))
        try:
            failed = self._bulk.send(changes, self._version)
        except SinkError as error:
            raise SubtaskLost(error.message) from None  # of that no row is guilty
        for place, refused in failed:
            give_up(batch, rows, int(made.places[places[place]]), refused, self._errors)

    def close(self) -> None:
        self._bulk.close()


class _WithCheckpoints(ElasticsearchSink):
    """The sink where rows wait for their checkpoint.

    Versions are when the run was begun, and the number of the checkpoint: a repeat writes the same.
    """

    global_commit = True
    lane: str
    begun_us: int

    def open(self, ctx: OpenContext) -> Writer:
        bulk = self.bulk()
        try:
            bulk.look()
        finally:
            bulk.close()
        return _Waiting(self, ctx)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        prepared: list[_Begun] = sorted(committables, key=lambda one: one[1].order)
        bulk = self.bulk()
        try:
            for begun_us in sorted({begun_us for begun_us, _ in prepared}):
                mine = [one for begun, one in prepared if begun == begun_us]
                failed = bulk.send(netted(changes_of(mine)), begun_us + checkpoint_id)
                check_answers(failed, all(one.tolerant for one in mine), LOG)
        finally:
            bulk.close()
        # Their files stay until they are surely not asked for again: a repeat reads them.
        self._forget_later([one for _, one in prepared])

    def abort(self, committables: Sequence[Any]) -> None:
        forget([one for _, one in committables])

    def _forget_later(self, prepared: list[Prepared]) -> None:
        forget(self.__dict__.pop("_committed", []))
        self.__dict__["_committed"] = prepared


_Begun = tuple[int, Prepared]


class _Waiting(Writer):
    """Keeps documents for their commit."""

    def __init__(self, sink: _WithCheckpoints, ctx: OpenContext) -> None:
        self._sink, self._errors = sink, ctx.errors
        self._made = sink.made()
        self._staged = Staged(ctx, sink.lane)

    def write(self, batch: Batch) -> None:
        rows = columns_of(batch, self._sink.describe())
        made = documents(batch, rows, self._made.encoded, self._errors)
        if made.changes.num_rows:
            self._staged.add(made.changes)

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        return [(self._sink.begun_us, one) for one in self._staged.prepared(checkpoint_id)]

    def close(self) -> None:
        self._staged.discard()


def _is_version(schema: pa.Schema, name: str) -> bool:
    if name not in schema.names:
        return False
    kind = schema.field(name).type
    return bool(pa.types.is_integer(kind) or pa.types.is_timestamp(kind))
