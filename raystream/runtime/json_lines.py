"""Log records as JSON, one object a line, for whoever collects what processes write to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from raystream.config import Limits
from raystream.flow.time import moment

FIELDS: dict[str, str | int] = {
    "job": "",
    "operator": "",
    "subtask": "",
    "attempt": 0,
    "checkpoint": 0,
    "state": "",
    "from": "",
    "to": "",
}
"""What every line has, and what stands there where it is about nothing of the kind.

``from`` and ``to`` are the job's states where a line says that it went from one to another.
"""

_TEXT_CHARS_MAX = 200


def fields_of(record: logging.LogRecord) -> dict[str, str | int]:
    """Give those of the fields that a record has, as plain values: users' records may have them."""
    found = {name: getattr(record, name, None) for name in FIELDS}
    texts = {n: one[:_TEXT_CHARS_MAX] for n, one in found.items() if isinstance(one, str) and one}
    counts = {n: one for n, one in found.items() if type(one) is int and one}
    return {**texts, **counts}


class JsonLines(logging.Formatter):
    """Writes a record as one object; ``where`` says of what is not known of it by itself."""

    def __init__(self, where: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._where = where

    def format(self, record: logging.LogRecord) -> str:
        own = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        told = {
            "at": moment(int(record.created * 1e6)).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **FIELDS,
            **self._where(),
            **own,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


@contextmanager
def written(limits: Limits, job: str) -> Iterator[None]:
    """Write what the engine logs in this process as ``log_format`` says, as long as it lasts.

    Text is left to whoever has set up Python's logging.
    """
    if limits.log_format != "json":
        yield
        return
    log = logging.getLogger("raystream")
    level, shown = log.level, logging.StreamHandler(sys.stderr)
    shown.setFormatter(JsonLines(lambda: {"job": job}))
    log.addHandler(shown)
    log.setLevel(limits.log_level.upper())
    try:
        yield
    finally:
        log.removeHandler(shown)
        log.setLevel(level)
