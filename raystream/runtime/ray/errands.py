"""What a coordinator wants of storage, done one after the other in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from raystream.coordinator import events as job
from raystream.errors import StorageError
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.shell import travelling
from raystream.runtime.vault import Errand, Home, Vault

_TRIES = 6
_RETRY_S = 0.1
"""Storage that fails is asked again after this, then after twice that, and so on."""


class Errands:
    """The errands of one job; ``tell`` hears how each went."""

    def __init__(
        self, plan: PhysicalPlan, home: Home | None, tell: Callable[[job.Event], None]
    ) -> None:
        self._plan = plan
        self._home = home
        self._tell = tell
        self._asked: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()  # a few at a time
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, errand: Errand) -> None:
        """Ask for something."""
        self._asked.put(errand)

    def close(self) -> None:
        """Do what was asked for, without pauses between tries, and then no more."""
        self._over.set()
        self._asked.put(None)

    def _run(self) -> None:
        vault: Vault | None = None
        while (errand := self._asked.get()) is not None:
            try:
                if vault is None:
                    vault = Vault(self._plan, self._home)
                event = self._retried(vault, errand)
            except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
                event = job.StorageFailed(errand, travelling(self._plan.job, error))
            if event is not None:
                self._tell(event)

    def _retried(self, vault: Vault, errand: Errand) -> job.Event | None:
        tries = 0
        while True:
            try:
                return vault.perform(errand)
            except StorageError:
                tries += 1
                if tries == _TRIES:
                    raise
            self._over.wait(_RETRY_S * 2**tries)
