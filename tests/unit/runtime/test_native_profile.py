"""Frames of compiled code in a profile, where py-spy is there; an error that says so elsewhere."""

from __future__ import annotations

import hashlib
import shutil
import sys
import threading

import pytest

import raystream as rs
from raystream.runtime import profiler
from raystream.runtime.native_profile import native_profile, native_share, read_stacks
from raystream.runtime.profiler import Frame

STACKS = """\
thread (18599): window[0/1];run (threading.py:971);work (job (1).py:2);0x7f01 (libarrow.so.23) 6
thread (18599): window[0/1];run (threading.py:971);work (job (1).py:2);0x7f02 (libarrow.so.23) 2
thread (18599): window[0/1];run (threading.py:971);<lambda> (<string>:1) 1
thread (7): MainThread;std::sort<int, (anonymous)> (sort.cc:12) 1
"""


def test_stacks_of_py_spy_are_read_with_names_and_files():
    seen = read_stacks("job window[0/1]", 0.1, STACKS)
    assert seen.samples == 10
    key = ("window[0/1]", (Frame("run", "threading.py", 971), Frame("<lambda>", "<string>", 1)))
    assert seen.stacks[key].samples == 1
    (main,) = [stack for thread, stack in seen.stacks if thread == "MainThread"]
    assert main == (Frame("std::sort<int, (anonymous)>", "sort.cc", 12),)


def test_what_has_no_name_in_a_library_counts_together():
    seen = read_stacks("x", 0.1, STACKS)
    first = profiler.top(seen)[0]
    assert (first["function"], first["file"], first["own_share"]) == ("?", "libarrow.so.23", 0.8)


def test_the_share_of_compiled_code_is_that_of_the_innermost_frames():
    assert native_share(read_stacks("x", 0.1, STACKS)) == pytest.approx(0.9)
    assert native_share(read_stacks("x", 0.1, "")) == 0


def test_without_py_spy_it_is_said_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(rs.ConfigError, match="need the program py-spy") as caught:
        native_profile("x", 1)
    assert "raystream[native]" in (caught.value.hint or "")


def test_what_py_spy_says_is_passed_on(monkeypatch, tmp_path):
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\necho 'Permission Denied: no' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(rs.ConfigError, match="cannot look into the process: Permission Denied"):
        native_profile("x", 1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("py-spy") is None, reason="py-spy is not installed")
def test_a_thread_that_hashes_is_seen_in_compiled_code():
    over = threading.Event()
    block = bytes(1 << 22)

    def hashes() -> None:
        while not over.is_set():
            hashlib.sha256(block).digest()

    thread = threading.Thread(target=hashes, name="count[0/1]")
    thread.start()
    try:
        seen = native_profile("here", 1)
    finally:
        over.set()
        thread.join(60)
    own = [stack for (name, stack) in seen.stacks if name == "count[0/1]"]
    assert any(frame.name.endswith("hashes") for stack in own for frame in stack)
    assert any("sha256" in frame.name.lower() for stack in own for frame in stack)
    assert native_share(seen) > 0.5
