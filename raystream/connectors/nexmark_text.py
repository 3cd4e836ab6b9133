"""The strings of Nexmark, taken from tables that are made once a process."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.seeded import UInt64s, below, random_bits
from raystream.flow.batch import Int64s

HOT_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
CHANNELS = 10_000

CITIES = pa.array(
    [
        *("Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland"),
        *("Bend", "Redmond", "Seattle", "Kent", "Cheyenne"),
    ]
)
STATES = pa.array(["AZ", "CA", "ID", "OR", "WA", "WY"])
_FIRST_NAMES = (
    *("Peter", "Paul", "Luke", "John", "Saul", "Vicky"),
    *("Kate", "Julie", "Sarah", "Deiter", "Walter"),
)
_LAST_NAMES = (
    *("Shultz", "Abrams", "Spencer", "White", "Bartels"),
    *("Walton", "Smith", "Jones", "Noris"),
)

WORDS = 8_192
"""Different texts of a kind: more than a batch shows of them, few enough to stay in cache."""

_SHORTEST = 3
_POOL_BYTES = 1 << 20
_RUN_BYTES_MAX = 1 << 19
"""A run of padding is shorter than this."""


def strings(lengths: Int64s, characters: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> pa.Array:
    """Cut a run of characters into strings that lie one behind the other.

    Shapes: lengths [n], characters uint8 [sum of lengths] -> string [n].
    """
    offsets = np.zeros(lengths.size + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.StringArray.from_buffers(
        lengths.size, pa.py_buffer(offsets), pa.py_buffer(characters)
    )


def padding(lengths: Int64s, starts: UInt64s) -> pa.Array:
    """Fill strings of given lengths with random letters; each line is a run of its own.

    Shapes: lengths [runs, n], starts (random bits) [runs] -> string [runs * n].
    """
    pool = _pool()
    first = below(starts, _POOL_BYTES).tolist()
    totals = lengths.sum(axis=1).tolist()
    assert max(totals, default=0) <= _RUN_BYTES_MAX, "a run of padding fits the pool"
    # A loop over runs of up to thousands of rows.
    runs = [pool[start : start + total] for start, total in zip(first, totals, strict=True)]
    return strings(lengths.reshape(-1), np.concatenate(runs))


def credit_cards(bits: UInt64s) -> pa.Array:
    """Write four groups of four digits.

    Shapes: bits uint64 [n] -> string [n].
    """
    out = np.full((bits.size, 19), ord(" "), dtype=np.uint8)
    digits = _four_digits()
    for group in range(4):
        lane = (bits >> np.uint64(16 * group)) & np.uint64(0xFFFF)
        number = ((lane * np.uint64(10_000)) >> np.uint64(16)).view(np.int64)
        out[:, 5 * group : 5 * group + 4] = digits[number]
    return strings(np.full(bits.size, 19, dtype=np.int64), out.reshape(-1))


@functools.lru_cache(maxsize=8)
def words(longest: int, purpose: int, count: int = WORDS, space: str = " ") -> pa.Array:
    """Make texts of 3 to ``longest`` - 1 letters, one in 13 a space; ends are trimmed."""
    ids = np.arange(count, dtype=np.int64)
    lengths = _SHORTEST + below(random_bits(1, purpose, ids), longest - _SHORTEST)
    letters = _letters(int(lengths.sum()), purpose, space)
    return pc.utf8_trim_whitespace(strings(lengths, letters))


@functools.lru_cache(maxsize=1)
def names() -> pa.Array:
    """Every first name with every last name."""
    return pa.array([f"{first} {last}" for first in _FIRST_NAMES for last in _LAST_NAMES])


@functools.lru_cache(maxsize=1)
def emails() -> pa.Array:
    """Addresses at short names ``.com``."""
    return pc.binary_join_element_wise(words(7, 11), "@", words(5, 12), ".com", "")


@functools.lru_cache(maxsize=1)
def channels() -> pa.Array:
    """The four hot channels, then ``channel-0`` to ``channel-9999``."""
    return pa.array([*HOT_CHANNELS, *(f"channel-{number}" for number in range(CHANNELS))])


@functools.lru_cache(maxsize=1)
def urls() -> pa.Array:
    """An address for each channel; nine in ten of the ordinary ones carry a ``channel_id``."""
    count = len(HOT_CHANNELS) + CHANNELS
    ids = np.arange(count, dtype=np.int64)
    with_id = below(random_bits(1, 20, ids), 10) > 0
    with_id[: len(HOT_CHANNELS)] = False
    numbers = np.maximum(ids - len(HOT_CHANNELS), 0)
    suffix = pc.binary_join_element_wise(
        "&channel_id=", pa.array(_reversed(numbers)).cast("str"), ""
    )
    parts = [words(5, purpose, count, "_") for purpose in (21, 22, 23)]
    return pc.binary_join_element_wise(
        "https://www.nexmark.com",
        *parts,
        pc.binary_join_element_wise(
            "item.htm?query=1", pc.if_else(pa.array(with_id), suffix, ""), ""
        ),
        "/",
    )


def _reversed(numbers: Int64s) -> Int64s:
    """Give the 32 bits of each number in reverse order, as a signed number without its sign."""
    result = np.zeros_like(numbers)
    for bit in range(32):
        result |= ((numbers >> bit) & 1) << (31 - bit)
    return np.where(result >= 2**31, 2**32 - result, result)


@functools.lru_cache(maxsize=1)
def _pool() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return _letters(_POOL_BYTES + _RUN_BYTES_MAX, 30, "")


def _letters(count: int, purpose: int, space: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    bits = random_bits(1, purpose + 100, np.arange(count, dtype=np.int64))
    letters = (below(bits, 26) + ord("a")).astype(np.uint8)
    if space:
        letters[below(bits >> np.uint64(32), 13) == 0] = ord(space)
    return letters


@functools.lru_cache(maxsize=1)
def _four_digits() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    numbers = np.arange(10_000)[:, None] // np.array([1000, 100, 10, 1]) % 10
    digits: np.ndarray[tuple[int, int], np.dtype[np.uint8]] = (numbers + ord("0")).astype(np.uint8)
    return digits
