"""What each subtask asks of the cluster, or of the part of it that a job was given."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raystream.errors import ClusterError
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.ray.nodes import cluster_may_have

_LOG = logging.getLogger("raystream")
_LEAVE_FREE = 0.9
_CHECK_EVERY_S = 1.0
_WARN_AFTER_S = 10.0


def actor_options(
    plan: PhysicalPlan, cluster: Mapping[str, float], *, beside: bool = False
) -> dict[str, dict[str, Any]]:
    """Give Ray's options for the actors of each chain.

    A job of k chains asks 1/k CPU a subtask unless told otherwise; if all of that is more than the
    cluster has or may come to have, the shares shrink to fit, with a warning. Those of actors that
    are there already cannot: ``beside`` them new ones get none, unless they were told.
    """
    share = 1.0 / len(plan.chains)
    asked = {
        chain.name: share if chain.resources.num_cpus is None else chain.resources.num_cpus
        for chain in plan.chains
    }
    total = sum(asked[chain.name] * chain.parallelism for chain in plan.chains)
    cpus = cluster.get("CPU", 0.0)
    if total > cpus > 0 and beside:
        told = {chain.name for chain in plan.chains if chain.resources.num_cpus is not None}
        asked = {name: cpu if name in told else 0.0 for name, cpu in asked.items()}
    elif total > cpus > 0:
        shrink = cpus * _LEAVE_FREE / total
        _LOG.warning(
            "job %s asks for %.1f CPUs, the cluster has %.1f: subtasks share what there is",
            plan.job,
            total,
            cpus,
        )
        asked = {name: cpu * shrink for name, cpu in asked.items()}
    options: dict[str, dict[str, Any]] = {}
    for chain in plan.chains:
        resources = chain.resources
        cpu = asked[chain.name]
        options[chain.name] = {"num_cpus": max(0.001, round(cpu, 3)) if cpu else 0}
        if resources.num_gpus:
            options[chain.name]["num_gpus"] = resources.num_gpus
        if resources.custom:
            options[chain.name]["resources"] = dict(resources.custom)
        if resources.accelerator_type:
            options[chain.name]["accelerator_type"] = resources.accelerator_type
        if resources.labels:
            options[chain.name]["label_selector"] = dict(resources.labels)
    return options


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's subtasks may be: in the whole cluster, or in a placement group of it."""

    group: Any = None

    def has(self) -> dict[str, float]:
        """Give the resources that there are, in use or not, or that may come."""
        if self.group is None:
            return cluster_may_have()
        has: dict[str, float] = {}
        for bundle in self.group.bundle_specs:
            for name, amount in bundle.items():
                has[name] = has.get(name, 0.0) + amount
        return has

    def free(self) -> dict[str, float]:
        """Give the resources that nobody uses now."""
        free: dict[str, float] = ray.available_resources()
        if self.group is None:
            return free
        behind = f"_group_{self.group.id.hex()}"
        return {
            name.removesuffix(behind): amount
            for name, amount in free.items()
            if name.endswith(behind)
        }

    def nodes(self) -> list[Mapping[str, float]]:
        """Give what each node has that an actor might be on."""
        if self.group is not None:
            return [dict(bundle) for bundle in self.group.bundle_specs]
        return [_offers(node) for node in ray.nodes() if node["Alive"]]

    def at(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Give Ray's options of an actor, to be here."""
        if self.group is None:
            return dict(options)
        here = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=-1)
        return {**options, "scheduling_strategy": here}


def _offers(node: Mapping[str, Any]) -> dict[str, float]:
    labels = {_label(name, value): 1.0 for name, value in (node.get("Labels") or {}).items()}
    return {**node["Resources"], **labels}


def _label(name: str, value: str) -> str:
    return f"label {name}={value}"


def no_place(
    asked: Mapping[str, Mapping[str, Any]], nodes: Iterable[Mapping[str, float]]
) -> str | None:
    """Name a chain whose subtasks no node can hold, and what they ask; None if all have a place."""
    nodes = list(nodes)
    for chain, options in asked.items():
        wants = _wants(options) | _labelled(options)
        if not any(all(node.get(w, 0.0) >= n for w, n in wants.items()) for node in nodes):
            asks = ", ".join(f"{name}: {amount:g}" for name, amount in wants.items())
            return f"{chain} asks for {asks} a subtask"
    return None


def shortage(asked: Iterable[Mapping[str, Any]], free: Mapping[str, float]) -> str | None:
    """Say what a cluster has too little of for all of some actors; None if it has enough."""
    wanted: dict[str, float] = {}
    for options in asked:
        for name, amount in _wants(options).items():
            wanted[name] = wanted.get(name, 0.0) + amount
    lacking = [
        f"{name}: {amount:g} asked, {free.get(name, 0.0):g} free"
        for name, amount in wanted.items()
        if amount > free.get(name, 0.0)
    ]
    return ", ".join(lacking) or None


def _wants(options: Mapping[str, Any]) -> dict[str, float]:
    """Give the amounts that Ray's options of an actor ask for, by resource."""
    wants = {"CPU": options["num_cpus"], **options.get("resources", {})}
    if "num_gpus" in options:
        wants["GPU"] = options["num_gpus"]
    if "accelerator_type" in options:
        wants[f"accelerator_type:{options['accelerator_type']}"] = 0.001
    return wants


def _labelled(options: Mapping[str, Any]) -> dict[str, float]:
    """Give the labels that a node must have; what only Ray can judge, as ``in(a, b)``, is not."""
    selector = options.get("label_selector", {})
    plain = {n: v for n, v in selector.items() if v[:1] != "!" and "(" not in v}
    return {_label(name, value): 1.0 for name, value in plain.items()}


class Room:
    """Whether the cluster has room for a job that is not yet ready; asked now and then."""

    def __init__(self, job: str, place: Place) -> None:
        self._place = place
        self.asked: Mapping[str, Mapping[str, Any]] = {}
        self.patience_s = 0.0
        self._job = job
        self._began_s = self._checked_s = time.monotonic()
        self._warned = False

    def ask(self, asked: Mapping[str, Mapping[str, Any]]) -> None:
        """Begin to wait for what an attempt asks for: a node that was lost may come again."""
        self.asked = asked
        self._began_s = self._checked_s = time.monotonic()
        self._warned = False

    def check(self) -> None:
        """Warn once when it takes long.

        Raises: ClusterError where after some patience no node can hold a subtask: nodes may come.
        """
        now_s = time.monotonic()
        if now_s - self._checked_s < _CHECK_EVERY_S:
            return
        self._checked_s = now_s
        waited_s = now_s - self._began_s
        lacking = no_place(self.asked, self._place.nodes())
        if lacking is not None and waited_s >= self.patience_s:
            raise ClusterError(
                f"no node of the cluster has what {lacking}",
                hint="start Ray with it, or ask for less by with_resources()",
            )
        if waited_s >= _WARN_AFTER_S and not self._warned:
            self._warned = True
            what = "other jobs may hold it" if lacking is None else f"no node has what {lacking}"
            _LOG.warning("job %s waits for room in the cluster: %s", self._job, what)
