"""A profile says where time went, in the formats that others read."""

from __future__ import annotations

import sys
import threading

from raystream.runtime import profiler
from raystream.runtime.profiler import Cost, Frame, Profile, Sampler

OUTER, INNER, OTHER = (Frame(name, f"/x/lib/python3/{name}.py", 1) for name in ("f", "g", "h"))


class Waiting:
    """A thread that stands in a known line until it is let go."""

    def __enter__(self):
        self.go, there = threading.Event(), threading.Event()

        def stands_still():
            there.set()
            self.go.wait()

        self.thread = threading.Thread(target=stands_still, name="window[0/1]")
        self.thread.start()
        assert there.wait(30)
        return self.thread

    def __exit__(self, *_):
        self.go.set()
        self.thread.join(30)


def made(cpu=True, **stacks):
    known = {"fg": (OUTER, INNER), "f": (OUTER,), "h": (OTHER,)}
    costs = {("t", known[name]): Cost(n, n * 10_000_000) for name, n in stacks.items()}
    return Profile("job window[0/1]", 1.0, 100, cpu, costs)


def test_a_thread_is_seen_by_its_name_and_its_functions():
    with Waiting() as thread:
        seen = profiler.profile("here", 0.03)
    stacks = [stack for (name, stack) in seen.stacks if name == thread.name]
    assert any(frame.name.endswith("stands_still") for stack in stacks for frame in stack)
    assert seen.samples >= 1  # how many depends on how busy the machine is
    assert seen.seconds >= 0.03


def test_the_thread_that_looks_is_left_out():
    seen = profiler.profile("here", 0.0)
    assert threading.current_thread().name not in {name for name, _ in seen.stacks}


def test_time_on_a_cpu_is_what_was_had_since_the_look_before():
    with Waiting() as thread:
        had_ns = iter([5_000, 7_000, 7_500])
        sampler = Sampler(lambda native: next(had_ns) if native == thread.native_id else None)
        for _ in range(3):
            frames = {thread.ident: sys._current_frames()[thread.ident]}
            sampler.take(frames, [thread])
    assert sum(cost.cpu_ns for cost in sampler.stacks.values()) == 2_500
    assert sum(cost.samples for cost in sampler.stacks.values()) == 3
    assert sampler.cpu_known


def test_different_stacks_are_bounded(monkeypatch):
    monkeypatch.setattr(profiler, "STACKS_MAX", 1)
    sampler = Sampler(lambda _: None)
    sampler._cost("t", (OUTER, INNER)).samples += 1
    sampler._cost("t", (OUTER, OTHER)).samples += 1
    sampler._cost("t", (OUTER, INNER, INNER, OTHER)).samples += 1
    assert set(sampler.stacks) == {("t", (OUTER, INNER)), ("t", (OUTER,))}


def test_a_function_counts_once_in_a_stack_where_it_calls_itself():
    stacks = {("t", (OUTER, OUTER, INNER)): Cost(3, 3_000_000)}
    first, second = profiler.top(Profile("x", 1.0, 3, True, stacks))
    assert (first["function"], first["own_us"], first["total_us"]) == ("g", 3_000, 3_000)
    assert (second["function"], second["own_us"], second["total_us"]) == ("f", 0, 3_000)


def test_the_top_is_ordered_by_what_functions_took_themselves():
    named = profiler.top(made(fg=5, f=1, h=3), 2)
    assert [one["function"] for one in named] == ["g", "h"]
    assert named[0]["own_share"] == round(5 / 9, 4)
    assert named[0]["file"] == "3/g.py"


def test_stacks_are_collapsed_to_lines():
    assert profiler.collapsed(made(fg=2, f=1)).split("\n") == [
        "t;f (3/f.py:1) 10000",
        "t;f (3/f.py:1);g (3/g.py:1) 20000",
    ]


def test_without_a_clock_of_the_cpu_samples_count():
    assert profiler.weights(made(cpu=False, fg=50)) == {("t", (OUTER, INNER)): 500_000}


def test_speedscope_finds_every_frame_and_weight():
    found = profiler.speedscope(made(fg=2, f=1, h=4))
    (one,) = found["profiles"]
    names = [frame["name"] for frame in found["shared"]["frames"]]
    spelled = {
        "".join(names[place] for place in sample): weight
        for sample, weight in zip(one["samples"], one["weights"], strict=True)
    }
    assert spelled == {"fg": 20_000, "f": 10_000, "h": 40_000}
    assert one["endValue"] == 70_000
