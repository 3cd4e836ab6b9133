"""What was clicked within an hour of being seen, and what was not: an interval join."""

import pyarrow as pa

import raystream as rs

BY_AT = rs.WatermarkStrategy("at", unit="s", out_of_orderness="10m")
SEEN = pa.schema({"at": pa.int64(), "ad": pa.string(), "user": pa.int64()})
CLICK = pa.schema({"at": pa.int64(), "ad": pa.string(), "user": pa.int64()})
IMPRESSIONS = [(0, "tea", 1), (60, "tea", 2), (100, "coffee", 1), (7_000, "tea", 1)]
CLICKS = [(30, "tea", 1), (3_700, "coffee", 1), (3_661, "tea", 2), (200, "tea", 1)]

job = rs.Job("clicks")


def read(rows, schema):
    rows = [dict(zip(schema.names, row, strict=True)) for row in rows]
    return job.from_items(rows, schema=schema, watermark=BY_AT)


seen, clicks = read(IMPRESSIONS, SEEN), read(CLICKS, CLICK).rename({"at": "clicked"})
# From 0 to 3,600 seconds behind: (60, "tea", 2) was clicked a second too late. Neither side is
# kept for longer than an hour of event time, and what nobody clicked comes out with a null.
both = seen.join(clicks, on=["ad", "user"], within=("0s", "1h"), how="left")
rates = both.key_by("ad").aggregate(
    seen=rs.count_distinct("at"), clicks=rs.count("clicked"), emit="final"
)

if __name__ == "__main__":
    for row in sorted(both.collect(), key=lambda row: (row["at"], row["clicked"] or 0)):
        print(tuple(row.values()))
    print(sorted((row["ad"], row["seen"], row["clicks"]) for row in rates.collect()))
