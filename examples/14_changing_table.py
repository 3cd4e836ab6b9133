"""A table that a database tells changes of: what is computed from it stays right, deletes too."""

import pyarrow as pa

import raystream as rs

CHANGE = pa.schema({"id": pa.int64(), "city": pa.string(), "total": pa.int64(), "op": pa.string()})
CHANGES = [
    (1, "Rom", 10, "+I"),  # new
    (2, "Rom", 5, "+I"),
    (3, "Bonn", 7, "+I"),
    (1, "Bonn", 10, "+U"),  # order 1 moves to Bonn: Rom must lose it
    (2, None, None, "-D"),  # order 2 is gone; its key is enough
    (3, "Bonn", 9, "+U"),
]

job = rs.Job("table")
rows = [dict(zip(CHANGE.names, change, strict=True)) for change in CHANGES]
orders = job.from_items(rows, schema=CHANGE).to_changelog(key="id", op="op")
# A -U or -D takes back what its row had added: a city without orders is no longer there.
cities = orders.key_by("city").aggregate(
    orders=rs.count(), total=rs.sum("total"), largest=rs.max("total"), emit="changes"
)

if __name__ == "__main__":
    print("orders:", [tuple(row.values()) for row in orders.collect()])
    print("cities:", [tuple(row.values()) for row in cities.collect()])
    for row in cities.to_rows().collect():
        print(row)
