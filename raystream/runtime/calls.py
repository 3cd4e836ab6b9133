"""Calls that may take for ever, each in a thread of its own that holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def begin(act: Callable[[], Any], name: str = "call") -> Future[Any]:
    """Call something in a thread that ends with the process, whatever it waits for.

    The threads of an executor are waited for when Python ends; a call to a job that does not answer
    would keep the process. Whoever begins calls bounds how many there are.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            result = act()
        except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
