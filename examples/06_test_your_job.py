"""Lesson 6: a test of a job: what happens is written down, and so is what must come out."""

import pyarrow as pa

import raystream as rs

T = rs.testing
SECOND = rs.micros("1s")
SCHEMA = pa.schema({"user": pa.string(), "amount": pa.int64()})


def spending(payments: rs.Stream) -> rs.Stream:
    """The function under test: what each user spends in a minute."""
    windows = payments.key_by("user").window(rs.Tumbling("1m")).late_to("late")
    return windows.aggregate(total=rs.sum("amount")).select("user", "total")


def test_a_payment_that_comes_too_late_is_not_counted() -> None:
    def paid(second: int, amount: int) -> T.At:
        return T.At(second * SECOND, {"user": "ann", "amount": amount})

    minute_is_over = T.Watermark(60 * SECOND - 1)
    source = T.Source(
        [paid(1, 5), paid(59, 2), minute_is_over, paid(30, 9), T.Open()], schema=SCHEMA
    )
    payments = rs.Job("spending").source(source)
    for seed in range(10):  # each seed is another order of everything that has none
        run = T.run(spending(payments), seed=seed, parallelism=1 + seed % 2)
        assert run.rows == [{"user": "ann", "total": 7}]
        assert run.side("late") == [{"user": "ann", "amount": 9}]
    print(*T.run(spending(payments)).events, sep="\n")


if __name__ == "__main__":  # pytest finds the test by itself
    test_a_payment_that_comes_too_late_is_not_counted()
