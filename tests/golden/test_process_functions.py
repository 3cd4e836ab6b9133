"""Whole jobs of process functions, beside the same thing computed without any stream.

A card that is charged a little and then a lot; payments that leave a user's total above a limit of
a rule that has come; the winning bids of Nexmark's auctions.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.graph.planner import physical_plan
from raystream.runtime import local

T, S = rs.testing, rs.micros("1s")
CHARGES = pa.schema([("card", pa.int64()), ("amount", pa.float64())])


class Fraud(rs.KeyedProcessFunction):
    """A charge above 500 directly after one below 1, within a minute."""

    def open(self, ctx):
        self.until = ctx.state(rs.ValueState("until", type=pa.int64()))

    def process(self, charge, ctx):
        if (until := self.until.value()) is not None:
            if charge["amount"] > 500 and ctx.timestamp <= until:
                yield {"card": ctx.key, "amount": charge["amount"]}
            ctx.timers.delete_event_time(until)
            self.until.clear()
        if charge["amount"] < 1:
            self.until.update(ctx.timestamp + rs.micros("1m"))
            ctx.timers.register_event_time(ctx.timestamp + rs.micros("1m"))

    def on_timer(self, timestamp, ctx):
        self.until.clear()


def fraud(charges):
    return charges.key_by("card").process(Fraud(), schema=CHARGES).uid("fraud")


class Rules(rs.BroadcastProcessFunction):
    """A payment that leaves its user's total above the limit of a rule that has come."""

    def open(self, ctx):
        self.rules = ctx.state(rs.BroadcastState("rules"))
        self.total = ctx.state(rs.ValueState("total", type=pa.float64(), default=0.0))

    def process_broadcast(self, rule, ctx):
        self.rules.put(rule["id"], rule["limit"])

    def process(self, payment, ctx):
        self.total.update(self.total.value() + payment["amount"])
        for rule, limit in self.rules.items():
            if self.total.value() > limit:
                yield {"user": ctx.key, "rule": rule, "total": self.total.value()}


def watch(payments, rules):
    return payments.key_by("user").connect(rules.broadcast()).process(Rules()).uid("rules")


class Winner(rs.CoProcessFunction):
    """Give the winning bid of an auction, once, when event time has passed its end."""

    def open(self, ctx):
        self.auction = ctx.state(rs.ValueState("auction"))
        self.bids = ctx.state(rs.ListState("bids"))

    def process_left(self, auction, ctx):
        self.auction.update(auction)
        ctx.timers.register_event_time(rs.micros(auction["expires"]))

    def process_right(self, bid, ctx):  # may come before its auction
        self.bids.add(bid)
        ctx.timers.register_event_time(rs.micros(bid["dateTime"]))

    def on_timer(self, timestamp, ctx):  # every row up to `timestamp` is here
        if (auction := self.auction.value()) is None:
            self.bids.update(b for b in self.bids.get() if rs.micros(b["dateTime"]) > timestamp)
        elif timestamp >= rs.micros(auction["expires"]):
            opened, closed = auction["dateTime"], auction["expires"]
            if valid := [b for b in self.bids.get() if opened <= b["dateTime"] <= closed]:
                best = min(valid, key=lambda bid: (-bid["price"], bid["dateTime"]))
                yield {"seller": auction["seller"], "final": best["price"]}
            self.auction.clear()
            self.bids.clear()


SOLD = pa.schema({"seller": pa.int64(), "final": pa.int64()})


def ran(job: rs.Job, stream: rs.Stream, seed: int) -> list[Any]:
    """Run a stream by a seed, on a clock that stands still unless the job waits for it."""
    sink, clock = rs.MemorySink(), ManualClock()
    stream.sink(sink)
    local.run(
        physical_plan(job._draft.plan()),
        rng=random.Random(seed),
        clock=clock,
        sleep=lambda seconds: clock.advance(int(seconds * 1e6)),
    )
    return sink.rows


def charges(seed: int) -> tuple[list[dict[str, Any]], list[int]]:
    rng = random.Random(seed)
    times = sorted(rng.randrange(600) * S for _ in range(400))
    rows = [
        {"card": rng.randrange(8), "amount": rng.choice([0.5, 0.9, 20.0, 600.0])} for _ in times
    ]
    return rows, times


@pytest.mark.parametrize("parallelism", [1, 2])
def test_fraud_is_found_as_in_one_pass_over_each_card(parallelism):
    rows, times = charges(5)
    expected, small = [], {}
    for row, time in zip(rows, times, strict=True):
        before = small.pop(row["card"], None)
        if before is not None and row["amount"] > 500 and time <= before + 60 * S:
            expected.append(row)
        if row["amount"] < 1:
            small[row["card"]] = time
    job = rs.Job("fraud", parallelism=parallelism)
    found = fraud(job.from_items(rows, schema=CHARGES, timestamps=times))
    assert found.schema == CHARGES
    got = ran(job, found, seed=1)
    assert expected
    assert Counter(map(str, got)) == Counter(map(str, expected))


def test_fraud_forgets_after_a_minute_and_remembers_over_a_restore():
    small, large = {"card": 1, "amount": 0.5}, {"card": 1, "amount": 600.0}
    before, after = T.harness(Fraud(), keyed_by="card"), T.harness(Fraud(), keyed_by="card")
    before.push(small, ts=0)
    before.watermark(60 * S)
    assert before.push(large, ts=61 * S) == []
    before.push(small, ts=70 * S)
    after.restore(before.snapshot())
    assert after.push(large, ts=71 * S) == [large]
    assert after.state("until") == {}


def test_a_rule_is_watched_from_when_it_has_come():
    payment = {"user": "ann", "amount": 60.0}
    it = T.harness(Rules(), keyed_by="user")
    assert it.push(payment) == []
    it.push({"id": "r", "limit": 100.0}, to="broadcast")
    assert it.push(payment) == [{"user": "ann", "rule": "r", "total": 120.0}]
    assert it.push({**payment, "user": "bob"}) == []
    assert it.state("total") == {"ann": 120.0, "bob": 60.0}
    assert it.state("rules") == {"r": 100.0}


def test_whenever_a_rule_comes_it_is_watched_from_then_on_in_every_subtask():
    assert sum(told_by(seed) for seed in range(12)) > 100


def told_by(seed: int) -> int:
    """Run payments and rules by a seed, and count what the rules tell; each tells all or a tail."""
    rng = random.Random(seed)
    payments = [{"user": rng.randrange(6), "amount": float(rng.randrange(9))} for _ in range(100)]
    limits = [{"id": number, "limit": 20.0 * number} for number in range(3)]
    schema = pa.schema([("user", pa.int64()), ("amount", pa.float64())])
    # Small batches: rules come between two of them.
    job = rs.Job("rules", parallelism=2, config={"batch_rows_max": 8, "row_batch_rows_max": 8})
    rows = ran(job, watch(job.from_items(payments, schema=schema), job.from_items(limits)), seed)
    told: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        told.setdefault((row["user"], row["rule"]), []).append(row["total"])
    for user in range(6):
        sums, total = [], 0.0
        for payment in payments:
            if payment["user"] == user:
                total += payment["amount"]
                sums.append(total)
        for rule in range(3):
            above = [one for one in sums if one > 20.0 * rule]
            mine = told.get((user, rule), [])
            assert mine == above[len(above) - len(mine) :]
    return len(rows)


@pytest.mark.parametrize(("parallelism", "seed"), [(1, 1), (2, 2), (2, 3)])
def test_winning_bids_are_those_of_a_look_at_all_bids(parallelism, seed):
    events = 2_000
    job = rs.Job("nexmark", parallelism=parallelism)
    late = rs.WatermarkStrategy("dateTime", out_of_orderness="4s")
    auctions, bids = (
        job.source(rs.NexmarkSource(events, rate=100, seed=1, kind=kind), watermark=late)
        for kind in ("auction", "bid")
    )
    all_auctions, all_bids = auctions.collect(), bids.collect()
    won = auctions.key_by("id").connect(bids.key_by("auction")).process(Winner(), schema=SOLD)
    got = ran(job, won, seed)
    offers: dict[int, list[Any]] = {}
    for bid in all_bids:
        offers.setdefault(bid["auction"], []).append(bid)
    expected = []
    for auction in all_auctions:
        valid = [
            bid
            for bid in offers.get(auction["id"], ())
            if auction["dateTime"] <= bid["dateTime"] <= auction["expires"]
        ]
        if valid:
            best = min(valid, key=lambda bid: (-bid["price"], bid["dateTime"]))
            expected.append({"seller": auction["seller"], "final": best["price"]})
    assert len(expected) > 20
    assert Counter(map(str, got)) == Counter(map(str, expected))
