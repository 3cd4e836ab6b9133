"""Floats of twice the digits: a sum from which parts are taken again keeps what is left.

A number is the unevaluated sum of two floats, ``hi`` and a ``lo`` below half its last digit.
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


class Doubles(NamedTuple):
    """Numbers, each ``hi + lo``: float64 [n] both."""

    hi: Float64s
    lo: Float64s


def exact_sum(a: Float64s, b: Float64s) -> Doubles:
    """Add floats without loss; what overflows is infinite."""
    hi = a + b
    part = hi - a
    lo = (a - (hi - part)) + (b - part)
    return Doubles(hi, np.where(np.isfinite(hi), lo, 0.0))


def exact_product(a: Float64s, b: Float64s) -> Doubles:
    """Multiply floats without loss, where nothing under- or overflows."""
    hi = a * b
    a_hi, a_lo = _split(a)
    b_hi, b_lo = _split(b)
    lo = ((a_hi * b_hi - hi) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo
    return Doubles(hi, np.where(np.isfinite(lo), lo, 0.0))


def add(x: Doubles, y: Doubles) -> Doubles:
    """Add numbers, to about 32 digits."""
    high, low = exact_sum(x.hi, y.hi), exact_sum(x.lo, y.lo)
    middle = exact_sum(high.hi, high.lo + low.hi)
    return exact_sum(middle.hi, middle.lo + low.lo)


def running(values: Doubles, groups: Groups) -> Doubles:
    """Add up each prefix of each segment.

    Shapes: [n] by position -> [n].
    Source: Hillis and Steele, "Data parallel algorithms", 1986: prefixes of doubling length.
    """
    hi, lo = values.hi.copy(), values.lo.copy()
    reach = 1
    while reach < groups.longest:
        inside = np.flatnonzero(groups.places >= reach)
        back = inside - reach
        # Both sides are read before either is written.
        hi[inside], lo[inside] = add(Doubles(hi[back], lo[back]), Doubles(hi[inside], lo[inside]))
        reach *= 2
    return Doubles(hi, lo)


def _split(a: Float64s) -> tuple[Float64s, Float64s]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high
