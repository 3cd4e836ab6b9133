"""Find stolen cards: a charge above 500 directly after one below 1, within a minute.

``python jobs/card_fraud.py`` makes up charges and prints the cards to look at.
"""

import argparse
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

import raystream as rs

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


def main() -> None:
    """Look at made-up charges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--charges", type=int, default=2_000)
    args = parser.parse_args()
    job = rs.Job("card-fraud")
    made = job.source(rs.DataGenSource(charge, rows=args.charges)).with_schema(CHARGE)
    charges = made.assign_timestamps(rs.WatermarkStrategy("time", out_of_orderness="5s"))
    fraud(charges).print("look at")
    job.run()


if __name__ == "__main__":
    main()
