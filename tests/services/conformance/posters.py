"""Senders that post rows until they are answered, one a port."""

from __future__ import annotations

import http.client
import json
import threading

_ROWS_EACH = 10


class Posters:
    """Posts the rows of each share to a port, in order, some at a time, until they are taken."""

    def __init__(self, port: int, shares: list[list[int]]) -> None:
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._post, args=(port + place, share), daemon=True)
            for place, share in enumerate(shares)
        ]
        for thread in self._threads:
            thread.start()

    def _post(self, port: int, numbers: list[int]) -> None:
        for start in range(0, len(numbers), _ROWS_EACH):
            body = json.dumps([{"n": n} for n in numbers[start : start + _ROWS_EACH]])
            while not self._is_taken(port, body):
                if self._over.wait(0.01):
                    return

    def _is_taken(self, port: int, body: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/", body)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Let them end."""
        self._over.set()
        for thread in self._threads:
            thread.join(10)
