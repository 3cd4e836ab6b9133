"""Rows that are posted, and rows that are taken: against servers in this process."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors import http as connector
from raystream.connectors.http_client import Endpoint, HttpClient
from raystream.errors import SinkError

TOKEN = "t0ken-of-http"  # noqa: S105
SCHEMA = pa.schema({"n": pa.int64()})


class Receiver:
    """Keeps what is posted; ``answers`` are given first, then 200; ``refuses`` rows by 400."""

    def __init__(self):
        self.requests, self.answers, self.refuses = [], deque(maxlen=100), set()
        receiver = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), body))
                status = receiver.answers.popleft() if receiver.answers else 200
                if status == 200 and any(row["n"] in receiver.refuses for row in json.loads(body)):
                    status = 400
                if status is None:  # the connection breaks
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self.server.server_port}/in"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def rows(self):
        return [row["n"] for _, body in self.requests for row in json.loads(body)]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def send(rows, sink, policy="fail"):
    job = rs.Job("post", runtime="local")
    letters = rs.MemorySink()
    written = job.from_items([{"n": n} for n in rows], schema=SCHEMA).sink(sink).on_error(policy)
    if policy == "dead_letter":
        written.dead_letters.sink(letters)
    job.run()
    return [letter["row"]["n"] for letter in letters.rows]


def test_rows_are_posted_in_batches_that_have_names(receiver, monkeypatch):
    monkeypatch.setenv("HTTP_TOKEN", f"Bearer {TOKEN}")
    headers = {"Authorization": rs.secret("HTTP_TOKEN")}
    send(range(5), connector.HttpSink(receiver.url, batch_rows=2, headers=headers))
    assert [json.loads(body) for _, body in receiver.requests] == [
        [{"n": 0}, {"n": 1}],
        [{"n": 2}, {"n": 3}],
        [{"n": 4}],
    ]
    assert {given["Authorization"] for given, _ in receiver.requests} == {f"Bearer {TOKEN}"}
    assert len({given["Idempotency-Key"] for given, _ in receiver.requests}) == 3


def test_what_is_not_answered_is_sent_again_by_the_same_name(receiver):
    receiver.answers.extend([503, None, 429])
    pauses = []
    client = HttpClient(Endpoint.of(receiver.url, None, SinkError), 8, pauses.append)
    answer = client.send("POST", client.path, b'[{"n": 1}]', {"Idempotency-Key": "k"})
    client.close()
    assert answer.status == 200
    assert [given["Idempotency-Key"] for given, _ in receiver.requests] == ["k"] * 4
    assert pauses == [0.0, 0.2, 0.0]


def test_rows_that_are_refused_are_found_and_their_neighbours_arrive(receiver):
    receiver.refuses = {3, 6}
    letters = send(range(8), connector.HttpSink(receiver.url), "dead_letter")
    assert sorted(letters) == [3, 6]
    taken = [
        row["n"]
        for _, body in receiver.requests
        for row in json.loads(body)
        if not {row["n"] for row in json.loads(body)} & receiver.refuses
    ]
    assert sorted(taken) == [0, 1, 2, 4, 5, 7]
    with pytest.raises(rs.JobFailed, match="was answered: 400"):
        send([3], connector.HttpSink(receiver.url))


def test_a_server_that_lets_nobody_in_is_no_fault_of_rows(receiver):
    receiver.answers.extend([403] * 5)
    with pytest.raises(rs.JobFailed, match="was answered: 403"):
        send([1], connector.HttpSink(receiver.url), "skip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": f"http://u:{TOKEN}@h"}, "password in it"),
        ({"url": "ftp://h"}, "cannot be read"),
        ({"headers": {"X-Api-Key": TOKEN}}, "nobody may see"),
        ({"headers": {"Authorization": TOKEN}}, "nobody may see"),
        ({"method": "GET"}, "POST, PUT or PATCH"),
        ({"format": "xml"}, "json"),
    ],
)
def test_what_does_not_fit_is_refused_and_no_secret_repeated(settings, message):
    with pytest.raises(rs.RaystreamError, match=message) as refused:
        connector.HttpSink(**{"url": "http://h", **settings})
    assert TOKEN not in str(refused.value)


def test_a_secret_is_in_no_error(monkeypatch):
    for url in (f"http://u:{TOKEN}@127.0.0.1:1/x", f"http://u:{TOKEN}@h:port", "http://h/%zz"):
        monkeypatch.setenv("HTTP_URL", url)
        monkeypatch.setenv("HTTP_TOKEN", f"{TOKEN}\nbroken")
        sink = connector.HttpSink(
            rs.secret("HTTP_URL"), headers={"X-Token": rs.secret("HTTP_TOKEN")}, retries=0
        )
        with pytest.raises(rs.JobFailed) as failed:
            send([1], sink)
        assert TOKEN not in f"{failed.value}{failed.value.__cause__}"


class Hook:
    """A reader of a WebhookSource, and what posts to it."""

    def __init__(self, **settings):
        with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
            self.port = probe.server_port
        self.source = connector.WebhookSource(self.port, path="/in", **settings)
        (split,) = self.source.splits()
        self.reader = self.source.open(split, None)
        self.answers = []

    def post(self, body, path="/in", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read()), dict(answer.headers)
        connection.close()
        return found

    def posting(self, body):
        """Post in a thread of its own: the answer comes later."""
        thread = threading.Thread(target=lambda: self.answers.append(self.post(body)[0]))
        thread.start()
        return thread

    def rows(self, count):
        """Read until so many rows are there."""
        found = []
        while len(found) < count:
            polled = self.reader.poll(2)
            found += [] if polled is None else list(rs.Batch(polled))
        return found


@pytest.fixture
def hook():
    made = []

    def make(**settings):
        made.append(Hook(**settings))
        return made[-1]

    yield make
    for one in made:
        one.reader.close()


def test_objects_arrays_and_lines_are_rows(hook):
    taking = hook(schema=SCHEMA, acknowledge="receipt")
    for body in ('{"n": 1}', '[{"n": 2}, {"n": 3}]', '{"n": 4}\n{"n": 5}\n', "[]"):
        assert taking.post(body)[0] == 200
    assert [row["n"] for row in taking.rows(5)] == [1, 2, 3, 4, 5]
    assert taking.reader.poll(5) is None


@pytest.mark.parametrize(
    "body", ["", "{", '{"n": "x"}', '[{"n": 1}, {"n": "x"}]', "[1]", "\xff", b'{"n": 1}\n{']
)
def test_what_is_no_row_is_told_to_who_sent_it(hook, body):
    taking = hook(schema=SCHEMA, acknowledge="receipt")
    status, told, _ = taking.post(body)
    assert status == 400
    assert told["error"]
    assert taking.post('{"n": 7}')[0] == 200
    assert taking.rows(1) == [{"n": 7}]


def test_a_request_is_answered_when_its_rows_are_in_a_checkpoint(hook):
    taking = hook()
    first = taking.posting('[{"n": 1}, {"n": 2}, {"n": 3}]')
    assert len(taking.rows(3)) == 3
    position = taking.reader.position()
    second = taking.posting('{"n": 4}')
    assert len(taking.rows(1)) == 1
    assert not taking.answers
    taking.reader.checkpointed(("of another process", 99))
    assert not taking.answers
    taking.reader.checkpointed(position)
    first.join(10)
    assert taking.answers == [200]
    taking.reader.close()
    second.join(10)
    assert taking.answers == [200, 503]


def test_a_full_queue_says_when_to_come_again(hook):
    taking = hook(acknowledge="receipt", queue_rows=3)
    assert taking.post("[1, 2, 3]")[0] == 200
    status, _, headers = taking.post("[4]")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert len(taking.rows(3)) == 3
    assert taking.post("[4]")[0] == 200


def test_who_brings_no_token_is_not_let_in(hook, monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    taking = hook(acknowledge="receipt", token=rs.secret("HOOK_TOKEN"))
    assert taking.post("[1]")[0] == 401
    assert taking.post("[1]", Authorization="Bearer x")[0] == 401
    assert taking.post("[1]", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert taking.post("[1]", path="/out", Authorization=f"Bearer {TOKEN}")[0] == 404
    assert TOKEN not in repr(vars(taking.source)) + taking.source.describe()


@pytest.mark.slow
def test_each_row_that_was_answered_counts_though_the_job_dies(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        port = probe.server_port
    source = connector.WebhookSource(port, SCHEMA)
    died, seen = [], set()

    def dying(row):
        if row["n"] == 7 and not died:
            died.append(True)
            raise RuntimeError("once")
        seen.add(row["n"])
        return row

    def post(numbers):
        """Send again until it is answered, as senders of webhooks do."""
        endpoint = Endpoint.of(f"http://127.0.0.1:{port}/", None, SinkError)
        client = HttpClient(endpoint, 200, lambda _: threading.Event().wait(0.02))
        for n in numbers:
            try:
                client.send("POST", "/", json.dumps({"n": n}).encode())
            except SinkError:
                assert n == 19, "the job ends when it has the last, answered or not"
            client.close()

    job = rs.Job("hooked", runtime="local", checkpoint=rs.Checkpointing(tmp_path, every="20ms"))
    rows = job.source(source).map(dying, schema=SCHEMA)
    rows.filter(rs.col("n") == 19).sink(rs.MemorySink(limit=1))
    sender = threading.Thread(target=post, args=(range(20),))
    sender.start()
    result = job.run(timeout="60s")
    sender.join(1)
    assert result.restarts >= 1
    assert seen == set(range(20))


def test_a_port_is_closed_while_a_sender_keeps_its_body_back(hook):
    """Nobody waits for who has announced more than he sends."""
    there = hook()
    with socket.create_connection(("127.0.0.1", there.port)) as sender:
        sender.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        closing = threading.Thread(target=there.reader.close, daemon=True)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
