"""Which allocator Arrow uses in the process of a subtask."""

from __future__ import annotations

import contextlib

import pyarrow as pa


def choose_memory_pool() -> None:
    """Prefer jemalloc: it stays small where one thread allocates and another frees.

    mimalloc was slower while memory grew (many splits open), and as fast once it had; a build of
    Arrow that has no jemalloc says so by NotImplementedError, and keeps its default.
    """
    with contextlib.suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())
