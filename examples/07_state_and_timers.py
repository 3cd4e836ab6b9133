"""Lesson 7: state and timers: a function that remembers, and acts when time has passed."""

from collections.abc import Iterator

import pyarrow as pa

import raystream as rs

# (second, user, page): who leaves the basket alone for a minute gets a reminder.
CLICKS = [(0, "ann", "basket"), (5, "bob", "basket"), (30, "ann", "pay"), (200, "cat", "home")]
SCHEMA = pa.schema({"at": pa.int64(), "user": pa.string(), "page": pa.string()})


class Remind(rs.KeyedProcessFunction):
    """Remind users who put something in the basket and do not pay within a minute."""

    def open(self, ctx: rs.OpenContext) -> None:
        self.due = ctx.state(rs.ValueState("due", type=pa.int64()))

    def process(self, click: dict, ctx) -> None:
        if click["page"] == "basket":
            self.due.update(ctx.timestamp + rs.micros("1m"))
            ctx.timers.register_event_time(self.due.value())
        elif click["page"] == "pay" and self.due.value() is not None:
            ctx.timers.delete_event_time(self.due.value())
            self.due.clear()

    def on_timer(self, timestamp: int, ctx) -> Iterator[dict]:
        self.due.clear()
        yield {"remind": ctx.key}


job = rs.Job("reminders")
rows = [{"at": at, "user": user, "page": page} for at, user, page in CLICKS]
clicks = job.from_items(rows, schema=SCHEMA, watermark=rs.WatermarkStrategy("at", unit="s"))

if __name__ == "__main__":
    print(clicks.key_by("user").process(Remind()).collect())
