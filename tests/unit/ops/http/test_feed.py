"""Jobs are asked once a second for all who listen, and slow listeners hold nobody up."""

# ruff: noqa: S310  a server of this test's is asked
from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request

import pytest
from http_jobs import JOB, JOB_ID, Asker, FakeJobs, ran

from raystream.errors import ClusterError, ConfigError
from raystream.ops.http import feed
from raystream.ops.http.answers import Refused
from raystream.ops.http.feed import Feed
from raystream.ops.http.routes import PREFIX
from raystream.ops.http.serving import Server


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("kept"))


def parsed(text):
    kind, data = text.rstrip("\n").split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_all_listeners_hear_of_one_asking(job):
    asked = []

    async def ask():
        asked.append(1)
        return [(JOB, job.report()), ("silent", None)]

    async def story():
        said = Feed(ask, every_s=60)
        every, one, by_id = said.listen(None), said.listen("silent"), said.listen(JOB_ID)
        heard = [parsed(await every.next()), parsed(await every.next())]
        heard += [parsed(await one.next()), parsed(await by_id.next())]
        await said.close()
        assert await one.next() is None
        return heard

    heard = asyncio.run(story())
    assert [event["name"] for _, event in heard] == [JOB, "silent", "silent", JOB]
    assert len(asked) == 1


def test_nobody_is_asked_while_nobody_listens():
    asked = []

    async def ask():
        asked.append(1)
        return []

    async def story():
        said = Feed(ask, every_s=0)
        said.leave(said.listen(None))
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == []
        await said.close()

    asyncio.run(story())


def test_a_cluster_out_of_reach_is_told_and_asked_again():
    answers = iter([ClusterError("gone"), None])

    async def ask():
        error = next(answers)
        if error is not None:
            raise error
        return [("silent", None)]

    async def story():
        said = Feed(ask, every_s=0)
        listener = said.listen(None)
        kinds = [parsed(await listener.next())[0] for _ in range(2)]
        said.leave(listener)
        await said.close()
        return kinds

    assert asyncio.run(story()) == ["error", "job"]


def test_a_slow_listener_misses_what_is_old():
    async def story():
        listener = feed.Listener("x")
        for number in range(10):
            listener.put(str(number))
        return [await listener.next() for _ in range(4)]

    assert asyncio.run(story()) == ["6", "7", "8", "9"]


def test_so_many_may_listen_and_no_more():
    async def ask():
        return []

    async def story():
        said = Feed(ask, every_s=60)
        listeners = [said.listen(None) for _ in range(feed.LISTENERS_MAX)]
        with pytest.raises(Refused, match="listen already"):
            said.listen(None)
        said.leave(listeners[0])
        said.listen(None)
        await said.close()

    asyncio.run(story())


def test_events_come_as_server_sent_events(job):
    asker = Asker(FakeJobs(job), every_s=0)

    async def heard():
        url = asker.client.make_url(f"{PREFIX}/events?job=silent")
        headers = {"Authorization": "Bearer a-token-that-nobody-guesses"}
        async with asker.client.session.get(url, headers=headers) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            lines = [await response.content.readline() for _ in range(6)]
        return b"".join(lines).decode()

    try:
        first, second, _ = asker.run(heard()).split("\n\n")
    finally:
        asker.close()
    assert parsed(first) == parsed(second)
    assert parsed(first)[1]["status"] == "unknown"


def fetched(url, token=None):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_server_runs_beside_a_program(job):
    with Server(FakeJobs(job)) as server:
        said = fetched(f"{server.url}{PREFIX}/jobs", server.token)
        with pytest.raises(urllib.error.HTTPError, match="401") as refusal:
            fetched(f"{server.url}{PREFIX}/jobs")
        refusal.value.close()
        with pytest.raises(ConfigError, match="cannot listen"):
            Server(FakeJobs(job), port=int(server.url.rpartition(":")[2])).__enter__()
    assert [one["name"] for one in said["jobs"]] == [JOB, "silent"]
    with pytest.raises(urllib.error.URLError):
        fetched(server.url)
