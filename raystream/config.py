"""Every limit of the engine, with its reason; a job may set them by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from raystream.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one subtask. Each is a number that somebody can look at in ``explain``."""

    batch_rows_max: int = 32_768
    """Rows of a batch: past this, Arrow kernels gain nothing and latency loses."""

    row_batch_rows_max: int = 4_096
    """Rows that one batch of a Python row function's results holds: bounds what a generator that
    makes 100,000 rows of one keeps in memory."""

    poll_bytes_target: int = 8 * MIB
    """Bytes of a batch that a source aims at when its rows are wide."""

    envelope_bytes_inline: int = 96 * KIB
    """An actor call up to this size carries its bytes with it (Ray's own limit is 100 KiB)."""

    envelope_bytes_large: int = 1 * MIB
    """Between inline and this size a call through shared memory costs more than it carries."""

    envelope_bytes_max: int = 4 * MIB
    """A larger envelope is cut: one call must not fill the receiver's budget."""

    input_bytes_max: int = 32 * MIB
    """What all input channels of a subtask may hold together, sent and not consumed."""

    channel_bytes_min: int = 192 * KIB
    """What one channel may hold at least: two inline envelopes, so that one can travel while the
    other is consumed."""

    credit_horizon_us: int = 250_000
    """A grant is what the receiver consumes in this time: more would only be latency."""

    flush_cost_share: int = 4
    """A partial envelope waits this many times the cost of the last flush: sending then costs at
    most a fifth of a core."""

    poll_idle_us_min: int = 500
    """How soon a source that had nothing is asked again."""

    poll_idle_us_max: int = 20_000
    """How late a source that had nothing for long is asked again."""

    stalled_credit_us: int = 2_000_000
    """A sender without credit for this long asks whether its messages arrived."""

    heartbeat_us: int = 1_000_000
    """How often a subtask reports its figures."""

    firing_rows_max: int = 131_072
    """Partial rows that one step of a window firing takes out of state: a tenth of a second."""

    pane_copies_max: int = 64
    """A sliding window of more panes than this expands rows instead of sharing panes."""

    deliver_batches_max: int = 16
    """Batches that a subtask holds for the driver before it waits."""

    state_backend: str = "memory"
    """Where keyed state lives: ``memory``, or ``disk`` where it is larger than that."""

    state_cached_values_max: int = 65_536
    """Values that each state of the disk backend keeps decoded in memory, and those that it writes
    at once: past this the keys that come again soon are mostly there."""

    handed_bytes_max: int = 256 * MIB
    """Chunks that a subtask hands over in Ray's object store when the job moves; the others are
    read where they are kept. Ray gives that store 30 % of a node's memory: with 4 GiB and two
    subtasks a core, this is less than half of it."""

    log_level: str = "info"
    """What is noted of what subtasks log: this and what is graver; ``raystream logs`` shows it."""

    log_format: str = "text"
    """How processes write it to stderr: warnings as ``text``, or all of it as ``json``, one object
    a line with job, operator, subtask, attempt, checkpoint and state."""

    log_lines_sent_max: int = 200
    """Lines that a subtask tells its coordinator at a heartbeat, the newest: a function that prints
    each row must not fill the coordinator."""

    log_lines_kept_max: int = 5_000
    """Lines that are kept of a job while it runs: about a megabyte."""

    tracing: str = "off"
    """Who is given a trace of each checkpoint and each change of size: nobody, or ``otel``."""


WORDS = {
    "state_backend": ("memory", "disk"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("text", "json"),
    "tracing": ("off", "otel"),
}
"""The settings that are a choice."""


def limits_from(settings: Mapping[str, Any] | Limits | None) -> Limits:
    """Read the limits that a job sets by name.

    Raises: ConfigError for a name that is none, with the close match, or a value that is no
    positive int, or none of the words of a choice.
    """
    if settings is None:
        return Limits()
    if isinstance(settings, Limits):
        return settings
    known = [field.name for field in fields(Limits)]
    for name, value in settings.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"
            raise ConfigError(f'config has no "{name}"', hint=hint)
        if name in WORDS:
            if value not in WORDS[name]:
                words = ", ".join(f'"{word}"' for word in WORDS[name])
                raise ConfigError(f"config {name} must be one of {words}, got {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ConfigError(f"config {name} must be a positive int, got {value!r}")
    return replace(Limits(), **settings)
