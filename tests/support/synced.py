"""The stores that ``jobs/sync_stores.py`` keeps in step, as rows that can be compared."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from typing import Any

COLUMNS = ("id", "customer", "item", "cents", "name", "city")
_SOURCE = """
SELECT o.id, o.customer, o.item, o.cents, c.name, c.city
FROM orders o LEFT JOIN customers c ON c.id = o.customer
"""


class Stores:
    """Reads the table of the shop and the three stores."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def source(self) -> dict[int, Any]:
        """Give the orders of the shop with their customers."""
        return self._rows("PG_DSN", _SOURCE)

    def all(self) -> dict[str, dict[int, Any]]:
        """Give what is in each store."""
        return {"postgres": self.table(), "redis": self.cache(), "search": self.index()}

    def table(self) -> dict[int, Any]:
        return self._rows("DW_DSN", f"SELECT {', '.join(COLUMNS)} FROM full_orders")  # noqa: S608

    def cache(self) -> dict[int, Any]:
        import redis

        with contextlib.closing(
            redis.Redis.from_url(self._environment["REDIS_URL"], decode_responses=True)
        ) as client:
            keys = client.scan_iter("order:*", count=1_000)
            # One that goes while it is looked for holds nothing.
            held = [row for key in keys if (row := client.hgetall(key))]
        return {
            int(row["id"]): tuple(
                value if value is None or name in ("item", "name", "city") else int(value)
                for name, value in ((name, row.get(name)) for name in COLUMNS)
            )
            for row in held
        }

    def index(self) -> dict[int, Any]:
        self._ask("/orders/_refresh", {})
        query = {"size": 10_000, "query": {"match_all": {}}}
        hits = self._ask("/orders/_search", query)["hits"]["hits"]
        rows = {hit["_id"]: hit["_source"] for hit in hits}
        return {int(id): tuple(row.get(name) for name in COLUMNS) for id, row in rows.items()}

    def _rows(self, secret: str, query: str) -> dict[int, Any]:
        import psycopg

        with psycopg.connect(self._environment[secret]) as connection:
            return {row[0]: row for row in connection.execute(query)}

    def _ask(self, path: str, body: object) -> Any:
        request = urllib.request.Request(  # noqa: S310  http alone
            self._environment["ES_URL"] + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  http alone
            return json.loads(answer.read())


def differences(source: dict[int, Any], stores: dict[str, dict[int, Any]]) -> dict[str, Any]:
    """Name the rows of each store that are not those of the source."""
    found = {
        name: {
            id: (source.get(id), rows.get(id))
            for id in source.keys() | rows.keys()
            if source.get(id) != rows.get(id)
        }
        for name, rows in stores.items()
    }
    return {name: some for name, some in found.items() if some}


class Load(threading.Thread):
    """A shop that changes its tables until it is told to stop, through deaths of its server."""

    def __init__(self, job: Any, dsn: str, rate: float = 200.0) -> None:
        super().__init__(daemon=True)
        self._job, self._dsn, self._pause = job, dsn, 1 / rate
        self._over = threading.Event()
        self.written = 0

    def run(self) -> None:
        import psycopg

        seed = 0
        pending: list[Any] = []
        while not self._over.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    while not self._over.wait(self._pause):
                        if not pending:
                            pending = list(self._job.changes(1_000, seed))[::-1]
                            seed += 1
                        self._job.write(connection, pending[-1])
                        pending.pop()
                        self.written += 1
            except psycopg.OperationalError:  # noqa: PERF203  tried again
                self._over.wait(0.2)

    def stop(self) -> None:
        self._over.set()
        self.join(30)
