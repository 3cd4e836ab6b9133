"""Nexmark's persons, auctions and bids, a column at a time, as functions of the event's number.

Events come in epochs of 50: one person, three auctions, 46 bids. So the last person and the last
auction before an event follow from its number, and nothing needs to be remembered.

Shapes: arrays are [epochs, events of the kind in an epoch]; columns are their rows, flattened.

Source: Tucker, Tufte, Papadimos and Maier, NEXMark: A Benchmark for Queries over Data Streams,
2004, with the proportions, ratios and sizes of the Beam and Flink generators.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors import nexmark_text as text
from raystream.connectors.seeded import UInt64s, below, random_bits
from raystream.flow.batch import Int64s

EPOCH_EVENTS = 50
PERSONS, AUCTIONS, BIDS = 1, 3, 46
FIRST_OFFSET = {"person": 0, "auction": PERSONS, "bid": PERSONS + AUCTIONS}
PER_EPOCH = {"person": PERSONS, "auction": AUCTIONS, "bid": BIDS}
RUN_EPOCHS = 80
"""Epochs whose padding is one run of letters: it says what ``extra`` an event has."""

FIRST_ID = 1_000
FIRST_CATEGORY = 10
CATEGORIES = 5
HOT_BATCH = 100
HOT_AUCTION_RATIO, HOT_BIDDER_RATIO, HOT_SELLER_RATIO = 2, 4, 4
IN_FLIGHT_AUCTIONS = 100
ACTIVE_PEOPLE = 1_000
LEAD = 10
BYTES = {"person": 200, "auction": 500, "bid": 100}
BASE_TIME_US = 1_436_918_400_000_000
"""2015-07-15T00:00:00Z."""

_TIME = pa.timestamp("us", "UTC")
_HORIZON_EVENTS = IN_FLIGHT_AUCTIONS * EPOCH_EVENTS // AUCTIONS

SCHEMAS = {
    "person": pa.schema(
        [
            ("id", pa.int64()),
            ("name", pa.string()),
            ("emailAddress", pa.string()),
            ("creditCard", pa.string()),
            ("city", pa.string()),
            ("state", pa.string()),
            ("dateTime", _TIME),
            ("extra", pa.string()),
        ]
    ),
    "auction": pa.schema(
        [
            ("id", pa.int64()),
            ("itemName", pa.string()),
            ("description", pa.string()),
            ("initialBid", pa.int64()),
            ("reserve", pa.int64()),
            ("dateTime", _TIME),
            ("expires", _TIME),
            ("seller", pa.int64()),
            ("category", pa.int64()),
            ("extra", pa.string()),
        ]
    ),
    "bid": pa.schema(
        [
            ("auction", pa.int64()),
            ("bidder", pa.int64()),
            ("price", pa.int64()),
            ("channel", pa.string()),
            ("url", pa.string()),
            ("dateTime", _TIME),
            ("extra", pa.string()),
        ]
    ),
}

Columns: TypeAlias = dict[str, Callable[[], pa.Array]]


class Events:
    """The events of one kind in some blocks of epochs, and the random numbers that are theirs."""

    def __init__(self, kind: str, seed: int, rate: int, blocks: Int64s, block_epochs: int) -> None:
        assert block_epochs % RUN_EPOCHS == 0, "a block is whole runs of padding"
        self.kind = kind
        self.rate = rate
        self._seed = seed
        within = np.arange(block_epochs, dtype=np.int64)
        self.epochs = (blocks[:, None] * block_epochs + within).reshape(-1, 1)
        offsets = np.arange(PER_EPOCH[kind], dtype=np.int64)
        self.offsets = offsets
        self.ids = self.epochs * EPOCH_EVENTS + (offsets + FIRST_OFFSET[kind])
        self._bits: dict[int, UInt64s] = {}

    def bits(self, purpose: int) -> UInt64s:
        """Give 64 random bits an event, the same ones whenever asked."""
        if purpose not in self._bits:
            salt = purpose + 16 * FIRST_OFFSET[self.kind]
            self._bits[purpose] = random_bits(self._seed, salt, self.ids)
        return self._bits[purpose]

    def times(self, ahead: int = 0) -> Int64s:
        """Give the event times, or those of the events ``ahead`` of these."""
        return event_times(self.ids + ahead, self.rate)

    def padding(self, lengths: Int64s) -> pa.Array:
        """Give ``extra`` of these lengths."""
        runs = np.ascontiguousarray(self.epochs[::RUN_EPOCHS, 0]) // RUN_EPOCHS
        starts = random_bits(self._seed, 15 + FIRST_OFFSET[self.kind], runs)
        return text.padding(lengths.reshape(len(runs), -1), starts)


def event_times(ids: Int64s, rate: int) -> Int64s:
    """Give event times: ``rate`` events a second from the base time on.

    Units: microseconds since the epoch, UTC.
    """
    times: Int64s = BASE_TIME_US + ids * 1_000_000 // rate
    return times


def columns_of(events: Events) -> Columns:
    """Give, by name, the functions that make the columns."""
    return {"person": _person, "auction": _auction, "bid": _bid}[events.kind](events)


def prices(bits: UInt64s) -> Int64s:
    """Draw prices of 100 to 100,000,000 cents, as many in each decade.

    Shapes: bits uint64 [...], of which 30 count -> int64 [...].
    """
    coarse, middle, fine = _powers()
    index = bits.view(np.int64)
    price = coarse[(index >> 20) & 1023] * middle[(index >> 10) & 1023]
    price *= fine[index & 1023]
    whole: Int64s = np.rint(price).astype(np.int64)
    return whole


@functools.lru_cache(maxsize=1)
def _powers() -> tuple[npt.NDArray[np.float64], ...]:
    # 100 * 10 ** (6 u) for u of 30 bits is a product of three table values, the same everywhere.
    tables = []
    for level in (1, 2, 3):
        scale = 100.0 if level == 1 else 1.0
        powers = [scale * 10.0 ** (6.0 * step / 1024.0**level) for step in range(1024)]
        tables.append(np.array(powers))
    return tuple(tables)


def _bid(events: Events) -> Columns:
    def auction() -> pa.Array:
        last = events.epochs * AUCTIONS + (AUCTIONS - 1)
        least = np.maximum(last - IN_FLIGHT_AUCTIONS, 0)
        cold = least + below(events.bits(1) >> np.uint64(32), last - least + (1 + LEAD))
        hot = last // HOT_BATCH * HOT_BATCH
        is_hot = below(events.bits(2), HOT_AUCTION_RATIO) > 0
        return _flat(np.where(is_hot, hot, cold) + FIRST_ID)

    def bidder() -> pa.Array:
        hot = events.epochs // HOT_BATCH * HOT_BATCH + 1
        is_hot = events.bits(2) & np.uint64(3) != 0
        return _flat(np.where(is_hot, hot, _active_person(events, 1)) + FIRST_ID)

    def extra() -> pa.Array:
        # As in Nexmark, what the channel and its address take is not counted.
        known = np.full(events.ids.shape, 32, dtype=np.int64)
        return events.padding(_extra_lengths(events, known, events.bits(3) >> np.uint64(3)))

    return {
        "auction": auction,
        "bidder": bidder,
        "price": lambda: _flat(prices(events.bits(2) >> np.uint64(34))),
        "channel": lambda: text.channels().take(_channel_index(events)),
        "url": lambda: text.urls().take(_channel_index(events)),
        "dateTime": lambda: _moments(events.times()),
        "extra": extra,
    }


def _channel_index(events: Events) -> pa.Array:
    bits = events.bits(3)
    hot = (bits & np.uint64(3)).view(np.int64)
    cold = below(bits >> np.uint64(32), text.CHANNELS) + len(text.HOT_CHANNELS)
    return _flat(np.where(bits & np.uint64(4) != 0, hot, cold))


def _auction(events: Events) -> Columns:
    def initial_bid() -> Int64s:
        return prices(events.bits(2))

    def expires() -> pa.Array:
        times = events.times()
        horizon_ms = (events.times(ahead=_HORIZON_EVENTS) - times) // 1_000
        length_ms = 1 + below(events.bits(3), np.maximum(2 * horizon_ms, 1))
        return _moments(times + length_ms * 1_000)

    def seller() -> pa.Array:
        hot = events.epochs // HOT_BATCH * HOT_BATCH
        is_hot = events.bits(4) & np.uint64(HOT_SELLER_RATIO - 1) != 0
        return _flat(np.where(is_hot, hot, _active_person(events, 1)) + FIRST_ID)

    @functools.cache
    def name() -> pa.Array:
        return text.words(20, 1).take(_pick(events.bits(5), text.WORDS))

    @functools.cache
    def description() -> pa.Array:
        return text.words(100, 2).take(_pick(events.bits(5) >> np.uint64(32), text.WORDS))

    def extra() -> pa.Array:
        known = 48 + _lengths(name()) + _lengths(description())
        return events.padding(_extra_lengths(events, known.reshape(events.ids.shape)))

    return {
        "id": lambda: _flat(events.epochs * AUCTIONS + (events.offsets + FIRST_ID)),
        "itemName": name,
        "description": description,
        "initialBid": lambda: _flat(initial_bid()),
        "reserve": lambda: _flat(initial_bid() + prices(events.bits(2) >> np.uint64(30))),
        "dateTime": lambda: _moments(events.times()),
        "expires": expires,
        "seller": seller,
        "category": lambda: _flat(
            below(events.bits(4) >> np.uint64(32), CATEGORIES) + FIRST_CATEGORY
        ),
        "extra": extra,
    }


def _person(events: Events) -> Columns:
    @functools.cache
    def column(name: str) -> pa.Array:
        if name == "creditCard":
            return text.credit_cards(events.bits(2).reshape(-1))
        table, shift = {
            "name": (text.names(), 0),
            "emailAddress": (text.emails(), 32),
            "city": (text.CITIES, 0),
            "state": (text.STATES, 32),
        }[name]
        purpose = 3 if name in {"city", "state"} else 4
        return table.take(_pick(events.bits(purpose) >> np.uint64(shift), len(table)))

    def extra() -> pa.Array:
        words = ("name", "emailAddress", "creditCard", "city", "state")
        known = 8 + np.sum([_lengths(column(name)) for name in words], axis=0)
        return events.padding(_extra_lengths(events, known.reshape(events.ids.shape)))

    return {
        "id": lambda: _flat(events.epochs + FIRST_ID),
        "name": lambda: column("name"),
        "emailAddress": lambda: column("emailAddress"),
        "creditCard": lambda: column("creditCard"),
        "city": lambda: column("city"),
        "state": lambda: column("state"),
        "dateTime": lambda: _moments(events.times()),
        "extra": extra,
    }


def _active_person(events: Events, purpose: int) -> Int64s:
    people = events.epochs + 1
    active = np.minimum(people, ACTIVE_PEOPLE)
    chosen: Int64s = people - active + below(events.bits(purpose), active + LEAD)
    return chosen


def _extra_lengths(events: Events, known: Int64s, bits: UInt64s | None = None) -> Int64s:
    """Draw lengths that bring events to their size, give or take a fifth of what is missing."""
    missing = np.maximum(BYTES[events.kind] - known, 0)
    delta = (missing + 2) // 5
    drawn = events.bits(6) if bits is None else bits
    lengths: Int64s = missing - delta + below(drawn, 2 * delta)
    return lengths


def _lengths(strings: pa.Array) -> Int64s:
    lengths: Int64s = pc.binary_length(strings).to_numpy().astype(np.int64)
    return lengths


def _pick(bits: UInt64s, count: int) -> pa.Array:
    return _flat(below(bits, count))


def _flat(values: Int64s) -> pa.Array:
    return pa.array(values.reshape(-1))


def _moments(times_us: Int64s) -> pa.Array:
    return pa.array(times_us.reshape(-1)).view(_TIME)
