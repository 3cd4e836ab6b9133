"""Take rows that others post: a small HTTP server a split, with a queue that has a bound."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pyarrow as pa

from raystream.connectors.json_records import JsonRecords
from raystream.connectors.record_formats import Rows
from raystream.contracts.secret import Secret
from raystream.contracts.source import Polled, Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.normal import normal_schema
from raystream.flow.time import Duration, positive

_BODY_BYTES_MAX = 16 * 1024 * 1024
_REQUESTS_MAX = 256
"""Requests that may wait for their answer; each is a thread."""

_PATIENCE_S = 30.0
"""How long a peer may take to send what it announced."""

_POLL_S = 0.005


class WebhookSource(Source):
    """Listen on ``host:port``, and give what is posted to ``path``: a JSON object, array, or lines.

    Guarantee: at least once, for senders that send again what was not answered by 200: a request
    is answered when its rows are in a checkpoint that is complete. With ``acknowledge="receipt"``
    it is answered at once, and at most once: rows since the last checkpoint are lost with the
    process.

    Every request is taken whole or not at all. One that is no JSON, or whose rows do not fit
    ``schema``, is answered by 400 and the reason, and never enters the stream; without ``schema``
    rows are Python objects. When ``queue_rows`` rows wait to be read or answered, requests get
    503 with ``Retry-After``; so do those not in a checkpoint after ``timeout``, whose rows may come
    twice then. A job without checkpoints answers none: it needs ``acknowledge="receipt"``.

    ``token``: senders must bring it, as ``Authorization: Bearer …``. There is no TLS: put a proxy
    in front. ``ports=n`` listens on n ports from ``port`` on, each a split; each is open on the
    node that reads it.

    Raises: PlanError for arguments that do not fit.
    """

    bounded = False

    def __init__(
        self,
        port: int,
        schema: pa.Schema | None = None,
        *,
        host: str = "127.0.0.1",
        path: str = "/",
        ports: int = 1,
        token: Secret | None = None,
        acknowledge: Literal["checkpoint", "receipt"] = "checkpoint",
        queue_rows: int = 100_000,
        timeout: Duration = "60s",
    ) -> None:
        if not (0 < port < 65536 and ports > 0 and port + ports <= 65536):
            raise PlanError(f"port must be 1 to 65535, got {port!r} and {ports!r} behind it")
        if acknowledge not in {"checkpoint", "receipt"}:
            raise PlanError(f'acknowledge= is "checkpoint" or "receipt", got {acknowledge!r:.60}')
        if token is not None and not isinstance(token, Secret):
            raise PlanError('token= takes a rs.secret("NAME"), so that nothing shows it')
        if queue_rows < 1:
            raise PlanError(f"queue_rows must be positive, got {queue_rows!r}")
        self.schema = None if schema is None else normal_schema(schema)
        self._ports = range(port, port + ports)
        self._host, self._path, self._token = host, path, token
        self._waits = acknowledge == "checkpoint"
        self._queue_rows = queue_rows
        self._timeout_s = positive(timeout, "timeout") / 1_000_000

    def splits(self) -> Sequence[Split]:
        return [Split(f"{self._host}:{port}", port) for port in self._ports]

    def open(self, split: Split, position: Any) -> Reader:
        desk = _Desk(self._queue_rows, self._timeout_s if self._waits else None)
        token = None if self._token is None else self._token.reveal()
        handler = type(
            "Requests",
            (_Requests,),
            {"desk": desk, "path_taken": self._path, "token": token, "rows_of": self._rows_of()},
        )
        try:
            server = _Server((self._host, split.payload), handler)
        except OSError as error:
            raise SourceError(
                f"cannot listen on {split.id}: {error}", hint="is another process there?"
            ) from error
        return _WebhookReader(desk, server)

    def describe(self) -> str:
        return f"WebhookSource({self._host}:{self._ports.start}{self._path})"

    def _rows_of(self) -> Callable[[Any, bytes], Rows]:
        if self.schema is None:
            return lambda _, body: [json.loads(value) for value in _values(body)]
        decode = JsonRecords().decoder(self.schema)
        return lambda _, body: decode(_values(body)).rows


def _values(body: bytes) -> list[bytes]:
    """Give the JSON objects of a body. Raises: ValueError."""
    try:
        whole = json.loads(body)
    except json.JSONDecodeError:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) < 2:
            raise
        return lines
    if not isinstance(whole, list):
        return [body]
    # A loop over rows: they come from outside as one text.
    return [json.dumps(one, ensure_ascii=False).encode() for one in whole]


@dataclass(eq=False)
class _Request:
    """A request that was taken; ``last`` is the number of the row behind its own."""

    rows: Rows
    last: int
    answered: threading.Event
    kept: bool = False


class _Desk:
    """Where requests wait to be read, and for their answer; every call may come from any thread."""

    def __init__(self, rows_max: int, timeout_s: float | None) -> None:
        self._rows_max, self._timeout_s = rows_max, timeout_s
        self._lock = threading.Condition()
        self._queue: deque[_Request] = deque(maxlen=rows_max + 1)
        self._open: deque[_Request] = deque(maxlen=rows_max + 1)
        self._came = self._given = self._kept = 0
        self._closed = False
        self.name = secrets.token_hex(8)

    def take(self, rows: Rows) -> bool:
        """Take the rows of a request, and wait until it may be answered; False: not now."""
        count = len(rows)
        if not count:
            return True
        with self._lock:
            waiting = self._came - (self._given if self._timeout_s is None else self._kept)
            # One that is larger than the queue is taken when nothing else waits.
            if self._closed or (waiting and waiting + count > self._rows_max):
                return False
            self._came += count
            request = _Request(rows, self._came, threading.Event())
            self._queue.append(request)
            if self._timeout_s is not None:
                self._open.append(request)
            self._lock.notify()
        if self._timeout_s is None:
            return True
        request.answered.wait(self._timeout_s)
        return request.kept

    def give(self, rows_max: int) -> Rows | None:
        """Give rows that came, at most so many; waits a moment for them."""
        with self._lock:
            if not self._queue:
                self._lock.wait(_POLL_S)
            if not self._queue:
                return None
            first = self._queue[0]
            rows = first.rows
            if len(rows) <= rows_max:
                self._queue.popleft()
            elif isinstance(rows, list):
                rows, first.rows = rows[:rows_max], rows[rows_max:]
            else:
                rows, first.rows = rows.slice(0, rows_max), rows.slice(rows_max)
            self._given += len(rows)
            return rows

    @property
    def given(self) -> int:
        """How many rows have been given."""
        return self._given

    def keep(self, count: int) -> None:
        """Answer the requests whose rows are among the first so many."""
        with self._lock:
            self._kept = max(self._kept, count)
            while self._open and self._open[0].last <= self._kept:
                request = self._open.popleft()
                request.kept = True
                request.answered.set()

    def close(self) -> None:
        """Send all away that wait: whether their rows are kept is not known."""
        with self._lock:
            self._closed = True
            for request in self._open:
                request.answered.set()


class _WebhookReader(Reader):
    """Gives what came to one port; its position is how many rows that were, of which reader."""

    def __init__(self, desk: _Desk, server: _Server) -> None:
        self._desk, self._server = desk, server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def poll(self, max_rows: int) -> Polled:
        return self._desk.give(max_rows)

    def position(self) -> tuple[str, int]:
        return self._desk.name, self._desk.given

    def checkpointed(self, position: Any) -> None:
        name, count = position
        if name == self._desk.name:
            self._desk.keep(count)

    def close(self) -> None:
        self._desk.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    """A thread a connection, of which there is a bound."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__(address, handler)
        self._places = threading.BoundedSemaphore(_REQUESTS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # senders come again
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away in the middle is no matter."""


class _Requests(BaseHTTPRequestHandler):
    """One connection."""

    desk: _Desk
    path_taken: str
    token: str | None
    rows_of: Callable[[bytes], Rows]
    protocol_version = "HTTP/1.1"
    server_version = "raystream"
    sys_version = ""
    timeout = _PATIENCE_S

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path.partition("?")[0] != self.path_taken:
            self._answer(404, "nothing is taken here")
        elif not self._is_let_in():
            self._answer(401, "bring the token: Authorization: Bearer …")
        elif not length.isdecimal():
            self._answer(411, "say how long the body is: Content-Length")
        elif int(length) > _BODY_BYTES_MAX:
            self._answer(413, f"a body has at most {_BODY_BYTES_MAX} bytes")
        else:
            self._take(self.rfile.read(int(length)), int(length))

    def do_PUT(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: they would fill a log, and paths may hold secrets."""

    def _take(self, body: bytes, length: int) -> None:
        if len(body) < length:
            self.close_connection = True
            return
        try:
            rows = self.rows_of(body)
        except (ValueError, RecursionError) as error:
            self._answer(400, f"the body is no JSON: {error}")
        except SourceError as error:
            self._answer(400, error.message)
        else:
            if self.desk.take(rows):
                self._answer(200, None)
            else:
                self._answer(503, "busy: send it again", later=True)

    def _is_let_in(self) -> bool:
        if self.token is None:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode())

    def _answer(self, status: int, problem: str | None, *, later: bool = False) -> None:
        body = json.dumps({"error": problem} if problem else {"ok": True}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if later:
            self.send_header("Retry-After", "1")
        if problem is not None:
            self.close_connection = True  # what is left of the body is not read
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
