"""A plan and the settings of its job as plain values, for whoever looks at it while it runs."""

from __future__ import annotations

import dataclasses
from typing import Any

from raystream.graph.explain import physical_json
from raystream.graph.physical import PhysicalPlan


def described(plan: PhysicalPlan) -> dict[str, Any]:
    """Give what runs, and how it is kept safe, as JSON has it.

    Units: as the names say; ``_us`` is microseconds.
    """
    checkpoint, restart = plan.checkpoint, plan.restart
    return {
        "job": plan.job,
        "max_parallelism": plan.max_parallelism,
        "checkpoint": None if checkpoint is None else dataclasses.asdict(checkpoint),
        "restart": {"kind": type(restart).__name__.lower(), **dataclasses.asdict(restart)},
        **physical_json(plan),
    }
