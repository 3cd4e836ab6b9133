"""How long a stream must say nothing to be idle, and what counts as nothing."""

from __future__ import annotations

from raystream.flow.element import Status
from raystream.operators.silence import LOOKS, Silence

IDLE, ACTIVE = [Status(idle=True)], [Status(idle=False)]


def quiet(it, us):
    """Look whenever a look is due, for so long; give what is said."""
    said, until_us = [], it.now_us + us
    while it.silence.due_us is not None and it.silence.due_us <= until_us:
        it.now_us = it.silence.due_us
        said += it.silence.look(it.now_us)
    it.now_us = until_us
    return said


class Silent:
    def __init__(self, idleness_us):
        self.now_us = 0
        self.silence = Silence(idleness_us)
        self.silence.begin(0)

    def rows(self):
        said = list(self.silence.broken())
        self.silence.begin(self.now_us)
        return said


def test_a_stream_is_idle_once_it_has_been_silent_for_long_enough_and_says_so_once():
    it = Silent(800)
    assert quiet(it, 799) == []
    assert quiet(it, 1) == IDLE
    assert it.silence.due_us is None
    assert it.rows() == ACTIVE
    assert quiet(it, 500) == []
    assert it.rows() == []
    assert quiet(it, 799) == []
    assert quiet(it, 1) == IDLE


def test_time_in_which_nobody_could_look_counts_as_one_look():
    it = Silent(800)
    assert quiet(it, 600) == []
    it.now_us += 1_000_000
    assert list(it.silence.look(it.now_us)) == []
    assert quiet(it, 99) == []
    assert quiet(it, 1) == IDLE


def test_without_a_length_only_the_input_is_idle():
    it = Silent(None)
    assert quiet(it, 10**9) == []
    assert list(it.silence.told(IDLE[0])) == IDLE
    assert list(it.silence.told(ACTIVE[0])) == ACTIVE


def test_a_stream_is_active_again_only_where_neither_reason_is_left():
    it = Silent(LOOKS)
    assert list(it.silence.told(IDLE[0])) == IDLE
    assert quiet(it, LOOKS) == []
    assert list(it.silence.told(ACTIVE[0])) == []
    assert it.rows() == ACTIVE
