"""What a job tells of its past, as JSON in an entry of its log, and back.

It is told, never relied upon: one that cannot be read is none, and the job goes on.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from raystream.errors import CorruptSnapshot
from raystream.flow.control import Rescaling
from raystream.flow.past import Failure, Past, StateChange
from raystream.storage.json_fields import Fields

_COUNTS = ("restarts", "takeovers", "completed", "given_up", "decided", "refused")


def past_fields(past: Past) -> dict[str, Any]:
    """Give the fields of an entry that say it; a job that has nothing to tell needs none."""
    if past == Past():
        return {}
    told = {name: value for name, value in dataclasses.asdict(past).items() if value}
    return {"past": told}


def read_past(fields: Fields) -> Past:
    """Read what an entry says of it."""
    if not fields.has("past"):
        return Past()
    try:
        return fields.item("past", _past)
    except CorruptSnapshot:
        return Past()


def _past(fields: Fields) -> Past:
    return Past(
        **{name: fields.count(name) for name in _COUNTS if fields.has(name)},
        leaves=fields.flag("leaves") if fields.has("leaves") else False,
        failures=fields.items("failures", _failure) if fields.has("failures") else (),
        changes=fields.items("changes", _change) if fields.has("changes") else (),
        rescalings=fields.items("rescalings", _rescaling) if fields.has("rescalings") else (),
    )


def _failure(fields: Fields) -> Failure:
    return Failure(
        fields.number("at_us"),
        fields.count("attempt"),
        fields.text("subtask"),
        fields.text("kind"),
        fields.text("message"),
        fields.text("where"),
        fields.text("operator"),
    )


def _change(fields: Fields) -> StateChange:
    return StateChange(
        fields.number("at_us"), fields.count("attempt"), fields.text("before"), fields.text("after")
    )


def _rescaling(fields: Fields) -> Rescaling:
    return Rescaling(
        fields.number("at_us"),
        fields.text("reason"),
        fields.mapping("before", Fields.count),
        fields.mapping("after", Fields.count),
        fields.text("outcome"),
        None if fields.is_null("pause_us") else fields.count("pause_us"),
    )
