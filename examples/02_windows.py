"""Lesson 2: event time, watermarks and windows: rows may come late, answers stay right."""

import pyarrow as pa

import raystream as rs

# (second, sensor, value): the row of second 9 comes after the one of second 12.
READINGS = [(1, "a", 1.0), (4, "b", 7.0), (12, "a", 3.0), (9, "a", 5.0), (25, "a", 2.0)]

job = rs.Job("windows")
readings = job.from_items(
    [{"at": at, "sensor": sensor, "value": value} for at, sensor, value in READINGS],
    schema=pa.schema({"at": pa.int64(), "sensor": pa.string(), "value": pa.float64()}),
    # "at" is in seconds; a window waits until rows 5 s later have been seen.
    watermark=rs.WatermarkStrategy("at", unit="s", out_of_orderness="5s"),
)

tens = readings.key_by("sensor").window(rs.Tumbling("10s"))
summary = tens.aggregate(rows=rs.count(), mean=rs.mean("value"), last=rs.last("value"))

if __name__ == "__main__":
    summary.show()
