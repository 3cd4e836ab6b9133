"""What ``Job`` is told of checkpoints, restarts and its size, read and checked."""

from __future__ import annotations

import os
from typing import Any

from raystream.api.callsite import located
from raystream.api.draft import check_bounds
from raystream.contracts.autoscale import Autoscale
from raystream.contracts.checkpointing import (
    Checkpointing,
    Exponential,
    Fixed,
    Never,
    RestartStrategy,
)
from raystream.errors import PlanError


def checkpointing_of(given: Any, where: str) -> Checkpointing | None:
    """Read ``checkpoint=``: a directory, or all that can be said of one.

    Raises: PlanError.
    """
    if given is None or isinstance(given, Checkpointing):
        return given
    if isinstance(given, str | os.PathLike):
        with located(where):
            return Checkpointing(given)
    raise PlanError(
        f"Job(checkpoint=) is a directory or a rs.Checkpointing, got {given!r:.60}", where=where
    )


def restart_of(given: Any, where: str) -> RestartStrategy | None:
    """Read ``restart=``.

    Raises: PlanError.
    """
    if given is None or isinstance(given, Exponential | Fixed | Never):
        return given
    raise PlanError(
        f"Job(restart=) is a rs.Restart, got {given!r:.60}",
        where=where,
        hint='rs.Restart.exponential(), rs.Restart.fixed(3, "1s") or rs.Restart.none()',
    )


def autoscale_of(given: Any, max_parallelism: int, where: str) -> Autoscale | None:
    """Read ``autoscale=``.

    Raises: PlanError, also for bounds that the job cannot have.
    """
    if given is None:
        return None
    if not isinstance(given, Autoscale):
        raise PlanError(
            f"Job(autoscale=) is a rs.Autoscale, got {given!r:.60}",
            where=where,
            hint="rs.Autoscale(max_parallelism=8)",
        )
    check_bounds(given, max_parallelism, where)
    return given
