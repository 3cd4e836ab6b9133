"""What each subtask asks of the cluster."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from raystream.graph.physical import PhysicalPlan

_LOG = logging.getLogger("raystream")
_LEAVE_FREE = 0.9


def actor_options(plan: PhysicalPlan, cluster: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Give Ray's options for the actors of each chain.

    A job of k chains asks 1/k CPU a subtask unless told otherwise; if all of that is more than the
    cluster has, the shares shrink to fit, with a warning.
    """
    share = 1.0 / len(plan.chains)
    asked = {
        chain.name: share if chain.resources.num_cpus is None else chain.resources.num_cpus
        for chain in plan.chains
    }
    total = sum(asked[chain.name] * chain.parallelism for chain in plan.chains)
    cpus = cluster.get("CPU", 0.0)
    if total > cpus > 0:
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
        options[chain.name] = {"num_cpus": max(0.001, round(asked[chain.name], 3))}
        if resources.num_gpus:
            options[chain.name]["num_gpus"] = resources.num_gpus
        if resources.custom:
            options[chain.name]["resources"] = dict(resources.custom)
        if resources.accelerator_type:
            options[chain.name]["accelerator_type"] = resources.accelerator_type
    return options
