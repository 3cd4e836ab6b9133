"""Watermarks over several inputs: what goes on, case by case."""

from __future__ import annotations

import random

import pytest

from raystream.errors import ProtocolError
from raystream.flow.element import MIN_TIME, Status, Watermark
from raystream.subtask.gate import Gate


def play(channels: int, story: str) -> str:
    """Run ``c0:5 -> 5; c1 idle -> IDLE`` and give the same text with what really came out."""
    gate = Gate()
    for index in range(channels):
        gate.add(index)
    told = []
    for line in story.split(";"):
        events = line.split("->")[0].strip()
        out: list[object] = []
        for event in events.replace(",", " ").split("|"):
            name, what = event.replace(":", " ").split()
            channel = int(name[1:])
            if what == "idle":
                out += gate.go_idle(channel)
            elif what == "active":
                out += gate.active(channel)
            elif what == "ends":
                out += gate.finish(channel)
                if gate.finished:
                    out.append("MAX")
            else:
                out += gate.watermark(channel, int(what))
        told.append(f"{events} -> {' '.join(map(spell, out)) or '-'}")
    return "; ".join(told)


def spell(element: object) -> str:
    if isinstance(element, Watermark):
        return str(element.time_us)
    if isinstance(element, Status):
        return "IDLE" if element.idle else "ACTIVE"
    return str(element)


@pytest.mark.parametrize(
    ("channels", "story"),
    [
        (2, "c0:5 -> -; c1:3 -> 3; c1:7 -> 5; c0:4 -> -; c0:9 -> 7"),
        (
            2,
            (
                "c0:5 -> -; c1:3 -> 3; c1 idle -> 5; c1 active|c1:4 -> -; c0:8 -> 8; c1:10 -> -; "
                "c0:12 -> 10"
            ),
        ),
        (
            3,
            (
                "c0:5 -> -; c1:5 -> -; c2:20 -> 5; c2 idle -> -; c1 idle -> -; c0:9 -> 9; "
                "c1 active -> -; c0 idle -> -; c1 idle -> 20 IDLE"
            ),
        ),
        (
            2,
            (
                "c0:5 -> -; c1:3 -> 3; c0 ends -> -; c1 idle -> IDLE; c1 active|c1:6 -> ACTIVE 6; "
                "c1 ends -> MAX"
            ),
        ),
        (1, "c0:-7 -> -7; c0:-9 -> -; c0 idle -> IDLE; c0:2 -> ACTIVE 2"),
        (2, "c0 ends -> -; c1:4 -> 4; c1 ends -> MAX"),
    ],
)
def test_watermarks_of_several_inputs(channels, story):
    assert play(channels, story) == story


def test_an_element_after_the_end_of_its_channel_is_refused():
    gate = Gate()
    gate.add("a")
    list(gate.finish("a"))
    with pytest.raises(ProtocolError, match="after its end"):
        list(gate.watermark("a", 1))


def test_a_channel_that_comes_late_does_not_take_the_time_back():
    gate = Gate()
    gate.add("a")
    assert list(gate.watermark("a", 10)) == [Watermark(10)]
    gate.add("b")
    assert list(gate.watermark("a", 20)) == [Watermark(20)]
    assert list(gate.watermark("b", 15)) == []
    assert list(gate.watermark("b", 25)) == []
    assert list(gate.watermark("a", 30)) == [Watermark(25)]


@pytest.mark.parametrize("seed", range(50))
def test_the_output_never_regresses_and_never_passes_an_active_aligned_input(seed):
    rng = random.Random(seed)
    gate = Gate()
    names = list(range(rng.randint(1, 4)))
    for name in names:
        gate.add(name)
    last, finished = MIN_TIME, set()
    active = dict.fromkeys(names, True)
    newest = dict.fromkeys(names, MIN_TIME)
    behind: set[int] = set()
    for _ in range(200):
        open_names = [name for name in names if name not in finished]
        if not open_names:
            break
        name = rng.choice(open_names)
        action = rng.choice(
            ["watermark"] * 6 + ["idle", "active"] + ["finish"] * (rng.random() < 0.1)
        )
        if action == "watermark":
            time_us = (
                newest[name] + rng.randint(-3, 9) if newest[name] > MIN_TIME else rng.randint(0, 9)
            )
            out = list(gate.watermark(name, time_us))
            newest[name] = max(newest[name], time_us)
            active[name] = True
        elif action == "idle":
            out, active[name] = list(gate.go_idle(name)), False
        elif action == "active":
            out, active[name] = list(gate.active(name)), True
        else:
            out = list(gate.finish(name))
            finished.add(name)
        for element in out:
            if isinstance(element, Watermark):
                assert element.time_us > last
                last = element.time_us
        behind = {n for n in names if active[n] and newest[n] < last}
        caught_up = [n for n in names if active[n] and n not in finished and n not in behind]
        assert all(newest[n] >= last for n in caught_up)
