"""Find stolen cards as they are used: a charge above 500 directly after one below 1, in a minute.

``python jobs/fraud_alerts.py`` makes up charges and prints the cards to look at, without a server.
With ``--kafka HOST:PORT`` (or ``KAFKA_SERVERS``) charges come out of one topic and alerts go to
another, each once, whatever dies in between. This starts a broker, fills the topic and watches it
until it is interrupted::

    python tests/services/servers.py kafka -- python jobs/fraud_alerts.py --made-up

A broker that wants a password gets that of ``KAFKA_PASSWORD``, for the user named by ``--user``.
"""

import argparse
import os
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

import raystream as rs
from raystream.connectors import kafka

CHARGE = pa.schema([("card", pa.int64()), ("amount", pa.float64()), ("time", pa.int64())])
ALERT = pa.schema([("card", pa.int64()), ("amount", pa.float64())])
SMALL, LARGE = 1.0, 500.0
MEMORY = rs.micros("1m")


def charge(number: int) -> dict[str, Any]:
    """Make up a charge: a second apart on average, up to five seconds out of order."""
    rng = random.Random(number)  # noqa: S311  the same charges every time
    amount = rng.choice([rng.uniform(0.1, 0.9), rng.uniform(2, 200), rng.uniform(501, 2_000)])
    seconds = number + rng.uniform(-2.5, 2.5)
    time = rs.micros("2d") + round(seconds * 1_000_000)
    return {"card": rng.randrange(50), "amount": round(amount, 2), "time": time}


class Fraud(rs.KeyedProcessFunction):
    """Remember a small charge of a card for a minute; a large one in that time is an alert."""

    def open(self, ctx: rs.OpenContext) -> None:
        """Take the state: until when the last small charge counts."""
        self.until = ctx.state(rs.ValueState("until", type=pa.int64()))

    def process(self, charge: dict[str, Any], ctx: Any) -> Iterator[dict[str, Any]]:
        """Look at a charge, which is the one directly after the last."""
        if (until := self.until.value()) is not None:
            if charge["amount"] > LARGE and ctx.timestamp <= until:
                yield {"card": ctx.key, "amount": charge["amount"]}
            ctx.timers.delete_event_time(until)
            self.until.clear()
        if charge["amount"] < SMALL:
            self.until.update(ctx.timestamp + MEMORY)
            ctx.timers.register_event_time(ctx.timestamp + MEMORY)

    def on_timer(self, timestamp: int, ctx: Any) -> None:
        """Forget the small charge."""
        self.until.clear()


def fraud(charges: rs.Stream) -> rs.Stream:
    """Give an alert for each card that looks stolen."""
    return charges.key_by("card").process(Fraud(), schema=ALERT).uid("fraud")


def made_up(job: rs.Job, count: int) -> rs.Stream:
    """Give made-up charges."""
    return job.source(rs.DataGenSource(charge, rows=count)).with_schema(CHARGE)


def options(user: str | None) -> dict[str, Any]:
    """Say who reads and writes; the password is read where a client is opened."""
    if user is None:
        return {}
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": rs.secret("KAFKA_PASSWORD").reveal,
    }


def fill(servers: str, topic: str, count: int, access: dict[str, Any]) -> None:
    """Write made-up charges to a topic, those of a card to one partition."""
    job = rs.Job("made-up-charges", runtime="local")
    made_up(job, count).sink(kafka.KafkaSink(servers, topic, key="card", options=access))
    job.run()


def watch(
    job: rs.Job, servers: str, topics: tuple[str, str], access: dict[str, Any], *, bounded: bool
) -> None:
    """Read charges from a topic and write alerts to another."""
    source, target = topics
    charges = job.source(
        kafka.KafkaSource(
            servers, source, schema=CHARGE, group="fraud", bounded=bounded, options=access
        ),
        watermark=rs.WatermarkStrategy("time", out_of_orderness="5s", idleness="10s"),
    )
    fraud(charges).sink(kafka.KafkaSink(servers, target, key="card", options=access))


def main() -> None:
    """Look at made-up charges, or at those of a topic."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--charges", type=int, default=2_000, help="how many are made up")
    parser.add_argument("--kafka", metavar="BOOTSTRAP", default=os.environ.get("KAFKA_SERVERS"))
    parser.add_argument("--topics", nargs=2, default=("charges", "alerts"), metavar=("IN", "OUT"))
    parser.add_argument("--made-up", action="store_true", help="fill the topic with charges first")
    parser.add_argument("--bounded", action="store_true", help="end where the topic ends now")
    parser.add_argument("--user", help="of the broker")
    parser.add_argument("--checkpoint", default="out/fraud-alerts", metavar="URL")
    args = parser.parse_args()
    if args.kafka is None:
        job = rs.Job("fraud-alerts")
        times = rs.WatermarkStrategy("time", out_of_orderness="5s")
        fraud(made_up(job, args.charges).assign_timestamps(times)).print("look at")
        job.run()
        return
    access = options(args.user)
    if args.made_up:
        fill(args.kafka, args.topics[0], args.charges, access)
    job = rs.Job("fraud-alerts", checkpoint=rs.Checkpointing(args.checkpoint, every="5s"))
    watch(job, args.kafka, tuple(args.topics), access, bounded=args.bounded)
    job.run(from_snapshot="latest")


if __name__ == "__main__":
    main()
