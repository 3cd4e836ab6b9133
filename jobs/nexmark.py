"""Nexmark: an auction house as a stream, and the questions that stream processors are measured by.

``python jobs/nexmark.py q5 --events 1000000`` generates events, asks one question and says how fast
the answer came. The queries are functions of streams: tests and benchmarks feed them from files.
"""

import argparse
import json
from decimal import Decimal

import raystream as rs

col = rs.col

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


def q12(bids: rs.Stream) -> rs.Stream:
    """Count the bids of each bidder in every ten seconds of event time."""
    return bids.key_by("bidder").window(rs.Tumbling("10s")).aggregate(bid_count=rs.count())


QUERIES = {"q0": q0, "q1": q1, "q2": q2, "q5": q5, "q7": q7, "q12": q12}


class _Forget(rs.Writer):
    def write(self, batch: rs.Batch) -> None:
        """Let go of a batch."""


class Discard(rs.Sink):
    """Takes rows and forgets them: what is measured is the query. Guarantee: none."""

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
