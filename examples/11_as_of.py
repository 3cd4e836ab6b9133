"""Orders in euros, each by the rate of its time: the newest rate that was known then."""

import pyarrow as pa

import raystream as rs

BY_AT = rs.WatermarkStrategy("at", unit="s", out_of_orderness="1h")
ORDER = pa.schema({"at": pa.int64(), "currency": pa.string(), "amount": pa.float64()})
RATE = pa.schema({"at": pa.int64(), "currency": pa.string(), "rate": pa.float64()})
# (second, currency, …): rows may come up to an hour late, as the last rate does.
ORDERS = [(100, "USD", 20.0), (700, "USD", 20.0), (650, "GBP", 5.0), (800, "JPY", 900.0)]
RATES = [(0, "USD", 0.9), (0, "GBP", 1.25), (600, "USD", 0.5), (300, "USD", 0.8)]

job = rs.Job("euros")


def read(rows, schema):
    rows = [dict(zip(schema.names, row, strict=True)) for row in rows]
    return job.from_items(rows, schema=schema, watermark=BY_AT)


# A row comes out when the watermark has passed it: then no older rate can come.
known = read(ORDERS, ORDER).as_of_join(read(RATES, RATE), on="currency", tolerance="1d")
# "at" of the rate is called "at_right", because the order has one of that name.
euros = known.select("at", "currency", "rate", "at_right", eur=rs.col("amount") * rs.col("rate"))

if __name__ == "__main__":
    for row in sorted(euros.collect(), key=lambda row: row["at"]):
        print(row)
