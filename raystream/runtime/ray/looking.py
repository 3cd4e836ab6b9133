"""Look into the subtasks of a job from outside: a few rows, a profile; the job goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from raystream.errors import ClusterError, NotFound, RaystreamError
from raystream.flow.ids import SubtaskId
from raystream.runtime.native_profile import START_S
from raystream.runtime.profiler import Profile

_SUBTASKS_MAX = 8
"""Of an operator with more subtasks the first are looked at."""

_ANSWER_S = 10.0
"""What a subtask has to answer beside the time that it was told to look."""


def actors_of(
    plan: Mapping[str, Any],
    actors: Mapping[SubtaskId, Any],
    operator: str,
    subtask: int | None,
) -> dict[SubtaskId, Any]:
    """Find the actors that run an operator, or one subtask of it.

    Raises: NotFound, naming what there is.
    """
    chains = {one["name"]: chain["name"] for chain in plan["chains"] for one in chain["operators"]}
    if operator not in chains:
        raise NotFound(
            f'the job has no operator "{operator}"', hint=f"its operators: {', '.join(chains)}"
        )
    found = {one: actor for one, actor in actors.items() if one.chain == chains[operator]}
    if not found:
        raise NotFound(f'"{operator}" has no subtask now', hint="the job starts, or has ended")
    if subtask is None:
        return dict(sorted(found.items())[:_SUBTASKS_MAX])
    chosen = {one: actor for one, actor in found.items() if one.index == subtask}
    if not chosen:
        raise NotFound(
            f'"{operator}" has no subtask {subtask} now', hint=f"it has {len(found)}, from 0 on"
        )
    return chosen


def sample(
    actors: Mapping[SubtaskId, Any], operator: str, rows: int, seconds: float
) -> list[dict[str, Any]]:
    """Give rows that leave an operator now, each with the subtask that gave it.

    Raises: ClusterError where none of the subtasks answers.
    """
    each = -(-rows // max(1, len(actors)))
    asked = {
        actor.sample.options(concurrency_group="look").remote(operator, each, seconds): subtask
        for subtask, actor in actors.items()
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds + _ANSWER_S)
    if late and not done:
        raise ClusterError(f'no subtask of "{operator}" answers')
    found = []
    for ref in done:
        found += [{"subtask": asked[ref].index, **row} for row in _got(ref, operator)]
    return found[:rows]


def profile(
    actors: Mapping[SubtaskId, Any], job: str, seconds: float, *, native: bool = False
) -> Profile:
    """Profile the process of one subtask, with the frames of compiled code if these are wanted.

    Raises: ClusterError where it does not answer; ConfigError where nobody can see native frames.
    """
    ((subtask, actor),) = actors.items()
    look = actor.profile.options(concurrency_group="look")
    ref = look.remote(f"{job} {subtask}", seconds, native=native)
    begins_s = START_S if native else 0.0
    done, _ = ray.wait([ref], timeout=seconds + begins_s + _ANSWER_S)
    if not done:
        raise ClusterError(f"{subtask} does not answer")
    seen: Profile = _got(ref, str(subtask))
    return seen


def _got(ref: Any, what: str) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaystreamError):
            raise error.cause from None
        raise ClusterError(f"{what} cannot be looked at: {error}") from error
    except ray.exceptions.RayError as error:
        raise ClusterError(f"{what} went away while it was looked at: {error}") from error
