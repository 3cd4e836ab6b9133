"""Rows become documents with versions, and bulk requests say which of them were refused.

The API is spoken directly: the official client refuses OpenSearch, and servers of another major
version than its own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.http_client import Answer, Endpoint, HttpClient
from raystream.connectors.json_texts import json_texts
from raystream.connectors.key_template import KeyTemplate
from raystream.errors import SinkError

_INDEX = "\0"
"""Stands between an index and an id where both are one text; a line break ends a version."""

_DOCUMENTS_MAX = 1_000
_REQUEST_BYTES = 5 * 1024 * 1024
_ID_BYTES_MAX = 512
_BUSY_RETRIES = 8
_BUSY_S, _BUSY_LONGEST_S = 0.2, 5.0
_BUSY = frozenset({429, 502, 503, 504})

Failed = list[tuple[int, SinkError]]
"""The places of documents that were refused, and why."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Makes documents that are found by their ids; values are a version, a line break, and JSON."""

    index: KeyTemplate
    id: KeyTemplate
    version: str | None

    def encoded(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """Give index and id of each row, and its version and document."""
        ids = self.id.keys(rows)
        lengths = pc.binary_length(ids)
        if pc.any(pc.or_(pc.greater(lengths, _ID_BYTES_MAX), pc.equal(lengths, 0))).as_py():
            raise SinkError(f"an id is empty, or longer than {_ID_BYTES_MAX} bytes")
        keys = pc.binary_join_element_wise(self.index.keys(rows), ids, _INDEX)
        versions: Any = pa.scalar("")
        if self.version is not None:
            column = rows.column(self.version)
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
            if column.null_count or pc.any(pc.less(column, 0)).as_py():
                raise SinkError(f'version column "{self.version}" is null or negative')
            versions = column.cast(pa.string())
        values = pc.binary_join_element_wise(
            versions, json_texts(rows).cast(pa.string()), "\n"
        ).cast(pa.binary())
        return keys, values


@dataclass(frozen=True, slots=True)
class AutoIds:
    """Makes documents whose ids the server chooses."""

    index: KeyTemplate

    def encoded(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """Give the index of each row, and its document."""
        texts = json_texts(rows).cast(pa.string())
        values = pc.binary_join_element_wise("", texts, "\n").cast(pa.binary())
        return self.index.keys(rows), values


@dataclass
class Bulk:
    """Sends changes in bulk requests; refused documents are told one by one."""

    client: HttpClient
    endpoint: Endpoint
    headers: dict[str, str] = field(repr=False)

    def look(self) -> None:
        """See that there is a server that lets us in. Raises: SinkError."""
        self._accepted(self.client.send("GET", self.client.path or "/", headers=self.headers))

    def send(self, changes: pa.RecordBatch, version: int) -> Failed:
        """Write changes, one a document; ``version`` is theirs if they bring none.

        Raises: SinkError where the server does not do it.
        """
        keys, values, removes = (column.to_pylist() for column in changes.columns)
        # Loops over documents: each is a line of the request, and has an answer of its own.
        lines = [
            _lines(key, value, gone, version)
            for key, value, gone in zip(keys, values, removes, strict=True)
        ]
        failed: Failed = []
        start = 0
        while start < len(lines):
            end, size = start, 0
            while end < len(lines) and end - start < _DOCUMENTS_MAX and size < _REQUEST_BYTES:
                size += len(lines[end])
                end += 1
            failed += self._some(lines, list(range(start, end)))
            start = end
        return [(place, _named(keys[place], why)) for place, why in failed_texts(failed)]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _some(self, lines: Sequence[bytes], places: list[int]) -> Failed:
        """Send lines; those that the server is too busy for again."""
        failed: Failed = []
        pause_s = _BUSY_S
        for _ in range(_BUSY_RETRIES):
            answer = self.client.send(
                "POST",
                f"{self.client.path.rstrip('/')}/_bulk",
                b"".join(lines[place] for place in places),
                {"Content-Type": "application/x-ndjson", **self.headers},
            )
            if answer.status in {400, 413} and len(places) > 1:
                # One of them makes the request one that cannot be read, or all are too much.
                half = len(places) // 2
                return failed + self._some(lines, places[:half]) + self._some(lines, places[half:])
            if answer.status in {400, 413}:
                return [*failed, (places[0], SinkError(answer.shown))]
            again, refused = self._sorted_out(self._accepted(answer), places)
            failed += refused
            if not again:
                return failed
            places = again
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _BUSY_LONGEST_S)
        raise self.endpoint.error(f"{self.endpoint} is too busy for {len(places)} documents")

    def _accepted(self, answer: Answer) -> Answer:
        if not 200 <= answer.status < 300:
            raise self.endpoint.error(f"{self.endpoint} refused a request: {answer.shown}")
        return answer

    def _sorted_out(self, answer: Answer, places: list[int]) -> tuple[list[int], Failed]:
        """Tell which documents are to be sent again, and which are refused."""
        try:
            items = [next(iter(item.values())) for item in json.loads(answer.body)["items"]]
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
            items = []
        if len(items) != len(places):
            raise self.endpoint.error(f"{self.endpoint} gave no answer of a bulk request")
        again: list[int] = []
        failed: Failed = []
        for place, item in zip(places, items, strict=True):
            status, error = item.get("status", 0), item.get("error")
            if 200 <= status < 300 or status == 409 or (status == 404 and error is None):
                continue  # written; or newer there; or there was nothing to remove
            if status in _BUSY:
                again.append(place)
            else:
                failed.append((place, SinkError(_reason(status, error))))
        return again, failed


def check_answers(failed: Failed, tolerant: bool, log: logging.Logger) -> None:
    """Fail of documents that were refused, or tell of them. Raises: SinkError."""
    for _, error in failed:
        if not tolerant:
            raise error
        log.error("a document is left out: %s", error.message)


def failed_texts(failed: Failed) -> list[tuple[int, str]]:
    """Give what was said of documents, in their order."""
    return sorted((place, error.message) for place, error in failed)


def _named(key: str, why: str) -> SinkError:
    index, _, id = key.partition(_INDEX)
    return SinkError(f'document "{id:.80}" of index "{index}" was refused: {why}')


def _lines(key: str, value: bytes, gone: bool, version: int) -> bytes:
    index, by_id, id = key.partition(_INDEX)
    if not by_id:
        return b'{"index":%s}\n%s\n' % (json.dumps({"_index": index}).encode(), value[1:])
    given, _, document = value.partition(b"\n")
    # Not older is enough: what an order is joined with may change while its version stays.
    head = {
        "_index": index,
        "_id": id,
        "version": int(given) if given else version,
        "version_type": "external_gte",
    }
    words = json.dumps(head).encode()
    return b'{"delete":%s}\n' % words if gone else b'{"index":%s}\n%s\n' % (words, document)


def _reason(status: int, error: Any) -> str:
    if not isinstance(error, dict):
        return f"{status} {error}"
    caused = error.get("caused_by") or {}
    because = f": {caused['reason']}" if isinstance(caused, dict) and "reason" in caused else ""
    return f"{status} {error.get('type')}: {error.get('reason')}{because}"[:600]
