"""Floats of three times the digits: a sum from which parts are taken again keeps what is left.

A number is the unevaluated sum of three floats, each below half the last digit of the one before.
Source: Dekker, "A floating-point technique for extending the available precision", 1971; Knuth,
The Art of Computer Programming 2, 4.2.2 (the exact sum of two floats).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from raystream.keyed.groups import Groups

Float64s: TypeAlias = npt.NDArray[np.float64]

_SPLITTER = 2.0**27 + 1


class Longs(NamedTuple):
    """Numbers, each ``hi + mid + lo``: float64 [n] all three; ``hi`` is the number rounded."""

    hi: Float64s
    mid: Float64s
    lo: Float64s


def long(values: Float64s) -> Longs:
    """Take floats as they are."""
    zeros = np.zeros(len(values))
    return Longs(values, zeros, zeros)


def exact_sum(a: Float64s, b: Float64s) -> Longs:
    """Add floats without loss; what overflows is infinite."""
    hi, mid = _sum(a, b)
    return Longs(hi, mid, np.zeros(len(hi)))


def exact_product(a: Float64s, b: Float64s) -> Longs:
    """Multiply floats without loss, where nothing under- or overflows."""
    hi = a * b
    a_hi, a_lo = _split(a)
    b_hi, b_lo = _split(b)
    mid = ((a_hi * b_hi - hi) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo
    return Longs(hi, np.where(np.isfinite(mid), mid, 0.0), np.zeros(len(hi)))


def add(x: Longs, y: Longs) -> Longs:
    """Add numbers, to about 45 digits."""
    hi, rest = _sum(x.hi, y.hi)
    mid, low = _sum(x.mid, y.mid)
    mid, lower = _sum(mid, rest)
    lo = x.lo + y.lo + low + lower
    hi, mid = _sum(hi, mid)
    mid, lo = _sum(mid, lo)
    hi, mid = _sum(hi, mid)
    return Longs(hi, mid, lo)


def running(values: Longs, groups: Groups) -> Longs:
    """Add up each prefix of each segment.

    Shapes: [n] by position -> [n].
    Source: Hillis and Steele, "Data parallel algorithms", 1986: prefixes of doubling length.
    """
    sums = Longs(*(part.copy() for part in values))
    reach = 1
    while reach < groups.longest:
        inside = np.flatnonzero(groups.places >= reach)
        earlier = Longs(*(part[inside - reach] for part in sums))
        # Both sides are read before either is written.
        joined = add(earlier, Longs(*(part[inside] for part in sums)))
        for part, new in zip(sums, joined, strict=True):
            part[inside] = new
        reach *= 2
    return sums


def _sum(a: Float64s, b: Float64s) -> tuple[Float64s, Float64s]:
    hi = a + b
    part = hi - a
    rest = (a - (hi - part)) + (b - part)
    return hi, np.where(np.isfinite(hi), rest, 0.0)


def _split(a: Float64s) -> tuple[Float64s, Float64s]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high
