"""A job that dies in the middle and goes on: every order is counted once."""

import tempfile
from pathlib import Path

import raystream as rs

folder = Path(tempfile.mkdtemp())
ORDERS = [{"user": "ann" if n % 3 else "bob", "order": n} for n in range(1_000)]
broken = True


def number(seen, row):
    """Number the orders of each user; the power fails at one of them."""
    if broken and row["order"] == 700:
        raise RuntimeError("power cut")
    return seen + 1, {**row, "nth": seen + 1}


def numbered():
    """Make the job: it looks after itself every few rows, and does not try again."""
    often = rs.Checkpointing(folder / "kept", every="1ms")
    job = rs.Job("orders", checkpoint=often, restart=rs.Restart.none(), runtime="local",
                 config={"batch_rows_max": 50})  # fmt: skip
    orders = job.from_items(ORDERS).key_by(lambda row: row["user"])
    out = orders.map_with_state(number, 0).uid("number")
    out.map(lambda row: f"{row['user']} {row['nth']}").sink(rs.FileSink(folder / "out", "text"))
    return job


if __name__ == "__main__":
    try:
        numbered().run()
    except rs.JobFailed as error:
        print("it died:", error.__cause__.__cause__)
    broken = False
    numbered().run(from_snapshot="latest")
    files = (folder / "out").glob("part-*")
    lines = " ".join(file.read_text() for file in files).split()
    print(lines.count("bob") + lines.count("ann"), "orders,", lines.count("bob"), "of bob")
