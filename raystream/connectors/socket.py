"""Lines of text from a TCP connection."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.connectors.file_formats import TEXT_SCHEMA
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import PlanError, SourceError

_CONNECT_S = 10.0
_WAIT_S = 0.01
"""How long a poll waits for bytes: other splits are waiting for their turn."""

_RECEIVE_BYTES = 256 * 1024
_LINE_BYTES_MAX = 64 * 1024 * 1024


class SocketSource(Source):
    """Connect to ``host:port`` and give each line as column ``line``, until the peer closes.

    Guarantee: at most once; a connection cannot be read again, so lines are lost with the reader.
    A job that goes on from a checkpoint connects again, and gets what the peer sends from then on.

    Lines end with a line feed, before which a carriage return is dropped; bytes that are no UTF-8
    become U+FFFD.
    """

    schema = TEXT_SCHEMA
    bounded = False

    def __init__(self, host: str, port: int) -> None:
        if not 0 < port < 65536:
            raise PlanError(f"port must be 1 to 65535, got {port!r}")
        self._host, self._port = host, port

    def splits(self) -> Sequence[Split]:
        return [Split(f"{self._host}:{self._port}")]

    def open(self, split: Split, position: Any) -> Reader:
        try:
            peer = socket.create_connection((self._host, self._port), timeout=_CONNECT_S)
        except OSError as error:
            raise SourceError(
                f"cannot connect to {self._host}:{self._port}: {error}",
                hint=f"start the server first, for example: nc -lk {self._port}",
            ) from error
        peer.setblocking(False)
        return _SocketReader(peer, split.id)

    def describe(self) -> str:
        return f"SocketSource({self._host}:{self._port})"


class _SocketReader(Reader):
    """Reads what has come; holds at most what one receive brought, so that the peer feels it."""

    def __init__(self, peer: socket.socket, name: str) -> None:
        self._peer = peer
        self._name = name
        self._rest = b""
        self._lines: list[str] = []
        self._closed = False

    def poll(self, max_rows: int) -> Polled:
        if not self._lines:
            if self._closed:
                return END
            self._receive()
        if not self._lines:
            return END if self._closed else None
        given, self._lines = self._lines[:max_rows], self._lines[max_rows:]
        return pa.RecordBatch.from_arrays([pa.array(given, pa.string())], schema=TEXT_SCHEMA)

    def position(self) -> None:
        return None

    def close(self) -> None:
        self._peer.close()

    def _receive(self) -> None:
        try:
            if not select.select([self._peer], [], [], _WAIT_S)[0]:
                return
            came = self._peer.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise SourceError(f"lost the connection to {self._name}: {error}") from error
        self._closed = not came
        *whole, self._rest = (self._rest + came).split(b"\n")
        if self._closed and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        if len(self._rest) > _LINE_BYTES_MAX:
            raise SourceError(f"{self._name} sent a line of more than {_LINE_BYTES_MAX} bytes")
        # A loop over lines: what came is of unknown encoding until it is decoded.
        self._lines = [line.removesuffix(b"\r").decode("utf-8", "replace") for line in whole]
