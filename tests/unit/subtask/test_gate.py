"""Watermarks over several inputs: what goes on, case by case."""

from __future__ import annotations

import pytest

from raystream.errors import ProtocolError
from raystream.flow.element import Status, Watermark
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


def check(channels: int, story: str) -> None:
    assert play(channels, story) == story


def test_c4_the_output_is_the_least_of_the_active_channels():
    check(2, "c0:5 -> -; c1:3 -> 3; c1:7 -> 5; c0:4 -> -; c0:9 -> 7")


def test_c5_an_idle_channel_leaves_and_rejoins_once_it_has_caught_up():
    check(
        2,
        "c0:5 -> -; c1:3 -> 3; c1 idle -> 5; c1 active|c1:4 -> -; c0:8 -> 8; c1:10 -> -; "
        "c0:12 -> 10",
    )


def test_c6_when_all_are_idle_the_greatest_watermark_goes_out_and_then_the_idleness():
    check(
        3,
        "c0:5 -> -; c1:5 -> -; c2:20 -> 5; c2 idle -> -; c1 idle -> -; c0:9 -> 9; "
        "c1 active -> -; c0 idle -> -; c1 idle -> 20 IDLE",
    )


def test_c7_a_finished_channel_holds_nothing_back_and_only_all_of_them_make_max():
    check(
        2,
        "c0:5 -> -; c1:3 -> 3; c0 ends -> -; c1 idle -> IDLE; c1 active|c1:6 -> ACTIVE 6; "
        "c1 ends -> MAX",
    )


@pytest.mark.parametrize(
    ("channels", "story"),
    [
        (1, "c0:-7 -> -7; c0:-9 -> -; c0 idle -> IDLE; c0:2 -> ACTIVE 2"),
        (2, "c0 ends -> -; c1:4 -> 4; c1 ends -> MAX"),
        # A regressing watermark is ignored, and is a sign of life all the same.
        (2, "c0:5 -> -; c1:9 -> 5; c1 idle -> -; c1:7 -> -; c0:11 -> 9"),
        # Of the active ones c1 only catches up: c2, turning active, is alone in the set.
        (
            3,
            "c0:5|c1:3|c2:9 -> 3; c2 idle|c1 idle -> 5; c1 active|c0 idle -> -; c2 active -> 9",
        ),
        # An idle channel that ends was not holding anything back, and does not wake anybody.
        (2, "c0:5|c1:3 -> 3; c1 idle -> 5; c1 ends -> -; c0 idle -> IDLE; c0 ends -> MAX"),
        (2, "c0:5|c1 idle -> 5; c0 ends -> IDLE; c1:4 -> ACTIVE; c1:6 -> 6; c1 ends -> MAX"),
    ],
)
def test_watermarks_of_several_inputs(channels, story):
    check(channels, story)


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
