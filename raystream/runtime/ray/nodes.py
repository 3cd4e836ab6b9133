"""The nodes of a cluster: which one stays, what may come, and which are about to go."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state

_POLL_S = 1.0
_MOVE_US = 20_000_000
_MOVE_SHARE = 3
_HEAD = "node:__internal_head__"
_OUTLIVES_HEAD = ("RAY_REDIS_ADDRESS", "RAY_gcs_rpc_server_reconnect_timeout_s")
"""What KubeRay sets on heads and workers of a cluster whose state is kept elsewhere."""
NODE_ID = "ray.io/node-id"
_GROUP = "ray.io/node-group"
"""Ray labels a node so that whoever sizes the cluster has started: KubeRay, or Ray's autoscaler."""


@dataclass(frozen=True, slots=True)
class Draining:
    """Nodes that are about to go, by id: the time of their end in epoch milliseconds, or 0."""

    nodes: dict[str, int]


def coordinators_node() -> str | None:
    """Give the id of the node for coordinators: an actor keeps its node from being taken away.

    That is the head, which stays as long as its cluster does; where Ray outlives its head, a node
    that stays when the head is lost. None where there is no choice.
    """
    outlives = any(name in os.environ for name in _OUTLIVES_HEAD)
    for node in ray.nodes():
        if node["Alive"] and (_HEAD in node["Resources"]) is not outlives:
            return str(node["NodeID"])
    return None


def preferring(node: str) -> dict[str, Any]:
    """Give Ray's options of an actor that is to be on a node, and elsewhere where that is gone.

    Ray does not keep to a soft node affinity where an actor asks for no resources; to labels it
    does.
    """
    elsewhere = [{"label_selector": {NODE_ID: f"!{node}"}}]
    return {"label_selector": {NODE_ID: node}, "fallback_strategy": elsewhere}


def comes_back(actor: Any) -> bool:
    """Tell whether an actor that has just died is one that Ray starts again, or has started."""
    known = state.actor_table(actor._actor_id.hex())  # noqa: SLF001  Ray has no other name for it
    return bool(known) and known.get("State") not in {None, "DEAD"}


def cluster_may_have() -> dict[str, float]:
    """Give the resources of the cluster as it is, or as whoever sizes it may make it.

    What a cluster that grows may come to have is taken for endless where nobody says it.
    """
    now: dict[str, float] = ray.cluster_resources()
    told = state.get_max_resources_from_cluster_config()
    if told:
        return {name: max(now.get(name, 0.0), told.get(name, 0.0)) for name in {**now, **told}}
    grows = any(_GROUP in (n.get("Labels") or {}) for n in ray.nodes() if n["Alive"])
    return {**now, "CPU": float(sys.maxsize)} if grows else now


def until_us(deadline_ms: int, now_us: int, monotonic_us: int) -> int | None:
    """Give the time by which to begin a move, so that it is over before a node goes.

    Units: the deadline in epoch milliseconds, 0 for none; the result on the monotonic clock.
    """
    if not deadline_ms:
        return None
    left_us = max(0, deadline_ms * 1_000 - now_us)
    return monotonic_us + left_us - min(_MOVE_US, left_us // _MOVE_SHARE)


class Lookout:
    """Looks every second for nodes that are about to go; ``tell`` hears of them each time."""

    def __init__(self, tell: Callable[[Draining], None]) -> None:
        self._tell = tell
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(_POLL_S):
            # The only notice that Ray gives to those who run on its nodes; Ray Train reads it, too.
            nodes = state.get_draining_nodes()
            if nodes:
                self._tell(Draining(dict(nodes)))
