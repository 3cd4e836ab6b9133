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

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.services,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
]


class OnRay:
    """The job as actors, of which each can be killed alone."""

    parts = ("orders", "full-orders", "upserts", "coordinator")

    def __init__(self, handle) -> None:
        self._handle = handle

    def kill(self, part: str) -> bool:
        pid = self._process_of(part)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid is not None

    def check(self) -> None:
        with contextlib.suppress(rs.RaystreamError):  # it is being started anew
            assert self._handle.status() not in ("failed", "finished", "canceled")

    def _process_of(self, part: str) -> int | None:
        """Give the process of a subtask, or of the coordinator; None while there is none."""
        import ray

        from raystream.runtime.ray.driver import NAMESPACE

        with contextlib.suppress(ray.exceptions.RayError, ValueError, rs.RaystreamError):
            if part == "coordinator":
                actor = ray.get_actor(f"job:{self._handle.name}", NAMESPACE)
            else:
                actors = self._handle.subtasks().items()
                found = [actor for subtask, actor in actors if part in subtask.chain]
                if not found:
                    return None
                actor = found[0]
            return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=5)
        return None


@pytest.mark.timeout(CHAOS_S + 2 * SETTLED_S + 120)
def test_stores_equal_the_shop_whoever_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    try:
        with servers("postgres", "redis", "search") as (environment, running):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            SYNC.make_tables()
            job = rs.Job(
                "sync-stores",
                parallelism=2,
                checkpoint=rs.Checkpointing(tmp_path, every="2s"),
                runtime_env={"env_vars": environment},
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
