"""Lines of a TCP connection, from a peer in the same test."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import pytest

from raystream.connectors.socket import SocketSource
from raystream.contracts.source import END
from raystream.errors import PlanError, SourceError


@contextmanager
def connected():
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = SocketSource("127.0.0.1", server.getsockname()[1])
        (split,) = source.splits()
        reader = source.open(split, None)
        peer, _ = server.accept()
        with peer:
            yield reader, peer
        reader.close()


def lines(reader, count):
    """Poll until so many lines came."""
    found = []
    while len(found) < count:
        batch = reader.poll(100)
        found += [] if batch is None else batch.column("line").to_pylist()
    return found


def test_lines_come_as_they_are_sent_and_the_last_at_the_end():
    with connected() as (reader, peer):
        assert reader.poll(10) is None
        peer.sendall("one\r\ntwo\nü".encode())
        assert lines(reader, 2) == ["one", "two"]
        peer.sendall(b" and\n\nlast")
        assert lines(reader, 2) == ["ü and", ""]
        peer.close()
        assert lines(reader, 1) == ["last"]
        assert reader.poll(10) is END
        assert reader.poll(10) is END


def test_a_poll_gives_no_more_than_asked_and_keeps_the_rest():
    with connected() as (reader, peer):
        peer.sendall(b"a\nb\nc\n")
        peer.close()
        sizes = []
        while (batch := reader.poll(2)) is not END:
            sizes += [] if batch is None else [batch.num_rows]
        assert sum(sizes) == 3
        assert max(sizes) <= 2


def test_bytes_that_are_no_text_are_replaced():
    with connected() as (reader, peer):
        peer.sendall(b"\xff!\n")
        assert lines(reader, 1) == ["\ufffd!"]


def test_nobody_listening_is_said_with_a_way_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = SocketSource("127.0.0.1", port)
    assert not source.bounded
    with pytest.raises(SourceError, match=rf"(?s)127\.0\.0\.1:{port}.*nc -lk {port}"):
        source.open(source.splits()[0], None)
    with pytest.raises(PlanError, match="port must be"):
        SocketSource("localhost", 0)
