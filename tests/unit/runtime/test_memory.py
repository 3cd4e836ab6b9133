"""What a batch has left lies at hand for the next one, and what is held is left alone."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

from raystream.runtime.memory import collecting_all_seldom

BATCHES = 100

SCRIPT = f"""
import resource, sys
import numpy as np
from raystream.runtime.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch():
    columns = [np.ones(32_768, np.int64) for _ in range(16)]
batch()
before = faults()
for _ in range({BATCHES}):
    batch()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_pages_of_a_batch_are_met_once() -> None:
    faults = {}
    for how in ("kept", "given back"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
        )
        faults[how] = int(done.stdout)
    assert faults["kept"] < BATCHES  # less than a page a batch, of a thousand that it takes
    assert faults["given back"] > 10 * BATCHES, "then the settings are not worth a line"


def test_what_is_held_is_looked_through_seldom_unless_somebody_chose_more_seldom() -> None:
    chosen = gc.get_threshold()
    try:
        for before, after in (((700, 10, 10), (700, 10, 1_000)), ((9, 8, 7_000), (9, 8, 7_000))):
            gc.set_threshold(*before)
            with collecting_all_seldom():
                assert gc.get_threshold() == after
            assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*chosen)
