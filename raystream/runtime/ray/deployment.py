"""What an actor is told when it is given a subtask."""

from __future__ import annotations

import dataclasses
from typing import Any

from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest
from raystream.runtime.vault import Home


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """One subtask of one attempt: what runs it, whom it talks to, what it starts from.

    With ``stays`` it goes on with what the actor has left open of the attempt before. ``handed``
    has references of objects, by chunk: what it reads may be there.
    """

    plan: bytes
    subtask: SubtaskId
    attempt: int
    peers: dict[SubtaskId, Any]
    coordinator: Any
    attached: bool
    home: Home | None
    manifest: Manifest | None
    path: str
    stays: bool = False
    handed: dict[str, Any] = dataclasses.field(default_factory=dict)
