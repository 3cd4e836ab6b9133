"""Nexmark: an auction house as a stream, and the questions that stream processors are measured by.

``python jobs/nexmark.py q5 --events 1000000`` generates events, asks one question and says how fast
the answer came. The queries are functions of streams: tests and benchmarks feed them from files.
"""

import argparse
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

import raystream as rs

col, lit, when = rs.col, rs.lit, rs.when
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


def q5(bids: rs.Stream) -> rs.Stream:
    """Find the auctions with the most bids in the last ten seconds, every two seconds."""
    counts = bids.key_by("auction").window(rs.Sliding("10s", "2s")).aggregate(num=rs.count())
    hottest = counts.window_all(rs.Tumbling("2s")).top_k(1, by="num", ties=True)
    return hottest.select("auction", "num")


def q7(bids: rs.Stream) -> rs.Stream:
    """Find the highest bids of every ten seconds."""
    highest = bids.window_all(rs.Tumbling("10s")).top_k(1, by="price", ties=True)
    return highest.select("auction", "price", "bidder", "dateTime", "extra")


def q11(bids: rs.Stream) -> rs.Stream:
    """Count the bids of each bidder in sessions that end after ten seconds without one."""
    return bids.key_by("bidder").window(rs.Session("10s")).aggregate(bid_count=rs.count())


def q12(bids: rs.Stream) -> rs.Stream:
    """Count the bids of each bidder in every ten seconds of event time."""
    return bids.key_by("bidder").window(rs.Tumbling("10s")).aggregate(bid_count=rs.count())


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


def q18(bids: rs.Stream) -> rs.Stream:
    """Keep each bidder's last bid on each auction."""
    return bids.key_by("bidder", "auction").deduplicate(keep="last", emit="changes")


def q19(bids: rs.Stream) -> rs.Stream:
    """Keep the ten highest bids of each auction."""
    return bids.key_by("auction").top_k(10, by="price", rank="rank_number", emit="changes")


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


QUERIES = {
    query.__name__: query for query in (q0, q1, q2, q5, q7, q11, q12, q14, q18, q19, q21, q22)
}


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
    """Run one query on generated events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("query", choices=QUERIES)
    parser.add_argument("--events", type=int, default=1_000_000, help="of all kinds")
    parser.add_argument("--rate", type=int, default=10_000, help="events a second of event time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    job = rs.Job(f"nexmark-{args.query}")
    source = rs.NexmarkSource(args.events, rate=args.rate, seed=args.seed, kind="bid")
    bids = job.source(source, watermark=WATERMARK).named("bid")
    QUERIES[args.query](bids).sink(Discard()).named("discard")
    result = job.run()

    speed = result.records_in / result.duration_s
    if args.json:
        figures = {"query": args.query, "bids": result.records_in, "rows": result.records_out}
        print(json.dumps(figures | {"seconds": result.duration_s, "bids_per_s": speed}))
    else:
        print(
            f"{args.query}: {result.records_in:,} bids in, {result.records_out:,} rows out in "
            f"{result.duration_s:.2f} s: {speed:,.0f} bids/s"
        )


if __name__ == "__main__":
    main()
