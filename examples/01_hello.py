"""Lesson 1: a stream is built first and runs when you ask for its rows."""

import pyarrow as pa

import raystream as rs

col = rs.col

orders = rs.Job("hello").from_items(
    [
        {"item": "tea", "price": 3.5, "count": 2},
        {"item": "cake", "price": 4.0, "count": 1},
        {"item": "coffee", "price": 2.5, "count": 4},
    ],
    schema=pa.schema({"item": pa.string(), "price": pa.float64(), "count": pa.int64()}),
)

# Expressions work on whole columns; a column that does not exist is refused here, not later.
large = orders.with_columns(total=col("price") * col("count")).filter(col("total") > 5)

if __name__ == "__main__":
    for row in large.collect():  # in this process; job.run() would use Ray
        print(row)
