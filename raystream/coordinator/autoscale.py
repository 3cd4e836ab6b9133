"""How many subtasks a job should have: decisions from loads, a pure function of what was seen.

Capacity comes first: what one subtask does in a second of work counts only where it was seen while
some input was out of credit, for the cost of a row falls as batches grow; or, where rows are so
slow that credit lasts for minutes, while seconds of work were queued. ``demand`` tells what is due.
A job grows once it has wanted to for a while, and shrinks once it has needed no more for a longer
one; in between lies a band in which it stays. What did not help is not tried again soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raystream.contracts.autoscale import Autoscale
from raystream.coordinator.demand import (
    Arrivals,
    arrivals,
    capacity,
    fit,
    growths,
    hot_share,
    upstream_sources,
)
from raystream.coordinator.loads import Load
from raystream.coordinator.rates import Known
from raystream.coordinator.wants import Want, ahead, at_rest, bounds, brings, full, grown, shrunk
from raystream.graph.freedom import Freedom
from raystream.graph.physical import PhysicalPlan

_HELD_LEAST = 0.1
"""An upstream subtask that waits so much for credit says that its consumers are full."""

_FULL_LEAST = 0.8
"""Of several consumers the full one is busy, or waits itself, for so much of its time."""

_QUEUED_LEAST_S = 2.0
"""A subtask with so much work in its queue that it is never idle is full, whatever the credit."""

_GROW_ABOVE, _GROW_FULL = 1.28, 0.95
"""A chain grows where it would be busier than its aim by so much, or than that at all."""

_SHRINK_BELOW = 0.7
"""A chain shrinks to this share of its size or less: anything else is not worth the pause."""

_BUSY_LEAST = 0.02
"""Who works less than that says nothing of what a row costs."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Lengths of time, all from the cooldown."""

    cooldown_us: int

    @property
    def window_us(self) -> int:
        """A job has wanted to grow for so long before it does."""
        return self.cooldown_us // 2

    @property
    def look_us(self) -> int:
        """Rates are means of so long."""
        return max(1, self.window_us // 3)

    @property
    def stable_us(self) -> int:
        """A job has needed no more for so long before it shrinks; a backlog goes in that time."""
        return 5 * self.cooldown_us

    @property
    def forget_us(self) -> int:
        """What did not help may be tried again."""
        return 30 * self.cooldown_us


@dataclass(frozen=True, slots=True)
class Decision:
    """New numbers of subtasks by chain, and a sentence that says why; none: the job stays."""

    targets: Mapping[str, int]
    reason: str

    def __bool__(self) -> bool:
        return bool(self.targets)


@dataclass(slots=True)
class Policy:
    """The decisions of one job; what it remembers it has been told.

    ``look`` is asked once in a while; ``began`` and ``refused`` tell what became of a decision.
    """

    settings: Autoscale
    known: dict[str, Known] = field(default_factory=dict)
    quiet_until_us: int = 0
    refusals: int = 0
    wants: Mapping[str, Want] = field(default_factory=dict)  # of the last look
    _growths: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    _fresh: tuple[int, float, float] | None = None

    @property
    def spans(self) -> Spans:
        return Spans(self.settings.cooldown_us)

    def began(self, now_us: int) -> None:
        """Note that an attempt runs, at whatever size."""
        self.quiet_until_us = max(self.quiet_until_us, now_us + self.spans.cooldown_us)
        for known in self.known.values():
            known.start(now_us)

    def done(self, now_us: int) -> None:
        """Note that the job runs at the size that was decided."""
        self.refusals = 0
        for chain, growth in self._growths.items():
            self.known[chain].grow(*growth, now_us, self.spans.forget_us)
            self._fresh = growth
        self._growths = {}

    def refused(
        self, targets: Mapping[str, int], sizes: Mapping[str, int], now_us: int, error: str
    ) -> None:
        """Note that the job cannot have a size: it is tried again later, and smaller."""
        self.refusals += 1
        pause_us = self.spans.cooldown_us << min(self.refusals, 6)
        self.quiet_until_us = now_us + pause_us
        for chain, target in targets.items():
            size = sizes.get(chain, target)
            known = self.known.setdefault(chain, Known())
            known.rising_us = None
            if target > size:
                until_us = now_us + self.spans.forget_us * known.refuse()
                known.bar(size + (target - size) // 2, until_us, error)

    def look(
        self,
        plan: PhysicalPlan,
        freedoms: Mapping[str, Freedom],
        loads: Mapping[str, Load],
        now_us: int,
    ) -> Decision:
        """Decide what is to become of the size of a job.

        Units: ``now_us`` is monotonic.
        """
        sources = self._sources(plan, loads)
        for chain in plan.chains:
            if chain.name not in self.known:
                self.known[chain.name] = Known()
                # One subtask had it all; what shared it has parted since.
                if self._fresh is not None:
                    self.known[chain.name].grow(*self._fresh, now_us, self.spans.forget_us)
            self._learn(chain.name, plan, loads, sources, now_us)
        self._fresh = None
        wants = self.wants = self._wants(plan, freedoms, loads, sources, now_us)
        if now_us < self.quiet_until_us:
            left_s = (self.quiet_until_us - now_us) / 1e6
            return Decision(
                {}, f"it has begun or changed a moment ago: it looks for another {left_s:.0f} s"
            )
        read = sum(loads[name].rate for name in sources)
        reads = {chain.name: read * _taken(plan, loads, chain.name) for chain in plan.chains}
        growing = self._growing(freedoms, wants, reads, now_us)
        if growing:
            return growing
        waiting = any(want.grows for want in wants.values())
        behind = any(one.behind for one in sources.values())
        shrinking = (
            {} if waiting or behind else self._shrinking(wants, now_us, self.spans.stable_us)
        )
        if shrinking:
            targets = _together(shrinking, freedoms, wants)
            return Decision(targets, shrunk(targets, wants, self.spans.stable_us))
        return Decision({}, at_rest(wants, sources, growing=waiting))

    # What is known ---------------------------------------------------------------------------

    def _sources(self, plan: PhysicalPlan, loads: Mapping[str, Load]) -> dict[str, Arrivals]:
        spans = self.spans
        return {
            chain.name: arrivals(
                loads[chain.name],
                self.settings.target_utilisation,
                spans.look_us / 1e6,
                spans.stable_us / 1e6,
            )
            for chain in plan.chains
            if not plan.inputs(chain.name)
        }

    def _learn(
        self,
        chain: str,
        plan: PhysicalPlan,
        loads: Mapping[str, Load],
        sources: Mapping[str, Arrivals],
        now_us: int,
    ) -> None:
        """Take what a chain does while its input waits for it: that is all that it can do."""
        known, load = self.known[chain], loads[chain]
        if chain in sources:
            pressed = held = sources[chain].behind or not load.caught_up
            alone = max(load.held) < _HELD_LEAST
            reading = zip(load.rows, load.held, strict=True)
            spent = sum(1 - held for rows, held in reading if rows > 0)
        else:
            upstream = [loads[edge.upstream].held for edge in plan.inputs(chain)]
            held = full(load) >= _FULL_LEAST and max(map(max, upstream)) >= _HELD_LEAST
            pressed = held or _queues(load)
            alone = max(load.busy) >= _FULL_LEAST
            spent = sum(load.busy)
        rate = load.rate / spent if pressed and spent >= _BUSY_LEAST and load.rate > 0 else None
        known.see(now_us, rate, self.spans.window_us, self.spans.forget_us)
        reads, window_us = sum(loads[name].rate for name in sources), self.spans.window_us
        # What only waits in a queue does not hold the sources up: they read what there is to read.
        if held and alone and known.useless(load.parallelism, reads, now_us, window_us):
            why = f"{load.parallelism} subtasks do no more than {known.before_count} did"
            known.bar(load.parallelism, now_us + self.spans.forget_us, why)

    def _wants(
        self,
        plan: PhysicalPlan,
        freedoms: Mapping[str, Freedom],
        loads: Mapping[str, Load],
        sources: Mapping[str, Arrivals],
        now_us: int,
    ) -> dict[str, Want]:
        """Size every chain for what is due, less what some chain cannot do at any size."""
        due = {
            name: one.due / loads[name].rate if loads[name].rate > 0 else 1.0
            for name, one in sources.items()
        }
        for _ in plan.chains:
            grown = growths(plan, loads, due)
            wants = {
                chain.name: self._want(loads[chain.name], freedoms, grown[chain.name], now_us)
                for chain in plan.chains
            }
            narrow = [(name, brings(want)) for name, want in wants.items()]
            narrowest, share = min(narrow, key=lambda one: one[1])
            if share >= 1 - 1e-9:
                break
            # Nothing beyond what the narrowest does will come through, so nobody is sized for it.
            for name in upstream_sources(plan, narrowest):
                due[name] *= share
        for name, want in wants.items():
            self._note(self.known[name], want, now_us)
        return wants

    def _want(
        self, load: Load, freedoms: Mapping[str, Freedom], growth: float, now_us: int
    ) -> Want:
        known, freedom = self.known[load.chain], freedoms[load.chain]
        size, hot = load.parallelism, 0.0 if load.splits is not None else hot_share(load)
        most, why = bounds(load, freedom, known.barred(now_us))
        want = Want(load, freedom, growth, known.rate, hot, most, size)
        if freedom.fixed:
            want.limit = why
        elif size < freedom.least:
            want.target, want.grows = freedom.least, True
        if known.rate is None:
            return want
        utilisation = self.settings.target_utilisation
        used = want.due / capacity(size, known.rate, hot)
        want.short = used > min(_GROW_FULL, utilisation * _GROW_ABOVE)
        if freedom.fixed:
            return want
        wanted = fit(want.due, known.rate, utilisation, hot, (freedom.least, most))
        if not wanted.enough:
            hotter = hot > 0 and wanted.count < most
            want.limit = f"one key has {hot:.0%} of the rows" if hotter else why
        if wanted.count > size and want.short:
            want.target, want.grows = ahead(want, known, wanted), True
        return want

    def _note(self, known: Known, want: Want, now_us: int) -> None:
        """Note how many subtasks would do: from busy time, which says too much if anything."""
        busy, utilisation = sum(want.load.busy), self.settings.target_utilisation
        busy *= max(1.0, want.growth)
        between = (want.freedom.least, want.most)
        count = fit(busy, 1.0, utilisation, want.hot, between).count
        if want.load.splits is not None and known.rate is not None:
            # Reading is no work, and takes its time.
            count = max(count, fit(want.due, known.rate, utilisation, 0.0, between).count)
        known.need(now_us, count, self.spans.stable_us)
        if not want.grows:
            known.rising_us = None
        elif known.rising_us is None:
            known.rising_us = now_us

    # Decisions -------------------------------------------------------------------------------

    def _growing(
        self,
        freedoms: Mapping[str, Freedom],
        wants: Mapping[str, Want],
        reads: Mapping[str, float],
        now_us: int,
    ) -> Decision:
        since = [k.rising_us for k in self.known.values() if k.rising_us is not None]
        if not since or now_us - min(since) < self.spans.window_us:
            return Decision({}, "")
        found = {
            name: want.target
            for name, want in wants.items()
            if want.grows and want.target > want.load.parallelism
        }
        targets = _together(found, freedoms, wants)
        if not targets:
            return Decision({}, "")
        self._growths = {
            name: (wants[name].load.parallelism, reads[name], wants[name].due) for name in targets
        }
        aim = self.settings.target_utilisation
        reasons = [grown(wants[name], target, aim) for name, target in targets.items()]
        # Rows pause but once for it: whoever has too many gives them back in the same move.
        others = {name: want for name, want in wants.items() if not want.grows}
        idle = self._shrinking(others, now_us, self.spans.cooldown_us)
        fewer = {n: t for n, t in _together(idle, freedoms, wants).items() if n not in targets}
        if fewer:
            reasons.append(shrunk(fewer, wants, self.spans.cooldown_us))
        return Decision({**targets, **fewer}, "; ".join(reasons))

    def _shrinking(self, wants: Mapping[str, Want], now_us: int, stable_us: int) -> dict[str, int]:
        found = {}
        for name, want in wants.items():
            known, size = self.known[name], want.load.parallelism
            needed = known.needed(now_us, stable_us)
            if want.freedom.fixed or needed is None or needed >= size:
                continue
            if size <= want.freedom.most and needed > size * _SHRINK_BELOW:
                continue
            found[name] = needed
        for name in found:
            self.known[name].shrink(now_us)
        return found


def _queues(load: Load) -> bool:
    """Tell whether a subtask that is never idle has seconds of work before it."""
    both = zip(load.busy, load.queued, strict=False)
    return any(busy >= _GROW_FULL and s >= _QUEUED_LEAST_S for busy, s in both)


def _taken(plan: PhysicalPlan, loads: Mapping[str, Load], chain: str) -> float:
    """Tell which share of the rows that are sent to a chain it takes in; the others queue."""
    sent = sum(loads[edge.upstream].out.get(edge.id, 0.0) for edge in plan.inputs(chain))
    return min(1.0, loads[chain].rate / sent) if sent > 0 else 1.0


def _together(
    targets: Mapping[str, int], freedoms: Mapping[str, Freedom], wants: Mapping[str, Want]
) -> dict[str, int]:
    """Let chains that ``forward()`` joins move as one, as far as all of them may."""
    found: dict[str, int] = {}
    for name in targets:
        group = freedoms[name].together or frozenset({name})
        most = max(targets.get(one, wants[one].load.parallelism) for one in group)
        free = all(freedoms[one].least <= most <= freedoms[one].most for one in group)
        for one in sorted(group) if free or len(group) == 1 else ():
            if wants[one].load.parallelism != most:
                found[one] = most
    return found
