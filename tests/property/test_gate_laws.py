"""Laws of the gate: it is what the rules say, recomputed from all that has happened, each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.element import MIN_TIME, Status, Watermark
from raystream.subtask.gate import Gate

CHANNELS = st.integers(1, 4)
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(
            st.integers(-5, 40),
            st.sampled_from(["idle", "active", "idle", "active", "ends"]),
        ),
    ),
    max_size=80,
)


@dataclass
class Model:
    """The rules as they are written, over plain lists; nothing is kept but what they name."""

    watermarks: list[int]
    states: list[str] = field(default_factory=list)
    catching_up: set[int] = field(default_factory=set)
    out: int = MIN_TIME
    idle: bool = False

    def take(self, channel: int, what: int | str) -> list[object]:
        was = self.states[channel]
        if what == "ends":
            self.states[channel] = "finished"
        elif what == "idle":
            self.states[channel] = "idle"
        else:
            self.states[channel] = "active"
            if isinstance(what, int):
                # Turning active comes first: what it was behind of is the last output.
                if was == "idle" and self.watermarks[channel] < self.out:
                    self.catching_up.add(channel)
                told = self._tell() if was == "idle" else []
                self.watermarks[channel] = max(self.watermarks[channel], what)
                self._caught_up(channel)
                return told + self._tell()
            if was == "idle" and self.watermarks[channel] < self.out:
                self.catching_up.add(channel)
        return self._tell()

    def _caught_up(self, channel: int) -> None:
        if self.watermarks[channel] >= self.out:
            self.catching_up.discard(channel)

    def _tell(self) -> list[object]:
        told: list[object] = []
        of = {s: [c for c, state in enumerate(self.states) if state == s] for s in self.states}
        active, idle = of.get("active", []), of.get("idle", [])
        if active and self.idle:
            self.idle = False
            told.append("ACTIVE")
        self.catching_up &= set(active)
        aligned = [self.watermarks[c] for c in active if c not in self.catching_up]
        rises_to = None
        if aligned:
            rises_to = min(aligned)
        elif not active and idle:
            rises_to = max(self.watermarks[c] for c in idle)
        if rises_to is not None and rises_to > self.out:
            self.out = rises_to
            told.append(rises_to)
        if idle and not active and not self.idle:
            self.idle = True
            told.append("IDLE")
        return told


def apply(gate: Gate, channel: int, what: int | str) -> list[object]:
    if what == "ends":
        out = gate.finish(channel)
    elif what == "idle":
        out = gate.go_idle(channel)
    elif what == "active":
        out = gate.active(channel)
    else:
        assert isinstance(what, int)
        out = gate.watermark(channel, what)
    return [spell(element) for element in out]


def spell(element: Watermark | Status) -> object:
    if isinstance(element, Watermark):
        return element.time_us
    return "IDLE" if element.idle else "ACTIVE"


@given(CHANNELS, EVENTS)
def test_the_gate_is_what_the_rules_say(channels, events):
    gate, model = Gate(), Model([MIN_TIME] * channels, ["active"] * channels)
    for channel in range(channels):
        gate.add(channel)
    told: list[object] = []
    for drawn, what in events:
        channel = drawn % channels
        if model.states[channel] == "finished":
            continue  # nothing comes on a channel behind its end
        got = apply(gate, channel, what)
        assert got == model.take(channel, what), f"c{channel} {what} after {told}"
        told += got
    times = [one for one in told if isinstance(one, int)]
    assert times == sorted(set(times)), "the output rises"
    words = [one for one in told if isinstance(one, str)]
    assert words == ["IDLE", "ACTIVE"] * (len(words) // 2) + ["IDLE"] * (len(words) % 2)
    assert gate.finished == all(state == "finished" for state in model.states)
