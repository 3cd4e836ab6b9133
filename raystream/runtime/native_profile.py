"""A profile of this process with the frames of compiled code, as py-spy sees it from outside.

Python shows its own frames alone: what Arrow, NumPy or Ray do below a line of Python counts as that
line's. py-spy stops the process a hundred times a second for a moment and unwinds all of its stack;
only threads that are at work count.

Source: the output of ``py-spy record --format raw``, which is that of Brendan Gregg's FlameGraph.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raystream.errors import ConfigError
from raystream.runtime.profiler import SAMPLES_PER_S, SECONDS_MAX, Cost, Frame, Profile, weights

START_S = 20.0
"""What py-spy may take beside the time that it looks: it reads all symbols first."""

_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)
_FRAME = re.compile(r"^(?P<name>.*) \((?P<file>[^()]+?)(?::(?P<line>\d+))?\)$")
_THREAD = re.compile(r"^thread \([^)]*\): ")
_ADDRESS = re.compile(r"^0x[0-9a-f]+$")


def native_profile(what: str, seconds: float, *, pid: int | None = None) -> Profile:
    """Profile a process, this one if no other is named, for whole seconds.

    Raises: ConfigError where py-spy is not there, or may not look.
    """
    program = _program()
    if pid is None:
        _let_be_looked_at()
    whole_s = max(1, math.ceil(min(seconds, SECONDS_MAX)))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stacks"
        asked = [program, "record", "--native", "--threads", "--function", "--format", "raw"]
        asked += ["--rate", str(SAMPLES_PER_S), "--duration", str(whole_s)]
        asked += ["--pid", str(pid or os.getpid()), "--output", str(out)]
        began_s = time.monotonic()
        try:
            done = subprocess.run(  # noqa: S603  a program that is found by its name
                asked, capture_output=True, text=True, timeout=whole_s + START_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                "py-spy does not come to an end", hint="profile without it"
            ) from error
        lived_s = min(time.monotonic() - began_s, whole_s)
        if done.returncode or not out.exists():
            said = done.stderr.strip().splitlines() or ["it says nothing"]
            raise ConfigError(
                f"py-spy cannot look into the process: {said[0]}",
                hint="it needs the right to trace (CAP_SYS_PTRACE in a container)",
            )
        return read_stacks(what, lived_s, out.read_text(encoding="utf-8"))


def read_stacks(what: str, seconds: float, text: str) -> Profile:
    """Read stacks as py-spy writes them, ``thread;outer;inner count``."""
    stacks: dict[tuple[str, tuple[Frame, ...]], Cost] = {}
    for line in text.splitlines():
        words, _, count = line.rpartition(" ")
        thread, *frames = words.split(";")
        key = _THREAD.sub("", thread), tuple(_frame(one) for one in frames)
        stacks.setdefault(key, Cost()).samples += int(count)
    samples = max(1, round(seconds * SAMPLES_PER_S))
    return Profile(what, seconds, samples, cpu_known=False, stacks=stacks)


def native_share(one: Profile) -> float:
    """Tell what share of the time was spent in compiled code."""
    weighed = weights(one)
    native_us = sum(us for (_, stack), us in weighed.items() if stack and is_native(stack[-1]))
    return native_us / max(1, sum(weighed.values()))


def is_native(frame: Frame) -> bool:
    """Tell whether a frame is compiled code: what Python runs comes from a .py, or has no file."""
    return not frame.file.endswith(".py") and not frame.file.startswith("<")


def _frame(word: str) -> Frame:
    found = _FRAME.match(word)
    if found is None:
        return Frame(word, "", 0)
    # Stripped libraries have no names: all that is in one of them is told together.
    name = "?" if _ADDRESS.match(found["name"]) else found["name"]
    return Frame(name, found["file"], int(found["line"] or 0))


def _program() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = shutil.which("py-spy") or (str(beside) if beside.exists() else None)
    if found is None:
        raise ConfigError(
            "native frames need the program py-spy",
            hint="pip install 'raystream[native]', on every node",
        )
    return found


def _let_be_looked_at() -> None:
    """Let a child trace its parent, which Linux forbids where Yama guards it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
