"""The thread of an actor: one subtask after the other, and what is left open between them."""

from __future__ import annotations

import threading
from typing import Any

from raystream.runtime.ray.turns import Turns

SOON_S = 20


class Rest:
    def __init__(self) -> None:
        self.closed_in: list[int] = []

    def close(self) -> None:
        self.closed_in.append(threading.get_ident())


class Turn:
    def __init__(self, leaves: Any = None, *, stays: bool = False, breaks: bool = False) -> None:
        self.name, self.stays, self.done = "it", stays, threading.Event()
        self._leaves, self._breaks = leaves, breaks
        self.given: Any = None
        self.thread = 0
        self.told = False

    def run(self, resting: Any) -> Any:
        self.given, self.thread = resting, threading.get_ident()
        if self._breaks:
            raise SystemExit("a user's function")
        return self._leaves

    def over(self) -> None:
        self.told = True


def play(turns: Turns, *some: Turn) -> None:
    for turn in some:
        turns.give(turn)
        assert turn.done.wait(SOON_S)
        assert turn.told


def test_what_one_leaves_open_the_next_has_in_the_same_thread():
    turns, rest = Turns(), Rest()
    one, two = Turn(rest), Turn(stays=True)
    play(turns, one, two)
    turns.end(SOON_S)
    assert (two.given, two.thread, rest.closed_in) == (rest, one.thread, [])


def test_what_the_next_does_not_go_on_with_is_closed_once_in_the_thread_that_opened_it():
    turns, rest = Turns(), Rest()
    one, two = Turn(rest), Turn()
    play(turns, one, two)
    turns.end(SOON_S)
    assert (two.given, rest.closed_in) == (None, [one.thread])


def test_what_is_left_open_is_closed_where_no_other_follows():
    turns, rest = Turns(), Rest()
    one = Turn(rest)
    play(turns, one)
    turns.end(SOON_S)
    assert rest.closed_in == [one.thread]


def test_a_turn_that_breaks_off_leaves_its_thread_to_the_next():
    turns = Turns()
    one, two = Turn(breaks=True), Turn()
    play(turns, one, two)
    turns.end(SOON_S)
    assert two.thread == one.thread
