"""Cumulative operations that start anew at every segment, for what a plain prefix sum cannot do.

Shapes: values [n] by position of ``Groups``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.keyed.groups import Groups

_SHORT = 64
"""Segments up to this are summed side by side, one step for all; longer ones each on its own."""


class Moments(NamedTuple):
    """Count, mean and sum of squared distances from the mean, each [n]."""

    counts: npt.NDArray[Any]
    means: npt.NDArray[Any]
    squares: npt.NDArray[Any]


def running_sums(
    values: npt.NDArray[np.float64], groups: Groups, before: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Add floats up strictly one after the other in each segment, onto ``before``.

    A difference of prefix sums would carry the NaN, infinity or rounding of one key to the next.
    Shapes: float64 [n], before float64 [m] -> float64 [n].
    """
    sums = values.copy()
    with np.errstate(all="ignore"):
        sums[groups.starts] += before
        long = groups.lengths > _SHORT
        # A loop over long segments: at most n / 64.
        for start, end in zip(
            groups.starts[long].tolist(), groups.ends[long].tolist(), strict=True
        ):
            np.cumsum(sums[start : end + 1], out=sums[start : end + 1])
        lengths, starts = groups.lengths[~long], groups.starts[~long]
        order = np.argsort(-lengths, kind="stable")
        starts = starts[order]
        alive = np.searchsorted(-lengths[order], -np.arange(1, _SHORT + 1), side="left")
        # A loop over places in a segment: at most 64.
        for place, count in enumerate(alive.tolist(), 1):
            if not count:
                break
            at = starts[:count] + place
            sums[at] += sums[at - 1]
    return sums


def first_least(keys: Int64s, groups: Groups) -> Int64s:
    """Give, for each position, that of the least key so far in its segment; of equals the first.

    Shapes: int64 [n] -> int64 [n].
    Source: Hillis and Steele, "Data parallel algorithms", 1986: prefixes of doubling length.
    """
    best = np.arange(len(keys))
    least = keys.copy()
    reach = 1
    while reach < groups.longest:
        wins = (least[:-reach] <= least[reach:]) & (groups.places[reach:] >= reach)
        best[reach:] = np.where(wins, best[:-reach], best[reach:])
        least[reach:] = np.where(wins, least[:-reach], least[reach:])
        reach *= 2
    return best


def running_moments(values: npt.NDArray[np.float64], groups: Groups) -> Moments:
    """Give the moments of each prefix of each segment.

    Shapes: float64 [n] -> Moments [n].
    Source: as ``first_least``; the parts that are joined never overlap.
    """
    n = len(values)
    so_far = Moments(np.ones(n, np.int64), values.copy(), np.zeros(n))
    reach = 1
    while reach < groups.longest:
        earlier = Moments(*(part[:-reach] for part in so_far))
        later = Moments(*(part[reach:] for part in so_far))
        inside = groups.places[reach:] >= reach
        joined = merge_moments(earlier, later)
        for part, both, alone in zip(so_far, joined, later, strict=True):
            part[reach:] = np.where(inside, both, alone)
        reach *= 2
    return so_far


def merge_moments(earlier: Moments, later: Moments) -> Moments:
    """Join the moments of two sets of values.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm", 1979.
    """
    counts = earlier.counts + later.counts
    with np.errstate(all="ignore"):
        distance = later.means - earlier.means
        share = later.counts / counts
        means = np.where(earlier.counts == 0, later.means, earlier.means + distance * share)
        # How far an infinity is from other values is no number, here as where both are summed up.
        apart = np.where(np.isinf(distance), np.nan, distance)
        between = np.where(earlier.counts == 0, 0.0, apart * apart * earlier.counts * share)
        return Moments(counts, means, earlier.squares + later.squares + between)
