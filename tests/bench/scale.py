"""Measure the constants that say how far one job can grow: what docs/scaling.md computes with.

``python tests/bench/scale.py`` prints three tables. *Coordinator*: time of its machine for each
kind of word, in jobs of 200 to 4,000 subtasks, and the size of a manifest. *Exchange*: what it
costs to divide a batch among more and more receivers, to write the envelopes and to read them
again. *Calls*: what one envelope costs as a call of a Ray actor, at both ends, and what a
coordinator pays for each subtask that it deploys and watches; this one starts Ray.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import numpy as np
import pyarrow as pa
from fleet import Fleet

from raystream.flow.batch import Columns
from raystream.flow.codec import Header, decode, encode
from raystream.flow.exchange import Hash
from raystream.flow.ids import ChannelId
from raystream.subtask.partition import partitioner

SCHEMA = pa.schema({"k": pa.int64(), "a": pa.int64(), "b": pa.float64(), "c": pa.string()})
BATCH_ROWS = 32_768
RECEIVERS = (1, 4, 16, 64, 256, 1_024)
SUBTASKS = (200, 1_000, 2_000, 4_000)
REPEATS = 20


def coordinator() -> None:
    """Print what a coordinator's machine takes for each word, and how large its manifests are."""
    words = ("Ready", "Acked", "Appended", "Committed", "Ended", "Closed")
    print("coordinator: microseconds a word")
    print(f"{'subtasks':>10}" + "".join(f"{word:>11}" for word in words) + "   manifest/subtask")
    for subtasks in SUBTASKS:
        fleet = Fleet(subtasks)
        fleet.run(3)
        each = [fleet.seconds[word] / fleet.steps[word] * 1e6 for word in words]
        manifest = fleet.manifest_bytes / subtasks
        print(f"{subtasks:>10,}" + "".join(f"{us:>11.1f}" for us in each) + f"{manifest:>17.0f} B")


def exchange() -> None:
    """Print what a batch costs that is divided among so many receivers, and how small it gets."""
    print(f"\nexchange: batches of {BATCH_ROWS:,} rows by key, nanoseconds a row")
    print(f"{'receivers':>10}{'divide':>9}{'write':>9}{'read':>9}{'rows/envelope':>15}")
    keys = np.random.default_rng(1).integers(0, 1 << 40, BATCH_ROWS)
    texts = pa.array([f"text {n % 997}" for n in range(BATCH_ROWS)])
    record = pa.record_batch([keys, keys, keys.astype(float), texts], schema=SCHEMA)
    batch = Columns(record)
    for receivers in RECEIVERS:
        division = partitioner(
            Hash(("k",)),
            upstream=0,
            parallelism_up=1,
            parallelism_down=receivers,
            max_parallelism=8_192,
        )
        spent = {"divide": 0.0, "write": 0.0, "read": 0.0}
        count = 0
        for _ in range(REPEATS):
            began_s = time.perf_counter()
            shares = list(division.divide(batch))
            divided_s = time.perf_counter()
            frames = [encode(Header(1, ChannelId(0, 0, to), 0, 1), [share]) for to, share in shares]
            written_s = time.perf_counter()
            for frame in frames:
                for _element in decode(frame, SCHEMA):
                    pass
            spent["divide"] += divided_s - began_s
            spent["write"] += written_s - divided_s
            spent["read"] += time.perf_counter() - written_s
            count = len(shares)
        rows = BATCH_ROWS * REPEATS
        each = "".join(f"{seconds / rows * 1e9:>9.1f}" for seconds in spent.values())
        print(f"{receivers:>10,}{each}{BATCH_ROWS / count:>15,.0f}")


def calls(sizes: tuple[int, ...], seconds: float) -> None:
    """Print what an envelope costs at both ends: one actor pushes to another for some seconds."""
    import cloudpickle
    import ray
    from calls import Receiver, Sender

    print("\ncalls: one sender, one receiver, envelopes of a size")
    print(f"{'bytes':>10}{'envelopes/s':>13}{'sender us':>11}{'receiver us':>13}{'MB/s':>8}")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        receiver = Receiver.remote()
        sender = Sender.remote(receiver)
        for size in sizes:
            ray.get(sender.push.remote(size, 0.5))
            told: dict[str, Any] = ray.get(sender.push.remote(size, seconds))
            rate, sent = told["sent"] / told["seconds"], told["sent"]
            print(
                f"{size:>10,}{rate:>13,.0f}{told['sender_cpu_s'] / sent * 1e6:>11.0f}"
                f"{told['receiver_cpu_s'] / sent * 1e6:>13.0f}{rate * size / 1e6:>8.0f}"
            )
        handle_s = _seconds_each(lambda: cloudpickle.dumps(receiver), 1_000)
        size = len(cloudpickle.dumps(receiver))
        print(f"handle of an actor, pickled: {handle_s * 1e6:.0f} us, {size:,} B")
        for count in (200, 2_000):
            refs = [receiver.wait.remote() for _ in range(count)]
            look_s = _seconds_each(lambda refs=refs: ray.wait(refs, num_returns=1, timeout=0), 20)
            print(f"a look at {count:,} calls that are under way: {look_s * 1e3:.1f} ms")
    finally:
        ray.shutdown()


def _seconds_each(act: Callable[[], Any], times: int) -> float:
    began_s = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - began_s) / times


def main() -> None:
    """Print what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help="coordinator exchange calls; all if none")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each size of call")
    args = parser.parse_args()
    chosen = args.tables or ["coordinator", "exchange", "calls"]
    if "coordinator" in chosen:
        coordinator()
    if "exchange" in chosen:
        exchange()
    if "calls" in chosen:
        calls((256, 4_096, 65_536, 98_304, 4_194_304), args.seconds)


if __name__ == "__main__":
    main()
