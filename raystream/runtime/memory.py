"""Which allocators the process of a subtask uses, and how; and when it looks for cycles."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""The names of settings in glibc's malloc.h."""

_KEPT_BYTES: Final = 64 * 1024 * 1024
"""What may lie free: all that an operator makes and forgets with a batch, many times over."""

_OWN_BYTES: Final = 4 * 1024 * 1024
"""What is longer than any column of a batch is given back by itself: state that has moved on."""

_FULL_COLLECTION_EVERY: Final = 1_000
"""Collections of the middle generation: with Python's others, 7 million objects that stay."""


def choose_allocators() -> None:
    """Choose for a process that is a subtask's own.

    Arrow's is jemalloc: it stays small where one thread allocates and another frees. mimalloc was
    slower while memory grew (many splits open), and as fast once it had; a build of Arrow that has
    no jemalloc says so by NotImplementedError, and keeps its default.
    """
    keep_freed_memory()
    _collect_all_seldom()
    with contextlib.suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def keep_freed_memory() -> None:
    """Let C's allocator, which NumPy uses, keep at hand what a batch has left.

    By itself it gives back whatever lies free in a megabyte at its end, and each batch then meets
    its pages anew: a fault for each 4 KiB was half the time of some operators. Where there is no
    glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _OWN_BYTES)


@contextlib.contextmanager
def collecting_all_seldom() -> Iterator[None]:
    """Look for cycles seldom while a job runs in a process that is not its own."""
    before = gc.get_threshold()
    _collect_all_seldom()
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _collect_all_seldom() -> None:
    """Let Python look through all of its objects for cycles a hundredth as often.

    State in lists and dicts is many objects, and rows that come in are many new ones: together they
    made Python look through all state every few batches, half the time of a top-k with ties. What
    is young is looked through as often as ever. A user's own settings stay if they are as wide.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, max(old, _FULL_COLLECTION_EVERY))
