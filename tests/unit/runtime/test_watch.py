"""A thread that does not come round is told of, with the line that it is at."""

from __future__ import annotations

import threading

from raystream.runtime.ray.watch import Watch


def waits(begun: threading.Event, end: threading.Event) -> None:
    begun.set()
    end.wait(10)


def test_a_thread_that_does_not_beat_is_told_of_with_its_line():
    begun, end, over = threading.Event(), threading.Event(), threading.Event()
    thread = threading.Thread(target=waits, args=(begun, end), daemon=True)
    thread.start()
    begun.wait(10)
    told: list[str] = []

    def tell(at: str) -> None:
        told.append(at)
        over.set()

    Watch(thread.ident or 0, lambda: 7, tell, over).run(0.001)
    end.set()
    thread.join(10)
    assert "test_watch.py:" in told[0]
    assert told[0].endswith(" in waits")


def test_a_thread_that_beats_is_not_told_of():
    over, told = threading.Event(), []
    beats = iter(range(20))

    def beat() -> int:
        count = next(beats)
        if count == 10:
            over.set()
        return count

    Watch(threading.get_ident(), beat, told.append, over).run(0.0001)
    assert told == []
