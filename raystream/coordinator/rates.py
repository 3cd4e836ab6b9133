"""What is remembered of one chain: what it can do, what it needed, and what did not help."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_SEEN_MAX = 64
"""Of what was seen so much is kept, at equal distances."""

_GAIN_LEAST = 0.25
"""Subtasks that were added and bring less than this share of what they should are no use."""

_PATIENCE_MAX = 8

_REFUSED_MAX = 2
"""A cluster may have grown: who was refused again and again waits so many times as long at most."""


@dataclass(slots=True)
class Known:
    """One chain.

    Units: ``rate`` rows a second of one subtask that is always busy, None before it was seen full.
    """

    rate: float | None = None
    rising_us: int | None = None
    grown_due: float | None = None
    before_count: int = 0
    _before_rate: float = 0.0
    _full: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_SEEN_MAX))
    _full_since_us: int | None = None
    _needs: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_SEEN_MAX))
    _needs_since_us: int | None = None
    _bar: tuple[int, int, str] | None = None
    _patience: int = 1
    _refusals: int = 0
    _shrunk_us: int | None = None

    def start(self, now_us: int) -> None:
        """Begin to watch anew, at another size or after a failure; what it can do stays known."""
        self.rising_us = self._full_since_us = None
        self._needs.clear()
        self._needs_since_us = None

    def see(self, now_us: int, rate: float | None, window_us: int, forget_us: int) -> None:
        """Take the rate of a moment at which it was full, None where it was not."""
        if rate is None:
            self._full_since_us = None
            return
        if self._full_since_us is None:
            self._full_since_us = now_us
        if self._full and now_us - self._full[-1][0] < window_us // 8:
            last_us, last = self._full.pop()
            self._full.append((last_us, max(last, rate)))
        else:
            self._full.append((now_us, rate))
        # The highest: a smaller one may be that of smaller batches. Unless it is full all the time,
        # and does less: then rows have come to cost more.
        lasting = now_us - self._full_since_us >= window_us
        from_us = now_us - (window_us if lasting else forget_us)
        self.rate = max(one for at_us, one in self._full if at_us >= from_us - window_us // 8)

    def useless(self, count: int, rate: float, now_us: int, window_us: int) -> bool:
        """Tell whether the subtasks that were added last are of no use, now that all are full."""
        since_us = self._full_since_us
        if not 0 < self.before_count < count or since_us is None or now_us - since_us < window_us:
            return False
        gain = rate / max(self._before_rate, 1e-9) - 1
        return gain < _GAIN_LEAST * (count / self.before_count - 1)

    def need(self, now_us: int, count: int, stable_us: int) -> None:
        """Take how many subtasks would do."""
        if self._needs_since_us is None:
            self._needs_since_us = now_us
        apart_us = stable_us * self._patience // (_SEEN_MAX // 2)
        if self._needs and now_us - self._needs[-1][0] < apart_us:
            at_us, last = self._needs.pop()
            self._needs.append((at_us, max(last, count)))
        else:
            self._needs.append((now_us, count))

    def needed(self, now_us: int, stable_us: int) -> int | None:
        """Give the most that was needed for as long as it takes; None before that."""
        stable_us *= self._patience
        if self._needs_since_us is None or now_us - self._needs_since_us < stable_us:
            return None
        return max(count for at_us, count in self._needs if at_us >= now_us - stable_us)

    def grow(self, count: int, rate: float, due: float, now_us: int, forget_us: int) -> None:
        """Note that it has grown from a size, at which it did so much of what is due."""
        self.before_count, self._before_rate, self.grown_due = count, rate, due
        # Where it had shrunk too soon it waits for longer next time.
        soon = self._shrunk_us is not None and now_us - self._shrunk_us < forget_us
        self._patience = min(_PATIENCE_MAX, self._patience * 2) if soon else 1

    def shrink(self, now_us: int) -> None:
        """Note that it shrinks."""
        self._shrunk_us, self.grown_due, self.before_count = now_us, None, 0

    def refuse(self) -> int:
        """Note that it could not have more; tell how many times as long it is to wait."""
        self._refusals += 1
        return min(1 << (self._refusals - 1), _REFUSED_MAX)

    def bar(self, most: int, until_us: int, why: str) -> None:
        """Let it have no more than so many subtasks for a while."""
        self._bar = (most, until_us, why)

    def barred(self, now_us: int) -> tuple[int, str] | None:
        """Give the bar, and why it is there, if there is one."""
        if self._bar is None or now_us >= self._bar[1]:
            self._bar = None
            return None
        return self._bar[0], self._bar[2]
