"""Lesson 8: rows that come too late and rows that cannot be read go aside; the rest goes on."""

import pyarrow as pa

import raystream as rs

LINES = ["1 ann 5", "61 ann 2", "oops", "2 bob 3", "200 bob 1", "3 ann 9"]
SCHEMA = pa.schema({"at": pa.int64(), "user": pa.string(), "amount": pa.int64()})


def parse(line: str) -> dict:
    at, user, amount = line.split(" ")
    return {"at": int(at), "user": user, "amount": int(amount)}


job = rs.Job("aside", config={"batch_rows_max": 1})  # row by row, so that one can be late
parsed = job.from_items(LINES).map(parse, schema=SCHEMA).on_error("dead_letter")
paid = parsed.assign_timestamps(rs.WatermarkStrategy("at", unit="s", out_of_orderness="2s"))
minutes = paid.key_by("user").window(rs.Tumbling("1m"))
# A window fires when a minute is over; rows up to a minute late make it fire again.
totals = minutes.allowed_lateness("1m").late_to("late").aggregate(total=rs.sum("amount"))

if __name__ == "__main__":
    for row in totals.select("user", "total").collect():
        print(row)
    print("late:", totals.side_output("late").collect())
    print("broken:", [letter["row"] for letter in parsed.dead_letters.collect()])
