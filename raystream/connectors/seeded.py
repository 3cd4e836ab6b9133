"""Random numbers that are a function of what they are for: the same in any order, at any time.

A generator that hashes (seed, row, purpose) can start at any row, and gives the same rows whoever
asks, in batches of any size.

Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014 (the
finalizer of SplitMix64); Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from raystream.contracts.source import Split
from raystream.flow.batch import Int64s

UInt64s: TypeAlias = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def mix(values: UInt64s) -> UInt64s:
    """Hash each number, in place, so that near ones become unrelated.

    Shapes: values uint64 [n] -> uint64 [n].
    """
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def random_bits(seed: int, purpose: int, ids: Int64s) -> UInt64s:
    """Give 64 random bits for each id.

    Shapes: ids int64 [...] -> uint64 [...].
    """
    start = mix(
        np.array([(seed * 0x2545F4914F6CDD1D + (purpose + 1) * _GOLDEN) & _MASK], np.uint64)
    )
    values = ids.view(np.uint64) * np.uint64(_GOLDEN)
    values += start[0]
    return mix(values)


def below(bits: UInt64s, bound: int | Int64s) -> Int64s:
    """Give a number in [0, bound) from the low 32 bits; ``bound`` is less than 2**31.

    Shapes: bits uint64 [n], bound one or int64 [n] -> int64 [n].
    """
    many = np.uint64(bound) if isinstance(bound, int) else bound.view(np.uint64)
    low = bits & np.uint64(0xFFFFFFFF)
    low = low * many
    low >>= np.uint64(32)
    return low.view(np.int64)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows 0, 1, 2 … dealt to ``count`` splits in blocks of ``size``, in turn.

    The splits then go through the same time side by side. ``total`` None is rows without end.
    """

    total: int | None
    size: int
    count: int

    def rows_of(self, split: int) -> int | None:
        """Give the number of rows of a split."""
        if self.total is None:
            return None
        whole, rest = divmod(self.total, self.size)
        blocks = max(0, -((split - whole) // self.count))
        return blocks * self.size + (rest if whole % self.count == split else 0)

    def ids(self, split: int, start: int, stop: int) -> Int64s:
        """Give the numbers, in the whole, of rows ``start`` to ``stop`` of a split.

        Shapes: -> int64 [stop - start].
        """
        local = np.arange(start, stop, dtype=np.int64)
        if self.count == 1:
            return local
        block = local // self.size
        return local + (block * (self.count - 1) + split) * self.size

    def split(self, index: int, earliest: dict[str, int]) -> Split:
        """Name a split; its payload is its index."""
        return Split(f"{index}-of-{self.count}", index, earliest)
