"""What a job's processes say: log records and printed lines, the newest kept for whoever asks."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO, TypeAlias

from raystream.clock import Clock
from raystream.config import Limits
from raystream.runtime.json_lines import JsonLines, fields_of

LINE_CHARS_MAX = 2_000
"""A line may hold a whole row; what is kept of it stays small."""

PRINTED = {"stdout": "print", "stderr": "stderr"}
"""What stands in the place of a level for what was printed."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line: when, how grave, of which subtask in which attempt, and what it says.

    ``at_us`` is time of day. ``chain`` and ``index`` name the subtask; both are empty, -1, for what
    the coordinator says. ``fields`` are those of ``json_lines.FIELDS`` that are known.
    """

    at_us: int
    level: str
    text: str
    chain: str = ""
    index: int = -1
    attempt: int = 0
    fields: Mapping[str, str | int] = field(default_factory=dict)


Fields: TypeAlias = Mapping[str, str | int]
NOTHING: Fields = {}


class Note(Protocol):
    """Takes a line: its level, its text, and what is known of it as fields."""

    def __call__(self, level: str, text: str, fields: Fields) -> None:
        """Take it."""


class _Kept:
    """The newest lines, numbered; what is printed has a room of its own and crowds nothing out."""

    def __init__(self, lines_max: int) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.lost = 0
        self._logged: deque[tuple[int, LogLine]] = deque(maxlen=lines_max)
        self._printed: deque[tuple[int, LogLine]] = deque(maxlen=lines_max)

    def add(self, line: LogLine) -> None:
        room = self._printed if line.level in PRINTED.values() else self._logged
        self.lost += len(room) == room.maxlen
        self.count += 1
        room.append((self.count, line))

    def after(self, number: int) -> list[LogLine]:
        both = [one for one in (*self._logged, *self._printed) if one[0] > number]
        return [line for _, line in sorted(both, key=lambda one: one[0])]

    def clear(self) -> None:
        self._logged.clear()
        self._printed.clear()
        self.lost = 0


class Journal:
    """The newest lines of a job, numbered in order of arrival."""

    def __init__(self, lines_max: int) -> None:
        self._kept = _Kept(lines_max)

    def add(self, lines: Iterable[LogLine]) -> None:
        """Keep lines; the oldest make room."""
        with self._kept.lock:
            for line in lines:
                self._kept.add(line)

    def after(self, number: int) -> tuple[int, list[LogLine]]:
        """Give the lines that came after so many, and how many there have been by now."""
        with self._kept.lock:
            return self._kept.count, self._kept.after(number)


class Notes:
    """The lines of one process that nobody has taken yet; the oldest make room for new ones."""

    def __init__(self, clock: Clock, lines_max: int) -> None:
        self._clock = clock
        self._kept = _Kept(lines_max)
        self.chain, self.index, self.attempt = "", -1, 0
        self.subtask = ""

    def note(self, level: str, text: str, fields: Fields = NOTHING) -> None:
        """Keep a line until it is taken."""
        line = self._line(level, text[:LINE_CHARS_MAX], fields)
        with self._kept.lock:
            self._kept.add(line)

    def take(self) -> list[LogLine]:
        """Give what came since this was last called, and say what had no room."""
        with self._kept.lock:
            taken, lost = self._kept.after(0), self._kept.lost
            self._kept.clear()
        if lost:
            taken.insert(0, self._line("warning", f"{lost} lines before these are left out"))
        return taken

    def _line(self, level: str, text: str, fields: Fields = NOTHING) -> LogLine:
        said = {"operator": self.chain, "subtask": self.subtask, **fields}
        at_us = self._clock.now_us()
        return LogLine(at_us, level, text, self.chain, self.index, self.attempt, said)


class Recorder(logging.Handler):
    """Notes log records, and shows them on stderr as Python would without it, or all as JSON."""

    def __init__(
        self,
        note: Note,
        shown: TextIO | None = None,
        json_lines: JsonLines | None = None,
    ) -> None:
        super().__init__()
        self._note = note
        self._shown = None if shown is None else logging.StreamHandler(shown)
        if self._shown is not None:
            self._shown.setFormatter(json_lines)
        self._shown_level = logging.WARNING if json_lines is None else logging.NOTSET
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._note(record.levelname.lower(), text, fields_of(record))
        if self._shown is not None and record.levelno >= self._shown_level:
            self._shown.handle(record)


def record(
    note: Note,
    limits: Limits,
    where: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Note what this process logs and prints, from now on, beside what becomes of it anyhow.

    ``where`` says for JSON what the process is.
    """
    root = logging.getLogger()
    as_json = limits.log_format == "json"
    # Python shows warnings where nobody has said otherwise; now somebody has.
    shown = None if root.handlers and not as_json else sys.stderr
    recorder = Recorder(
        note, None if shown is None else _plain(shown), JsonLines(where) if as_json else None
    )
    root.addHandler(recorder)
    root.setLevel(limits.log_level.upper())
    for name, called in PRINTED.items():
        tee(getattr(sys, name), functools.partial(note, called, fields=NOTHING))


def tee(stream: TextIO, note: Callable[[str], None]) -> None:
    """Note each whole line that is written to a stream; a thread's lines do not mix with others'.

    The stream itself stays: its file number and its buffer are looked for by others.
    """
    write = stream.write
    begun = threading.local()

    def noting(text: str) -> int:
        *whole, rest = (getattr(begun, "text", "") + text).split("\n")
        begun.text = rest[:LINE_CHARS_MAX]
        for line in whole:
            if line.strip():
                note(line)
        return write(text)

    stream.write = noting  # type: ignore[method-assign]  # where print() looks for it


def _plain(stream: TextIO) -> TextIO:
    """Give a stream to the same place which is not noted."""
    return open(stream.fileno(), "w", buffering=1, encoding="utf-8", closefd=False)
