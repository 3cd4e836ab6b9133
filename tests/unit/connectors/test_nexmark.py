"""Nexmark's events: their proportions, hot keys, sizes, and that a seed says all."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import pyarrow as pa
import pytest

from raystream.connectors.nexmark import NexmarkSource
from raystream.contracts.source import END
from raystream.errors import PlanError
from raystream.flow.time import micros

BASE_US = 1_436_918_400_000_000
EVENTS = 20_000


def read(source, max_rows=32_768):
    """All rows, in order of the events."""
    tables = []
    for split in source.splits():
        reader = source.open(split, None)
        while (batch := reader.poll(max_rows)) is not END:
            tables.append(batch)
    return pa.Table.from_batches(tables, source.schema)


def test_one_person_three_auctions_and_46_bids_make_an_epoch():
    kinds = read(NexmarkSource(130, seed=3)).column("event_type").to_pylist()
    epoch = [0, 1, 1, 1] + [2] * 46
    assert kinds == (epoch * 3)[:130]


@pytest.mark.parametrize(
    ("events", "persons", "auctions", "bids"),
    [(0, 0, 0, 0), (1, 1, 0, 0), (3, 1, 2, 0), (50, 1, 3, 46), (4_000, 80, 240, 3_680)],
)
def test_events_of_all_kinds_are_counted_and_one_is_kept(events, persons, auctions, bids):
    counts = [read(NexmarkSource(events, kind=kind)).num_rows for kind in ("person", "auction")]
    assert [*counts, read(NexmarkSource(events, kind="bid")).num_rows] == [persons, auctions, bids]
    assert read(NexmarkSource(events)).num_rows == events


def test_the_three_kinds_are_the_structs_of_the_whole():
    whole = read(NexmarkSource(5_130, seed=7)).combine_chunks()
    for number, kind in enumerate(("person", "auction", "bid")):
        alone = read(NexmarkSource(5_130, seed=7, kind=kind))
        column = whole.column(kind).combine_chunks()
        assert column.drop_null().to_pylist() == alone.to_pylist()
        present = [row is not None for row in column.to_pylist()]
        assert present == [t == number for t in whole.column("event_type").to_pylist()]


def test_splits_share_the_time_and_lose_nothing():
    source = NexmarkSource(300_000, rate=1_000, kind="bid").project(["dateTime", "price"])
    splits = source.splits()
    assert [split.id for split in splits] == [f"{i}-of-{len(splits)}" for i in range(len(splits))]
    assert len(splits) > 1
    spans = []
    for split in splits:
        reader = source.open(split, None)
        first = reader.poll(1).to_pylist()[0]["dateTime"]
        assert micros(first) == split.earliest["dateTime"]
        spans.append(first)
    assert timedelta(0) < max(spans) - min(spans) < timedelta(seconds=300)
    times = sorted(read(source).column("dateTime").cast(pa.int64()).to_pylist())
    assert len(times) == 300_000 // 50 * 46
    assert times == [BASE_US + i * 1_000 for i in range(300_000) if i % 50 >= 4]


def test_event_time_goes_by_the_rate():
    for rate in (1, 3, 1_000, 7_000_000):
        times = read(NexmarkSource(200, rate=rate, kind="person")).column("dateTime")
        expected = [BASE_US + i * 1_000_000 // rate for i in range(0, 200, 50)]
        assert times.cast(pa.int64()).to_pylist() == expected


def test_half_of_the_bids_go_to_the_hot_auction_and_the_rest_to_those_in_flight():
    bids = read(NexmarkSource(EVENTS, kind="bid", seed=5)).to_pylist()
    hot = 0
    for row, bid in enumerate(bids):
        last = row // 46 * 3 + 2
        base = bid["auction"] - 1000
        hot += base == last // 100 * 100
        assert max(last - 100, 0) <= base <= last + 10 or base == last // 100 * 100
    assert 0.48 < hot / len(bids) < 0.53


def test_three_quarters_of_the_bids_come_from_the_hot_bidder():
    bids = read(NexmarkSource(EVENTS, kind="bid", seed=5)).to_pylist()
    hot = 0
    for row, bid in enumerate(bids):
        people = row // 46 + 1
        base = bid["bidder"] - 1000
        hot_bidder = (people - 1) // 100 * 100 + 1
        hot += base == hot_bidder
        assert max(people - 1000, 0) <= base < people + 10 or base == hot_bidder
    assert 0.73 < hot / len(bids) < 0.78


def test_prices_are_spread_over_six_decades_and_know_nothing_of_the_auction():
    bids = read(NexmarkSource(100_000, kind="bid", seed=1).project(["price", "auction"]))
    prices = bids.column("price").to_pylist()
    assert min(prices) >= 100
    assert max(prices) <= 100_000_000
    decades = Counter(len(str(price)) for price in prices)
    assert all(0.15 < decades[d] / len(prices) < 0.185 for d in range(3, 9))
    assert len(set(prices)) > 60_000
    most = Counter(bids.column("auction").to_pylist()).most_common(1)[0][0]
    of_hot = [row["price"] for row in bids.to_pylist() if row["auction"] == most]
    assert 0.4 < sum(price < 100_000 for price in of_hot) / len(of_hot) < 0.6


def test_bids_have_the_channels_and_addresses_of_nexmark():
    bids = read(NexmarkSource(EVENTS, kind="bid", seed=2)).to_pylist()
    channels = Counter(bid["channel"] for bid in bids)
    hot = [channels[name] / len(bids) for name in ("Google", "Facebook", "Baidu", "Apple")]
    assert all(0.11 < share < 0.14 for share in hot)
    cold = [bid for bid in bids if bid["channel"].startswith("channel-")]
    assert sum(hot) + len(cold) / len(bids) == pytest.approx(1)
    address = re.compile(
        r"https://www\.nexmark\.com/[a-z_]{3,4}/[a-z_]{3,4}/[a-z_]{3,4}"
        r"/item\.htm\?query=1(&channel_id=(\d+))?"
    )
    found = [(bid["channel"], address.fullmatch(bid["url"])) for bid in bids]
    assert all(match for _, match in found)
    with_id = [(name, match[2]) for name, match in found if match[2]]
    assert 0.88 < len(with_id) / len(cold) < 0.92
    for name, channel_id in with_id[:50]:
        number = int(f"{int(name.removeprefix('channel-')):032b}"[::-1], 2)
        assert int(channel_id) == (number if number < 2**31 else 2**32 - number)


def test_auctions_have_the_columns_of_nexmark():
    auctions = read(NexmarkSource(EVENTS, rate=1_000, kind="auction", seed=2)).to_pylist()
    assert [row["id"] for row in auctions] == list(range(1000, 1000 + len(auctions)))
    assert {row["category"] for row in auctions} == {10, 11, 12, 13, 14}
    assert all(row["reserve"] >= row["initialBid"] + 100 for row in auctions)
    assert all(len(row["description"]) < 100 for row in auctions)
    hot = 0
    for row, auction in enumerate(auctions):
        people = row // 3 + 1
        base = auction["seller"] - 1000
        hot += base == (people - 1) // 100 * 100
        assert base < people + 10
    assert 0.7 < hot / len(auctions) < 0.8
    lengths = [row["expires"] - row["dateTime"] for row in auctions]
    assert min(lengths) >= timedelta(milliseconds=1)
    assert max(lengths) <= timedelta(milliseconds=2 * 1_666)
    mean = sum(lengths, timedelta()) / len(lengths)
    assert timedelta(seconds=1.5) < mean < timedelta(seconds=1.8)


def test_persons_have_the_columns_of_nexmark():
    persons = read(NexmarkSource(EVENTS, kind="person", seed=2)).to_pylist()
    assert [row["id"] for row in persons] == list(range(1000, 1000 + len(persons)))
    assert {row["state"] for row in persons} == {"AZ", "CA", "ID", "OR", "WA", "WY"}
    assert len({row["city"] for row in persons}) == 10
    assert len({row["name"] for row in persons}) > 90
    assert all(re.fullmatch(r"(\d{4} ){3}\d{4}", row["creditCard"]) for row in persons)
    assert all(re.fullmatch(r"[a-z ]*@[a-z ]*\.com", row["emailAddress"]) for row in persons)


@pytest.mark.parametrize(("kind", "size", "times"), [("person", 200, 1), ("auction", 500, 3)])
def test_persons_and_auctions_have_the_sizes_of_nexmark(kind, size, times):
    data = read(NexmarkSource(50_000, kind=kind, seed=2))
    numbers = sum(8 for field in data.schema if field.type == pa.int64())
    texts = [f.name for f in data.schema if f.type == pa.string()]
    chars = sum(len(row[name]) for row in data.to_pylist() for name in texts)
    # Nexmark counts one time less than there are.
    assert size * 0.97 < chars / len(data) + numbers + 8 * (times == 3) < size * 1.03


def test_a_bid_has_about_a_hundred_bytes_without_its_address():
    extra = read(NexmarkSource(50_000, kind="bid", seed=2).project(["extra"])).column("extra")
    sizes = [len(text) + 32 for text in extra.to_pylist()]
    assert 98 < sum(sizes) / len(sizes) < 102
    assert min(sizes) == 86
    assert max(sizes) == 113
    assert len(set(extra.to_pylist())) > 0.99 * len(sizes)


def test_another_seed_gives_other_events_of_the_same_times():
    one, two = (read(NexmarkSource(1_000, kind="bid", seed=seed)) for seed in (1, 2))
    assert one.column("dateTime") == two.column("dateTime")
    same = sum(
        a == b for a, b in zip(one["price"].to_pylist(), two["price"].to_pylist(), strict=True)
    )
    assert same < 5


def test_events_are_the_same_in_every_version_and_on_every_machine():
    bid = read(NexmarkSource(50, kind="bid", seed=1)).to_pylist()[0]
    auction = read(NexmarkSource(50, kind="auction", seed=1)).to_pylist()[0]
    person = read(NexmarkSource(50, kind="person", seed=1)).to_pylist()[0]
    assert [bid[name] for name in ("auction", "bidder", "price", "channel")] == GOLDEN_BID
    assert [auction[name] for name in ("itemName", "initialBid", "seller")] == GOLDEN_AUCTION
    assert [person[name] for name in ("name", "creditCard", "state")] == GOLDEN_PERSON
    later = NexmarkSource(50_000, kind="bid", seed=1).project(["extra"])
    assert read(later).column("extra")[40_000].as_py().startswith(GOLDEN_EXTRA)


GOLDEN_BID = [1001, 1001, 51815770, "Facebook"]
GOLDEN_EXTRA = "xwakujjdbxhnvddiqrcsbmrqgdnkf"
GOLDEN_AUCTION = ["ogncy", 996497, 1000]
GOLDEN_PERSON = ["Luke Smith", "7828 0410 9564 5826", "WA"]


def test_projection_makes_only_those_columns():
    source = NexmarkSource(1_000, kind="bid").project(["price", "auction"])
    assert source.schema.names == ["auction", "price"]
    whole = read(NexmarkSource(1_000, kind="bid"))
    assert read(source) == whole.select(["auction", "price"])
    assert source.project([]).schema.names == ["auction"]
    assert "[auction, price]" in source.describe()
    kinds = NexmarkSource(1_000).project(["event_type"])
    assert read(kinds).schema.names == ["event_type"]


def test_what_cannot_be_is_refused():
    with pytest.raises(PlanError, match="events must be 0 to"):
        NexmarkSource(-1)
    with pytest.raises(PlanError, match="rate must be at least 1"):
        NexmarkSource(10, rate=0)
    with pytest.raises(PlanError, match="got 'bids'"):
        NexmarkSource(10, kind="bids")
