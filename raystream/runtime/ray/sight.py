"""Where a subtask actor is, and whether its node sees the folder that the job is kept in."""

from __future__ import annotations

import threading
import time

import ray
import ray.util

from raystream.graph.physical import PhysicalPlan
from raystream.runtime.reach import PATIENCE_S, blind, sees
from raystream.runtime.vault import Home
from raystream.storage.opening import open_store

_LOOK_S = 0.1


def node_id() -> str:
    """Give the id of this process's node."""
    return str(ray.get_runtime_context().get_node_id())


class Sight:
    """What one process knows of its node's view; a node is asked once, not at each attempt."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def look(self, plan: PhysicalPlan, home: Home, attempt: int, closing: threading.Event) -> None:
        """Look for an attempt in the job's log, until ``closing`` is set.

        Raises: ConfigError where the node does not see it.
        """
        if plan.checkpoint is None or not home.url or home.url in self._seen:
            return
        store, give_up_s = open_store(home.url), time.monotonic() + PATIENCE_S
        while not sees(store, attempt):
            if closing.wait(_LOOK_S):
                return
            if time.monotonic() > give_up_s:
                raise blind(plan.job, home.url, ray.util.get_node_ip_address())
        self._seen.add(home.url)
