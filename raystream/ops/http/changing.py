"""Requests that change a job. Where they may write is decided here, never by who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raystream.errors import ClusterError
from raystream.ops.http.answers import Refused
from raystream.ops.http.view import JobView


def savepoint(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Make a savepoint beside its checkpoints: a request says a name, not a path."""
    name = asked["name"]
    return {"savepoint": one.savepoint(None if name is None else one.place(name))}


def stop(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Stop it behind a savepoint."""
    name, wanted = asked["name"], asked["savepoint"]
    if name is not None and not wanted:
        raise Refused(400, "malformed", "a savepoint that is not made has no name")
    place = wanted if name is None else one.place(name)
    return {"savepoint": one.stop(savepoint=place, drain=asked["drain"])}


def cancel(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """End it where it stands."""
    one.cancel()
    return {"canceled": one.name}


def rescale(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run it with other numbers of subtasks."""
    count, by_name = asked["parallelism"], asked["operators"]
    if (count is None) == (not by_name):
        raise Refused(
            400,
            "malformed",
            "a change of size is one number for the job, or numbers by operator",
            hint='{"parallelism": 4}, or {"operators": {"window#1": 4}}',
        )
    wanted = by_name if count is None else count
    one.report()  # a job that does not answer is told from a cluster that has no room
    try:
        one.rescale(wanted)
    except ClusterError as error:
        raise Refused(409, "no_room", error.message, hint=error.hint) from error
    return {"rescaled": one.name, "to": wanted}
