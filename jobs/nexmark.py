"""Nexmark: an auction house as a stream, and the questions that stream processors are measured by.

``python jobs/nexmark.py q5 --events 1000000`` generates events, asks one question and says how fast
the answer came. The queries are functions of streams: ``ask`` gives each the ones that it names.
"""

import argparse
import inspect
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import raystream as rs

col, lit, when = rs.col, rs.lit, rs.when
day = col("dateTime").dt.to_string("%Y-%m-%d")
minute = col("dateTime").dt.to_string("%H:%M")
hour = col("dateTime").dt.hour()

WATERMARK = rs.WatermarkStrategy("dateTime", out_of_orderness="4s")


def q0(bids: rs.Stream) -> rs.Stream:
    """Pass every bid on."""
    return bids.select("auction", "bidder", "price", "dateTime", "extra")


def q1(bids: rs.Stream) -> rs.Stream:
    """Convert each price from dollars to euros."""
    return q0(bids).with_columns(price=col("price") * Decimal("0.908"))


def q2(bids: rs.Stream) -> rs.Stream:
    """Keep the bids on some auctions."""
    return bids.filter(col("auction") % 123 == 0).select("auction", "price")


def q3(persons: rs.Stream, auctions: rs.Stream) -> rs.Stream:
    """Find who sells in one category and lives in one of three states."""
    near = persons.filter(col("state").is_in(["OR", "ID", "CA"]))
    offers = auctions.filter(col("category") == 10)
    sellers = offers.join(near, left_on="seller", right_on="id", ttl="forever")
    return sellers.select("name", "city", "state", "id")


def valid_bids(auctions: rs.Stream, bids: rs.Stream) -> rs.Stream:
    """Put beside each auction the bids that came while it was open."""
    all_bids = auctions.join(bids, left_on="id", right_on="auction", ttl="forever")
    return all_bids.filter(col("dateTime_right").is_between(col("dateTime"), col("expires")))


def q4(auctions: rs.Stream, bids: rs.Stream) -> rs.Stream:
    """Keep the mean of the highest bids of all auctions of each category."""
    valid = valid_bids(auctions, bids).key_by("id", "category")
    finals = valid.aggregate(final=rs.max("price"), emit="changes")
    return finals.key_by("category").aggregate(avg=rs.mean("final"), emit="changes")


def q5(bids: rs.Stream) -> rs.Stream:
    """Find the auctions with the most bids in the last ten seconds, every two seconds."""
    counts = bids.key_by("auction").window(rs.Sliding("10s", "2s")).aggregate(num=rs.count())
    hottest = counts.window_all(rs.Tumbling("2s")).top_k(1, by="num", ties=True)
    return hottest.select("auction", "num")


class Winner(rs.CoProcessFunction):
    """Give the winning bid of an auction, once, when event time has passed its end."""

    def open(self, ctx: Any) -> None:
        """Say what is kept of an auction."""
        self.auction = ctx.state(rs.ValueState("auction"))
        self.bids = ctx.state(rs.ListState("bids"))

    def process_left(self, auction: dict[str, Any], ctx: Any) -> None:
        """Wait for the end of an auction."""
        self.auction.update(auction)
        ctx.timers.register_event_time(rs.micros(auction["expires"]))

    def process_right(self, bid: dict[str, Any], ctx: Any) -> None:
        """Keep a bid, which may come before its auction."""
        self.bids.add(bid)
        ctx.timers.register_event_time(rs.micros(bid["dateTime"]))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[dict[str, Any]]:
        """Close an auction that is over; every row up to ``timestamp`` is here."""
        auction = self.auction.value()
        if auction is None:  # over, or not open yet: no bid up to now counts
            later = [bid for bid in self.bids.get() if rs.micros(bid["dateTime"]) > timestamp]
            self.bids.update(later)
        elif timestamp >= rs.micros(auction["expires"]):
            first, last = auction["dateTime"], auction["expires"]
            valid = [bid for bid in self.bids.get() if first <= bid["dateTime"] <= last]
            if valid:
                best = min(valid, key=lambda bid: (-bid["price"], bid["dateTime"]))
                yield {"seller": auction["seller"], "final": best["price"]}
            self.auction.clear()
            self.bids.clear()


def won(auctions: rs.Stream, bids: rs.Stream) -> rs.Stream:
    """Give the price of each auction that found a buyer."""
    sold = pa.schema({"seller": pa.int64(), "final": pa.int64()})
    both = auctions.key_by("id").connect(bids.key_by("auction"))
    return both.process(Winner(), schema=sold)


def q6(auctions: rs.Stream, bids: rs.Stream) -> rs.Stream:
    """Give the mean price of each seller's last ten auctions, in order of arrival."""
    last = won(auctions, bids).key_by("seller").window(rs.SlidingCount(10, 1))
    return last.aggregate(avg=rs.mean("final"))


def q6_ordered(auctions: rs.Stream, bids: rs.Stream) -> rs.Stream:
    """Give it in event time: the same rows at any parallelism."""
    return won(auctions, bids).key_by("seller").aggregate(over=10, avg=rs.mean("final"))


def q7(bids: rs.Stream) -> rs.Stream:
    """Find the highest bids of every ten seconds."""
    highest = bids.window_all(rs.Tumbling("10s")).top_k(1, by="price", ties=True)
    return highest.select("auction", "price", "bidder", "dateTime", "extra")


def q8(persons: rs.Stream, auctions: rs.Stream) -> rs.Stream:
    """Find who opened an auction in the ten seconds in which they registered."""
    ten = rs.Tumbling("10s")
    sellers = persons.join(auctions, left_on="id", right_on="seller", window=ten, how="semi")
    return sellers.select("id", "name", starttime=rs.event_time().dt.truncate("10s"))


def q9(auctions: rs.Stream, bids: rs.Stream) -> rs.Stream:
    """Keep the winning bid of each auction."""
    valid = valid_bids(auctions, bids).key_by("id")
    best = ["price", "dateTime_right"]
    return valid.top_k(1, by=best, descending=[True, False], emit="changes")


def q10(bids: rs.Stream) -> rs.Stream:
    """Give each bid the day and the minute that name its file."""
    return q0(bids).with_columns(dt=day, hm=minute)


def q11(bids: rs.Stream) -> rs.Stream:
    """Count the bids of each bidder in sessions that end after ten seconds without one."""
    return bids.key_by("bidder").window(rs.Session("10s")).aggregate(bid_count=rs.count())


def q12(bids: rs.Stream) -> rs.Stream:
    """Count the bids of each bidder in every ten seconds of the clock on the wall."""
    ten = rs.Tumbling("10s", time="processing")
    return bids.key_by("bidder").window(ten).aggregate(bid_count=rs.count())


def q12_event(bids: rs.Stream) -> rs.Stream:
    """Count them in event time: the same rows however fast they are read."""
    return bids.key_by("bidder").window(rs.Tumbling("10s")).aggregate(bid_count=rs.count())


def q13(bids: rs.Stream) -> rs.Stream:
    """Put beside each bid what a table says of its auction."""
    values = [f"value-{number}" for number in range(10_000)]
    side = pa.table({"key": range(10_000), "value": values})
    told = bids.with_columns(key=col("auction") % 10_000).join(side, on="key")
    return told.select("auction", "bidder", "price", "dateTime", "value")


def q14(bids: rs.Stream) -> rs.Stream:
    """Sort dear bids by the time of day, and count the letters c in what they say."""
    part = (
        when(hour.is_between(8, 18))
        .then(lit("dayTime"))
        .when((hour <= 6) | (hour >= 20))
        .then(lit("nightTime"))
        .otherwise(lit("otherTime"))
    )
    dear = q1(bids).filter((col("price") > 1_000_000) & (col("price") < 50_000_000))
    dear = dear.with_columns(bidTimeType=part)
    return dear.map_batches(count_c, schema=dear.schema.append(pa.field("c_counts", pa.int32())))


def count_c(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Count the letters c of a batch."""
    return batch.append_column("c_counts", pc.count_substring(batch["extra"], "c"))


RANKS = {
    "rank1": col("price") < 10_000,
    "rank2": col("price").is_between(10_000, 1_000_000, closed="left"),
    "rank3": col("price") >= 1_000_000,
}


def ranked(name: str, aggregate: Any) -> dict[str, Any]:
    """Compute an aggregate of all bids, and of those of each rank of price."""
    ranks = {f"{rank}_{name}": aggregate.where(price) for rank, price in RANKS.items()}
    return {f"total_{name}": aggregate} | ranks


TOTALS = ranked("bids", rs.count())
DISTINCT = ranked("bidders", rs.count_distinct("bidder")) | ranked(
    "auctions", rs.count_distinct("auction")
)


def q15(bids: rs.Stream) -> rs.Stream:
    """Count the bids, bidders and auctions of each day, by ranks of price."""
    return bids.key_by(day=day).aggregate(emit="changes", **TOTALS, **DISTINCT)


def q16(bids: rs.Stream) -> rs.Stream:
    """Count them for each channel and day, and tell the last minute that had a bid."""
    last = rs.max(minute)
    channels = bids.key_by("channel", day=day)
    return channels.aggregate(emit="changes", minute=last, **TOTALS, **DISTINCT)


def q17(bids: rs.Stream) -> rs.Stream:
    """Sum up the bids on each auction and day."""
    price = {
        "min_price": rs.min("price"),
        "max_price": rs.max("price"),
        "avg_price": rs.mean("price"),
        "sum_price": rs.sum("price"),
    }
    return bids.key_by("auction", day=day).aggregate(emit="changes", **TOTALS, **price)


def q18(bids: rs.Stream) -> rs.Stream:
    """Keep each bidder's last bid on each auction."""
    return bids.key_by("bidder", "auction").deduplicate(keep="last", emit="changes")


def q19(bids: rs.Stream) -> rs.Stream:
    """Keep the ten highest bids of each auction."""
    return bids.key_by("auction").top_k(10, by="price", rank="rank_number", emit="changes")


def q20(bids: rs.Stream, auctions: rs.Stream) -> rs.Stream:
    """Put beside each bid its auction, of one category."""
    offers = auctions.filter(col("category") == 10)
    offers = offers.rename({"dateTime": "AdateTime", "extra": "Aextra"})
    return bids.join(offers, left_on="auction", right_on="id", ttl="forever")


def q21(bids: rs.Stream) -> rs.Stream:
    """Give each bid the id of its channel, by its name or out of its url."""
    pattern = r"^(?:.*?&)?channel_id=([^&]*).*$"  # the whole string: what is left is the group
    found = col("url").str.contains(pattern)
    url_id = when(found).then(col("url").str.replace_all(pattern, r"\1"))
    channel_id = (
        col("channel")
        .str.to_lowercase()
        .replace_strict(
            ["apple", "google", "facebook", "baidu"], ["0", "1", "2", "3"], default=url_id
        )
    )
    named = bids.select("auction", "bidder", "price", "channel", channel_id=channel_id)
    return named.filter(~col("channel_id").is_null())


def q22(bids: rs.Stream) -> rs.Stream:
    """Give each bid the first three directories of its url."""
    five = bids.select("auction", "bidder", "price", "channel", "url")
    dirs = [pa.field(f"dir{i}", pa.string()) for i in (1, 2, 3)]
    return five.map_batches(directories, schema=pa.schema([*five.schema, *dirs])).drop("url")


def directories(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Split the urls of a batch; a short one gives nulls."""
    split = pc.split_pattern(batch["url"], "/")
    parts = pc.list_slice(split, 3, 6, return_fixed_size_list=True)
    for i in range(3):
        batch = batch.append_column(f"dir{i + 1}", pc.list_element(parts, i))
    return batch


QUERIES: dict[str, Callable[..., rs.Stream]] = {
    name: query for name, query in list(globals().items()) if name[0] == "q" and name[1].isdigit()
}


def kinds(query: str) -> list[str]:
    """Give the kinds of events that a query asks about."""
    return [name.removesuffix("s") for name in inspect.signature(QUERIES[query]).parameters]


def ask(query: str, read: Callable[[str], rs.Stream]) -> rs.Stream:
    """Ask a question of the streams that ``read`` gives for a kind of events."""
    return QUERIES[query](*(read(kind) for kind in kinds(query)))


class _Forget(rs.Writer):
    def write(self, batch: rs.Batch) -> None:
        """Let go of a batch."""


class Discard(rs.Sink):
    """Takes rows and forgets them: what is measured is the query. Guarantee: none."""

    upserts = True

    def open(self, ctx: object) -> rs.Writer:
        """Make a writer that writes nowhere."""
        return _Forget()


def main() -> None:
    """Run one query, on generated events or on files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("query", choices=QUERIES)
    parser.add_argument("--events", type=int, default=1_000_000, help="of all kinds")
    parser.add_argument("--rate", type=int, default=10_000, help="events a second of event time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", help="a folder of persons, auctions and bids, as *.parquet")
    parser.add_argument("--out", default="out/q10", help="the folder that q10 writes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    job = rs.Job(f"nexmark-{args.query}")

    def read(kind: str) -> rs.Stream:
        source: rs.Source = rs.NexmarkSource(args.events, rate=args.rate, seed=args.seed, kind=kind)
        if args.files:
            source = rs.FileSource(f"{args.files}/{kind}s.parquet")
        return job.source(source, watermark=WATERMARK).named(kind)

    sink: rs.Sink = Discard()
    if args.query == "q10":
        sink = rs.FileSink(args.out, "csv", partition_by=["dt", "hm"])
    ask(args.query, read).sink(sink).named("out")
    result = job.run()

    speed = result.records_in / result.duration_s
    if args.json:
        figures = {"query": args.query, "events": result.records_in, "rows": result.records_out}
        print(json.dumps(figures | {"seconds": result.duration_s, "events_per_s": speed}))
    else:
        print(
            f"{args.query}: {result.records_in:,} events in, {result.records_out:,} rows out in "
            f"{result.duration_s:.2f} s: {speed:,.0f} events/s"
        )


if __name__ == "__main__":
    main()
