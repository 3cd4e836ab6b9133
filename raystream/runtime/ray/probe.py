"""Ask a Ray cluster whether it can do what a job needs; run as a program, prints one line of JSON.

A process of its own, because connecting to a cluster that does not answer can hang inside of Ray,
where only the end of the process helps.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ray

OBJECT_BYTES = 1 << 20
"""Large enough to travel through the object store."""


class Echo:
    """The smallest actor."""

    def size(self, value: bytes) -> int:
        return len(value)


def probe(address: str | None) -> dict[str, Any]:
    """Connect, start one actor, send it an object; a local cluster is started where none is named.

    Units: all times in seconds.
    """
    began = time.monotonic()
    # A cluster that stands already refuses the options of one to be started.
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    ray.init(
        address=address or "local",
        namespace="raystream-doctor",
        log_to_driver=False,
        logging_level="ERROR",
        **options,
    )
    try:
        connected = time.monotonic()
        actor = ray.remote(Echo).options(num_cpus=0).remote()
        ray.get(actor.size.remote(b""))
        started = time.monotonic()
        size = ray.get(actor.size.remote(ray.put(bytes(OBJECT_BYTES))))
        assert size == OBJECT_BYTES
        resources = ray.cluster_resources()
        return {
            "ray": ray.__version__,
            "connect_s": round(connected - began, 3),
            "actor_start_s": round(started - connected, 3),
            "object_s": round(time.monotonic() - started, 4),
            "nodes": sum(bool(node["Alive"]) for node in ray.nodes()),
            "cpus": resources.get("CPU", 0.0),
            "object_store_bytes": int(resources.get("object_store_memory", 0)),
        }
    finally:
        ray.shutdown()


if __name__ == "__main__":
    found = probe(sys.argv[1] if len(sys.argv) > 1 else None)
    sys.stdout.write(json.dumps(found) + "\n")
