"""A sampling profiler of this process: what its threads are at, while they go on.

A thread looks a hundred times a second at the stacks of all others and counts them. On Linux it
also asks what time each thread has had on a CPU since, so that a thread that waits in the same line
for minutes is told from one that works there.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

SAMPLES_PER_S = 100
SECONDS_MAX = 60.0
DEPTH_MAX = 128
STACKS_MAX = 20_000
"""Different stacks that are kept: beyond, a stack counts for its outermost half alone."""

_SHARE_OF_TIME_MAX = 0.1
"""A profiler that takes longer to look looks less often: it costs the job at most this."""

Look: TypeAlias = Callable[[], Mapping[int, FrameType]]
"""Gives the innermost frame of each thread."""


@dataclass(frozen=True, slots=True, order=True)
class Frame:
    """A function in a stack, whichever line of it runs; ``line`` is its first."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} ({_short(self.file)}:{self.line})"


@dataclass(slots=True)
class Cost:
    """How often a stack was seen, and what its thread had of a CPU meanwhile."""

    samples: int = 0
    cpu_ns: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """Stacks, outermost function first, by the name of their thread."""

    what: str
    seconds: float
    samples: int
    cpu_known: bool
    stacks: Mapping[tuple[str, tuple[Frame, ...]], Cost]


@dataclass(slots=True)
class Sampler:
    """Counts stacks; whoever owns it says when to look.

    ``cpu_ns`` gives the time that a thread, by its native id, has had on a CPU so far; None where
    nobody knows.
    """

    cpu_ns: Callable[[int], int | None]
    samples: int = 0
    cpu_known: bool = False
    stacks: dict[tuple[str, tuple[Frame, ...]], Cost] = field(default_factory=dict)
    _had_ns: dict[int, int] = field(default_factory=dict)

    def take(self, frames: Mapping[int, FrameType], threads: Iterable[threading.Thread]) -> None:
        """Count the stacks as they are, of all threads but the one that calls."""
        self.samples += 1
        mine = threading.get_ident()
        known = {thread.ident: thread for thread in threads}
        for ident, innermost in frames.items():
            if ident == mine:
                continue
            thread = known.get(ident)
            name = f"thread {ident}" if thread is None else thread.name
            cost = self._cost(name, stack_of(innermost))
            cost.samples += 1
            if thread is not None and thread.native_id is not None:
                cost.cpu_ns += self._since(thread.native_id)

    def _cost(self, thread: str, stack: tuple[Frame, ...]) -> Cost:
        cost = self.stacks.get((thread, stack))
        if cost is None:
            if len(self.stacks) >= STACKS_MAX:
                stack = stack[: len(stack) // 2]
            cost = self.stacks.setdefault((thread, stack), Cost())
        return cost

    def _since(self, native_id: int) -> int:
        had_ns = self.cpu_ns(native_id)
        if had_ns is None:
            return 0
        self.cpu_known = True
        before_ns = self._had_ns.get(native_id, had_ns)
        self._had_ns[native_id] = had_ns
        return max(0, had_ns - before_ns)


def profile(
    what: str,
    seconds: float,
    *,
    look: Look = sys._current_frames,  # noqa: SLF001  it is documented, for this purpose
    stop: threading.Event | None = None,
) -> Profile:
    """Look at this process for some seconds, from the thread that calls; ``stop`` ends it early."""
    stop = stop or threading.Event()
    sampler = Sampler(cpu_ns_of)
    began_s = time.monotonic()
    give_up_s = began_s + min(seconds, SECONDS_MAX)
    while not stop.is_set():
        looked_s = time.monotonic()
        sampler.take(look(), threading.enumerate())
        now_s = time.monotonic()
        pause_s = max(1 / SAMPLES_PER_S, (now_s - looked_s) / _SHARE_OF_TIME_MAX)
        if now_s + pause_s >= give_up_s:
            stop.wait(max(0.0, give_up_s - now_s))
            break
        stop.wait(pause_s)
    lived_s = time.monotonic() - began_s
    return Profile(what, lived_s, sampler.samples, sampler.cpu_known, sampler.stacks)


def stack_of(innermost: FrameType) -> tuple[Frame, ...]:
    """Give a stack, outermost function first; of a very deep one its innermost part."""
    frames: list[Frame] = []
    frame: FrameType | None = innermost
    while frame is not None and len(frames) < DEPTH_MAX:
        code = frame.f_code
        frames.append(
            Frame(getattr(code, "co_qualname", code.co_name), code.co_filename, code.co_firstlineno)
        )
        frame = frame.f_back
    return tuple(reversed(frames))


def cpu_ns_of(native_id: int) -> int | None:
    """Tell the time that a thread has had on a CPU; None where the system does not say."""
    try:
        said = Path(f"/proc/self/task/{native_id}/schedstat").read_text(encoding="ascii")
    except OSError:  # another system, or the thread has ended since
        return None
    return int(said.split()[0])


# What a profile says ------------------------------------------------------------------------------


def weights(one: Profile) -> dict[tuple[str, tuple[Frame, ...]], int]:
    """Give each stack its microseconds: on a CPU where that is known, else those it was seen in."""
    if one.cpu_known:
        found = {key: cost.cpu_ns // 1_000 for key, cost in one.stacks.items()}
    else:
        each_us = one.seconds * 1e6 / max(1, one.samples)
        found = {key: round(cost.samples * each_us) for key, cost in one.stacks.items()}
    return {key: weight_us for key, weight_us in found.items() if weight_us}


def top(one: Profile, count: int = 20) -> list[dict[str, Any]]:
    """Give the functions that took most: by themselves, and with what they called.

    Units: ``own_us`` and ``total_us`` are microseconds; shares are of all that was spent.
    """
    own: Counter[Frame] = Counter()
    total: Counter[Frame] = Counter()
    weighed = weights(one)
    for (_, stack), weight_us in weighed.items():
        if not stack:
            continue
        own[stack[-1]] += weight_us
        for frame in set(stack):  # once, however often it calls itself
            total[frame] += weight_us
    whole = max(1, sum(weighed.values()))
    ordered = sorted(total, key=lambda frame: (-own[frame], -total[frame], frame))
    return [
        {
            "function": frame.name,
            "file": _short(frame.file),
            "line": frame.line,
            "own_us": own[frame],
            "total_us": total[frame],
            "own_share": round(own[frame] / whole, 4),
            "total_share": round(total[frame] / whole, 4),
        }
        for frame in ordered[:count]
    ]


def collapsed(one: Profile) -> str:
    """Give a line for each stack, ``thread;outer;inner count``: what flame graphs are drawn from.

    Source: the format of Brendan Gregg's FlameGraph.
    """
    lines = [
        ";".join([_word(thread), *(_word(str(frame)) for frame in stack)]) + f" {weight_us}"
        for (thread, stack), weight_us in weights(one).items()
    ]
    return "\n".join(sorted(lines))


def speedscope(one: Profile) -> dict[str, Any]:
    """Give a file that speedscope opens: a profile for each thread.

    Source: the file format of https://www.speedscope.app.
    """
    places: dict[Frame, int] = {}
    threads: dict[str, tuple[list[list[int]], list[int]]] = {}
    for (thread, stack), weight_us in weights(one).items():
        samples, weighed = threads.setdefault(thread, ([], []))
        samples.append([places.setdefault(frame, len(places)) for frame in stack])
        weighed.append(weight_us)
    busiest = sorted(threads.items(), key=lambda item: (-sum(item[1][1]), item[0]))
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": one.what,
        "exporter": "raystream",
        "shared": {
            "frames": [{"name": f.name, "file": _short(f.file), "line": f.line} for f in places]
        },
        "profiles": [
            {
                "type": "sampled",
                "name": thread,
                "unit": "microseconds",
                "startValue": 0,
                "endValue": sum(weighed),
                "samples": samples,
                "weights": weighed,
            }
            for thread, (samples, weighed) in busiest
        ],
    }


def _short(file: str) -> str:
    """Leave out of a file's path what is the same for everybody: where Python is installed."""
    for mark in ("/site-packages/", "/lib/python"):
        if mark in file:
            return file.rpartition(mark)[2]
    return file


def _word(text: str) -> str:
    """Keep apart what the format keeps apart by signs."""
    return text.replace(";", ",").replace("\n", " ")
