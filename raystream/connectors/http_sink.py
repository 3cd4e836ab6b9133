"""Post rows to an HTTP server, in batches of JSON."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Literal

import pyarrow as pa

from raystream.connectors.http_client import Endpoint, HttpClient
from raystream.connectors.json_texts import json_texts
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.secret import Secret
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError, SubtaskLost
from raystream.flow.batch import Columns
from raystream.flow.time import Duration, positive
from raystream.operators.rejecting import by_halves, row_of, time_of

_OF_ROWS = frozenset({400, 406, 409, 410, 413, 415, 422})
"""What is said of the rows of a request; all else is said of the server, or of the job."""


class HttpSink(Sink):
    """Send rows in requests, each a JSON array of at most ``batch_rows`` objects.

    Guarantee: at least once; a request that is sent again has the same ``Idempotency-Key``, but
    rows that come again after a failure of the job come in requests of other keys.

    Requests that nobody answers, or with 408, 425, 429, 502, 503, 504, are sent again, ``retries``
    times, ``Retry-After`` seconds later or after a pause that doubles; a batch is taken only when
    it was answered by 2xx. What is answered by 400, 409, 410, 413, 415 or 422 is tried by halves,
    and the rows that are refused alone follow ``on_error``. All other answers fail the subtask.

    ``format="lines"`` sends one object a line. ``headers`` go with each request; a header that
    holds a token is a ``rs.secret``, and so is a URL with a user and password in it.

    Raises: PlanError for a password in ``url`` or ``headers``, and for arguments that do not fit.
    """

    def __init__(
        self,
        url: str | Secret,
        *,
        method: Literal["POST", "PUT", "PATCH"] = "POST",
        format: Literal["json", "lines"] = "json",
        headers: Mapping[str, str | Secret] | None = None,
        batch_rows: int = 500,
        retries: int = 8,
        timeout: Duration = "30s",
    ) -> None:
        if method not in {"POST", "PUT", "PATCH"}:
            raise PlanError(f"HttpSink(method=) is POST, PUT or PATCH, got {method!r:.60}")
        if format not in {"json", "lines"}:
            raise PlanError(f'HttpSink(format=) is "json" or "lines", got {format!r:.60}')
        if batch_rows < 1 or retries < 0:
            raise PlanError("HttpSink(): batch_rows is 1 or more, retries 0 or more")
        self._endpoint = Endpoint.of(
            url, headers, SinkError, positive(timeout, "timeout") / 1_000_000
        )
        self.method, self.format = method, format
        self.batch_rows, self.retries = batch_rows, retries

    def open(self, ctx: OpenContext) -> Writer:
        return _HttpWriter(self, ctx)

    def describe(self) -> str:
        return f"HttpSink({self.method} {self._endpoint})"

    def client(self) -> HttpClient:
        """Open what sends requests."""
        return HttpClient(self._endpoint, self.retries)


class _HttpWriter(Writer):
    """Sends the rows of one subtask; its requests have names that no other has."""

    def __init__(self, sink: HttpSink, ctx: OpenContext) -> None:
        self._sink, self._errors = sink, ctx.errors
        self._client = sink.client()
        self._name, self._count = secrets.token_hex(8), 0

    def write(self, batch: Batch) -> None:
        for start in range(0, len(batch), self._sink.batch_rows):
            count = min(self._sink.batch_rows, len(batch) - start)
            if not self._errors.tolerant:
                self._send(batch, start, count)
                continue

            def some(at: int, size: int, start: int = start) -> None:
                self._send(batch, start + at, size)

            _, failures = by_halves(count, some)
            for place, error in failures:
                at = start + place
                self._errors.reject(error, _row(batch, at), time_of(batch.timestamps, at))

    def close(self) -> None:
        self._client.close()

    def _send(self, batch: Batch, start: int, count: int) -> None:
        """Send some rows. Raises: SinkError if they are refused, SubtaskLost if it is not them."""
        rows = batch.rows
        some = (
            rows.slice(start, count)
            if isinstance(rows, pa.RecordBatch)
            else rows[start : start + count]
        )
        texts = json_texts(some).to_pylist()
        if self._sink.format == "json":
            body, kind = b"[" + b",".join(texts) + b"]", "application/json"
        else:
            body, kind = b"\n".join(texts) + b"\n", "application/x-ndjson"
        self._count += 1
        named = {"Content-Type": kind, "Idempotency-Key": f"{self._name}-{self._count}"}
        try:
            answer = self._client.send(self._sink.method, self._client.path or "/", body, named)
        except SinkError as error:
            raise SubtaskLost(error.message) from None  # of that no row is guilty
        if answer.status in _OF_ROWS:
            raise SinkError(f"{self._sink.describe()} was answered: {answer.shown}")
        if not 200 <= answer.status < 300:
            raise SubtaskLost(f"{self._sink.describe()} was answered: {answer.shown}")


def _row(batch: Batch, place: int) -> object:
    if isinstance(batch.rows, pa.RecordBatch):
        return row_of(Columns(batch.rows.slice(place, 1)))
    return batch.rows[place]
