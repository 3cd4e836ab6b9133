"""Rows on their way to the driver are not there before they have arrived."""

from __future__ import annotations

import threading

from raystream.runtime.ray.delivery import Outbox

OUTER_S = 30


def test_an_outbox_is_empty_once_somebody_asks_again():
    outbox = Outbox(2)
    assert outbox.put(("sink", b"rows"))
    assert outbox.take(0) == [("sink", b"rows")]
    waiting = threading.Thread(target=outbox.wait_empty)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()  # the rows travel, and are lost if this process ends now
    assert outbox.take(0) == []
    waiting.join(OUTER_S)
    assert not waiting.is_alive()


def test_what_was_put_is_taken_in_order_and_then_no_more():
    outbox = Outbox(2)
    outbox.put(("sink", b"1"))
    outbox.put(("sink", b"2"))
    outbox.close()
    assert not outbox.put(("sink", b"3"))
    assert outbox.take(0) == [("sink", b"1"), ("sink", b"2")]
    assert outbox.take(0) is None


def test_nobody_waits_for_a_closed_outbox():
    outbox = Outbox(1)
    outbox.put(("sink", b"1"))
    outbox.close()
    outbox.wait_empty()
