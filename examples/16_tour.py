"""The tour, ten minutes: run it, then read down; each step prints what it shows."""

import tempfile
from pathlib import Path

import pyarrow as pa

import raystream as rs


def step(title: str, *rows: object) -> None:
    """Print a step and the values of its rows."""
    print(f"\n{title}")
    for row in rows:
        print("  ", tuple(row.values()) if isinstance(row, dict) else row)


# 1. A source gives rows. Here they are in hand; files, Kafka and databases come the same way. With
#    a schema the rows are columns. The watermark strategy says which column is the time of a row,
#    and that rows come up to two seconds out of order. Nothing runs until somebody asks for rows.
ORDER = pa.schema({"at": pa.int64(), "user": pa.string(), "item": pa.string(), "cents": pa.int64()})
ORDERS = [
    {"at": 1, "user": "ann", "item": "tea", "cents": 400},
    {"at": 12, "user": "bob", "item": "pot", "cents": 2500},
    {"at": 11, "user": "ann", "item": "cup", "cents": 900},  # out of order, but in time
    {"at": 25, "user": "ann", "item": "tea", "cents": 400},
    {"at": 3, "user": "bob", "item": "tea", "cents": 400},  # late: time is at 23 seconds already
    {"at": 38, "user": "bob", "item": "cup", "cents": 900},
]
by_at = rs.WatermarkStrategy("at", unit="s", out_of_orderness="2s")
job = rs.Job("shop", config={"batch_rows_max": 1})  # row by row: so few rows would be one batch
orders = job.from_items(ORDERS, schema=ORDER, watermark=by_at)
step("1. orders", *orders.collect(limit=2))

# 2. Columns are computed by expressions, a whole batch at once. A wrong name is told at once too.
priced = orders.filter(rs.col("cents") >= 900).select("user", "item", eur=rs.col("cents") / 100)
step("2. columns", *priced.collect())
try:
    orders.select("usr")
except rs.PlanError as error:
    step("   a wrong column", str(error).splitlines()[0])

# 3. Windows cut event time. Each fires once, when the watermark has passed its end.
tens = orders.key_by("user").window(rs.Tumbling("10s"))
totals = tens.late_to("late").aggregate(n=rs.count(), cents=rs.sum("cents"))
seconds = totals.select("user", rs.col("window_end").dt.second().alias("until"), "n", "cents")
step("3. every ten seconds", *seconds.collect())

# 4. A row whose windows are gone is late. It is left out, and can be read aside.
step("4. late", *totals.side_output("late").collect())


# 5. A function with state sees one row at a time, and keeps what it must know of the row's key. A
#    timer calls it when event time has come so far.
class Quiet(rs.KeyedProcessFunction):
    """Tell who has ordered nothing for ten seconds."""

    def open(self, ctx):
        self.due = ctx.state(rs.ValueState("due", type=pa.int64()))

    def process(self, row, ctx):
        if self.due.value() is not None:
            ctx.timers.delete_event_time(self.due.value())
        self.due.update(ctx.timestamp + rs.micros("10s"))
        ctx.timers.register_event_time(self.due.value())

    def on_timer(self, timestamp, ctx):
        self.due.clear()
        yield {"user": ctx.key, "quiet_at": timestamp // rs.micros("1s")}


step("5. quiet for ten seconds", *orders.key_by("user").process(Quiet()).collect())

# 6. A join says how long a row waits for partners: here up to five seconds after the order.
PAID = pa.schema({"at": pa.int64(), "user": pa.string(), "card": pa.string()})
PAYMENTS = [{"at": 14, "user": "bob", "card": "visa"}, {"at": 26, "user": "ann", "card": "amex"}]
payments = job.from_items(PAYMENTS, schema=PAID, watermark=by_at)
paid = orders.join(payments, on="user", within=("0s", "5s")).select("user", "item", "card")
step("6. paid within five seconds", *sorted(paid.collect(), key=str))

# 7. A changelog is a table that changes. Its rows are changes, each with its kind; what is computed
#    from them takes back what is no longer so: whoever is rich now is no longer counted as poor.
spent = orders.key_by("user").aggregate(cents=rs.sum("cents"), emit="changes")
rich = spent.with_columns(rich=rs.col("cents") >= 2000).key_by("rich")
step("7. the changes", *spent.to_rows().collect())
step("   who is rich", *rich.aggregate(users=rs.count(), emit="changes").collect())

# 8. Checkpoints make a job survive. This one dies in the middle of its rows.
folder = Path(tempfile.mkdtemp())
CLICKS = [{"user": f"user {n % 7}", "page": n} for n in range(700)]
power = {"on": False}


def number(seen, row):
    """Number the clicks of each user."""
    if not power["on"] and row["page"] == 500:
        raise RuntimeError("power cut")
    return seen + 1, f"{row['user']} {seen + 1}"


def clicks(parallelism):
    """Make the job, of any size; what it writes is exactly once."""
    kept = rs.Checkpointing(folder / "kept", every="1ms")
    made = rs.Job("clicks", parallelism=parallelism, checkpoint=kept, restart=rs.Restart.none(),
                  runtime="local", config={"batch_rows_max": 50})  # fmt: skip
    counted = made.from_items(CLICKS).key_by("user").map_with_state(number, 0, type=pa.int64())
    counted.uid("number").sink(rs.FileSink(folder / "out", "text"))
    return made


try:
    clicks(parallelism=1).run()
except rs.JobFailed as error:
    step("8. it died", error.__cause__.__cause__)

# 9. It goes on from its newest checkpoint, at another size: state moves with its key.
power["on"] = True
result = clicks(parallelism=3).run(from_snapshot="latest")
lines = [line for file in (folder / "out").glob("part-*") for line in file.open()]
step(
    "9. restored, larger",
    f"{result.status}: {len(lines)} lines, none twice: {len(set(lines)) == 700}",
)

# 10. Look at it: the plan, and the state that the newest checkpoint holds.
plan = clicks(parallelism=3).explain()
step("10. the plan", *plan.splitlines()[2:-1])
newest = max((folder / "kept" / "clicks").iterdir())
state = rs.state.read(str(newest), uid="number").sort_by("key")
step("    the state", *state.to_pylist()[:3])
