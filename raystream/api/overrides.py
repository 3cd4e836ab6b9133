"""What a command line or the environment says over the head of a script.

Flags beat environment, and that beats the script. The command line sets its flags before it runs
the script; ``RAYSTREAM_PARALLELISM``, ``RAYSTREAM_RUNTIME``, ``RAYSTREAM_CHECKPOINT``,
``RAYSTREAM_FROM`` and ``RAYSTREAM_EXPLAIN`` stand in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from raystream.errors import ConfigError

RUNTIMES = ("ray", "local")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What was said; None where nothing was.

    ``explain`` prints the plan in place of running it; ``start`` is the snapshot to start from,
    ``autoscale`` the least and the most subtasks of an operator.
    """

    parallelism: int | None = None
    runtime: str | None = None
    explain: str | None = None
    checkpoint: str | None = None
    start: str | None = None
    allow_dropped: bool = False
    autoscale: tuple[int, int | None] | None = None


_NOTHING = Overrides()
_flags: ContextVar[Overrides] = ContextVar("raystream_flags", default=_NOTHING)


@contextmanager
def overriding(flags: Overrides) -> Iterator[None]:
    """Let flags hold for the script that runs inside."""
    token = _flags.set(flags)
    try:
        yield
    finally:
        _flags.reset(token)


def current(environment: Mapping[str, str] | None = None) -> Overrides:
    """Give what holds now.

    Raises: ConfigError if a variable of the environment makes no sense.
    """
    env = os.environ if environment is None else environment
    flags = _flags.get()
    return Overrides(
        parallelism=flags.parallelism or _parallelism(env.get("RAYSTREAM_PARALLELISM")),
        runtime=flags.runtime or _runtime(env.get("RAYSTREAM_RUNTIME")),
        explain=flags.explain or _explain(env.get("RAYSTREAM_EXPLAIN")),
        checkpoint=flags.checkpoint or env.get("RAYSTREAM_CHECKPOINT") or None,
        start=flags.start or env.get("RAYSTREAM_FROM") or None,
        allow_dropped=flags.allow_dropped,
        autoscale=flags.autoscale,
    )


def _parallelism(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"RAYSTREAM_PARALLELISM must be a positive int, got {text!r}")
    return int(text)


def _runtime(text: str | None) -> str | None:
    if not text:
        return None
    if text not in RUNTIMES:
        raise ConfigError(f"RAYSTREAM_RUNTIME must be ray or local, got {text!r}")
    return text


def _explain(text: str | None) -> str | None:
    if not text or text == "0":
        return None
    return text if text in ("text", "mermaid", "json") else "text"
