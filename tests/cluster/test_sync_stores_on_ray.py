"""Stores equal the shop although subtasks, the coordinator and servers are killed one by one.

``RAYSTREAM_CHAOS_S=300`` does so for five minutes.
"""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from chaos import CHAOS_S, SETTLED_S, SYNC, chaos
from servers import Missing, servers

import raystream as rs
from raystream.contracts.secret import Secret

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.services,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.skipif(
        "RAYSTREAM_CHAOS_S" not in os.environ,
        reason="minutes of kills: RAYSTREAM_CHAOS_S says how many seconds",
    ),
]


class OnRay:
    """The job as actors, of which each can be killed alone."""

    parts = ("orders", "customers", "full-orders", "full-orders.upserts", "coordinator")

    def __init__(self, handle) -> None:
        self._handle = handle

    def kill(self, part: str) -> bool:
        pid = self._process_of(part)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid is not None

    def check(self) -> None:
        status = ""
        with contextlib.suppress(rs.RaystreamError):  # it is being started anew
            status = self._handle.status()
        if status in ("failed", "finished", "canceled"):
            self._handle.wait("10s")
            raise AssertionError(f"the job is {status}")

    def _process_of(self, part: str) -> int | None:
        """Give the process of a subtask, or of the coordinator; None while there is none."""
        import ray

        from raystream.runtime.ray.driver import NAMESPACE

        with contextlib.suppress(ray.exceptions.RayError, ValueError, rs.RaystreamError):
            if part == "coordinator":
                actor = ray.get_actor(f"job:{self._handle.name}", NAMESPACE)
            else:
                actors = self._handle.subtasks().items()
                heads = {subtask.chain.partition("→")[0]: actor for subtask, actor in actors}
                if part not in heads:
                    return None
                actor = heads[part]
            return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=5)
        return None


@pytest.mark.timeout(CHAOS_S + 2 * SETTLED_S + 120)
def test_stores_equal_the_shop_whoever_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    try:
        with servers("postgres", "redis", "search") as (environment, running):
            # Ray may be older than the servers, and its workers' environment: secrets are files.
            for name, value in environment.items():
                (tmp_path / name).write_text(value)
            monkeypatch.setattr(rs, "secret", lambda name: Secret(file=str(tmp_path / name)))
            SYNC.make_tables()
            job = rs.Job(
                "sync-stores",
                parallelism=2,
                checkpoint=rs.Checkpointing(tmp_path / "kept", every="2s"),
            )
            SYNC.sync(SYNC.followed(job), SYNC.stores(list(SYNC.STORES)))
            handle = job.submit()
            try:
                chaos(environment, running, OnRay(handle))
            finally:
                handle.cancel()
                handle.end()
    except Missing as missing:
        pytest.skip(str(missing))
