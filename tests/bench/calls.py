"""Two actors that do nothing but pass envelopes, as subtasks do: within a window of bytes."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import ray

WINDOW_BYTES = 8 << 20
GRANT_SHARE = 4


@ray.remote(num_cpus=0.5, concurrency_groups={"push": 1, "wait": 1})
class Receiver:
    """Counts what comes, and says so to whoever sends every quarter of the window."""

    def __init__(self) -> None:
        self.sender: Any = None
        self.bytes = self.owed = 0

    def begin(self, sender: Any) -> None:
        self.sender = sender
        self.bytes = self.owed = 0

    @ray.method(concurrency_group="wait")
    def wait(self) -> None:
        """Come back never, as the call that tells of an actor's death."""
        threading.Event().wait()

    def cpu_s(self) -> float:
        return sum(os.times()[:2])

    @ray.method(num_returns=0, concurrency_group="push")
    def push(self, frame: bytes) -> None:
        self.bytes += len(frame)
        self.owed += len(frame)
        if self.owed >= WINDOW_BYTES // GRANT_SHARE or len(frame) > WINDOW_BYTES // GRANT_SHARE:
            self.owed = 0
            self.sender.consumed.options(concurrency_group="credit").remote(self.bytes)


@ray.remote(num_cpus=0.5, concurrency_groups={"credit": 1})
class Sender:
    """Sends as fast as it may."""

    def __init__(self, receiver: Any) -> None:
        self.receiver = receiver
        self.changed = threading.Condition()
        self.consumed_bytes = 0

    @ray.method(num_returns=0)
    def consumed(self, total: int) -> None:
        with self.changed:
            self.consumed_bytes = max(self.consumed_bytes, total)
            self.changed.notify()

    def push(self, size: int, seconds: float) -> dict[str, float]:
        """Send envelopes of a size; give how many, and the CPU time of both ends."""
        me = ray.get_runtime_context().current_actor
        self.consumed_bytes = 0
        ray.get(self.receiver.begin.remote(me))
        before_s = ray.get(self.receiver.cpu_s.remote())
        cpu_s, began_s, sent = sum(os.times()[:2]), time.monotonic(), 0
        frame = bytes(size)
        push = self.receiver.push
        while time.monotonic() - began_s < seconds:
            with self.changed:
                while sent * size - self.consumed_bytes >= WINDOW_BYTES:
                    self.changed.wait()
            push.remote(frame)
            sent += 1
        with self.changed:
            left = WINDOW_BYTES // GRANT_SHARE
            while sent * size - self.consumed_bytes >= left + size:
                self.changed.wait()
        return {
            "sent": sent,
            "seconds": time.monotonic() - began_s,
            "sender_cpu_s": sum(os.times()[:2]) - cpu_s,
            "receiver_cpu_s": ray.get(self.receiver.cpu_s.remote()) - before_s,
        }
