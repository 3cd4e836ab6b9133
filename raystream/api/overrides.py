"""What is said over the head of a script, by flags, by the environment and by files of its project.

Flags beat environment, that beats ``raystream.toml``, that ``[tool.raystream]``, and all of them
beat the script. The command line sets its flags before it runs the script. ``RAYSTREAM_EXPLAIN``
in the environment prints the plan.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raystream.api.project import in_files, running_script
from raystream.api.setting_table import BY_NAME, RUNTIMES, Said, in_environment, in_flags

__all__ = ["RUNTIMES", "Overrides", "all_said", "current", "flags", "overriding"]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What was said; None where nothing was.

    ``explain`` prints the plan in place of running it; ``start`` is the snapshot to start from;
    ``checkpointing`` and ``limits`` hold single settings. ``sets`` are flags ``NAME=VALUE``.
    ``detach`` leaves the job to the cluster, and ends the script; ``quiet`` shows no progress.
    ``autoscale`` is ``MIN..MAX``, the least and the most subtasks of an operator.
    ``ended`` is told a job's name, and how it ended or what it is reached by.
    """

    parallelism: int | None = None
    runtime: str | None = None
    explain: str | None = None
    checkpoint: str | None = None
    start: str | None = None
    allow_dropped: bool = False
    autoscale: str | None = None
    max_parallelism: int | None = None
    address: str | None = None
    checkpointing: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ()
    detach: bool = False
    quiet: bool = False
    ended: Callable[[str, Any], None] | None = None


_NOTHING = Overrides()
_flags: ContextVar[Overrides] = ContextVar("raystream_flags", default=_NOTHING)

_FIELDS = {"from": "start", "allow_dropped_state": "allow_dropped"}
"""Settings whose field has another name."""


@contextmanager
def overriding(flags: Overrides) -> Iterator[None]:
    """Let flags hold for the script that runs inside."""
    token = _flags.set(flags)
    try:
        yield
    finally:
        _flags.reset(token)


def flags() -> Overrides:
    """Give what flags alone say."""
    return _flags.get()


def current(environment: Mapping[str, str] | None = None) -> Overrides:
    """Give what holds now.

    Raises: ConfigError if a variable, a file or a flag makes no sense.
    """
    env = os.environ if environment is None else environment
    flags_said = _flags.get()
    groups: dict[str, dict[str, Any]] = {"": {}, "checkpointing": {}, "limits": {}}
    for name, said in all_said(env, flags_said.sets).items():
        setting = BY_NAME[name]
        groups[setting.group][setting.key or _FIELDS.get(name, name)] = said.value
    single = {name: value for name, value in groups[""].items() if not getattr(flags_said, name)}
    return dataclasses.replace(
        flags_said,
        **single,
        checkpointing=groups["checkpointing"],
        limits=groups["limits"],
        explain=flags_said.explain or _explain(env.get("RAYSTREAM_EXPLAIN")),
    )


def all_said(
    environment: Mapping[str, str], sets: tuple[str, ...] = (), script: Path | None = None
) -> dict[str, Said]:
    """Give each setting that was said, as whoever counts most said it, and where.

    Raises: ConfigError.
    """
    files = in_files(script or running_script(), Path.cwd())
    return files | in_environment(environment) | in_flags(sets)


def _explain(text: str | None) -> str | None:
    if not text or text == "0":
        return None
    return text if text in ("text", "mermaid", "json") else "text"
