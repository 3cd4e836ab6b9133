"""One life of one job from one seed, and what must be true behind it."""

from __future__ import annotations

import functools
import random
from collections import Counter

from ledger import Ledger
from topologies import TOPOLOGIES, plan_of

from raystream.contracts.checkpointing import Checkpointing
from raystream.testing.world import Faults, World, without_faults


@functools.cache
def undisturbed(name: str) -> Counter[str]:
    """Give the rows of a job that nothing happens to."""
    ledger = Ledger()
    without_faults(plan_of(name, ledger, 1))
    return ledger.rows


def story(name: str, seed: int) -> tuple[World, Ledger]:
    """Make a world of a topology; the seed chooses parallelism, settings and what breaks."""
    rng = random.Random(f"{name} {seed}")
    ledger = Ledger()
    ledger.rng = rng
    ledger.failing = rng.choice([0.0, 0.0, 0.3])
    unaligned = rng.random() < 0.3
    settings = Checkpointing(
        "sim://",
        every=rng.choice(["2ms", "5ms", "15ms"]),
        timeout=rng.choice(["60ms", "1s"]),
        min_pause=rng.choice(["0s", "3ms"]),
        keep=rng.choice([1, 2, 3]),
        tolerate_failures=rng.choice([0, 2]),
        unaligned_after=rng.choice(["0s", "2ms"]) if unaligned else None,
    )
    lives = 1 if unaligned else rng.choice([1, 1, 2, 3])
    plans = [plan_of(name, ledger, rng.randint(1, 4), settings) for _ in range(lives)]
    faults = Faults(rng.randint(0, 3), rng.randint(0, 2), rng.randint(0, 2), rng.randint(0, 2))
    return World(plans, seed, faults, horizon=rng.choice([150, 500, 1_200])), ledger


def live(name: str, seed: int) -> World:
    """Let a job live, and compare what is visible with what an undisturbed run gives.

    Raises: AssertionError, JobFailed.
    """
    world, ledger = story(name, seed)
    world.run()
    wanted, seen = undisturbed(name), ledger.rows
    missing, extra = wanted - seen, seen - wanted
    assert not missing and not extra, (
        f"{name} seed={seed}: missing {list(missing.items())[:5]}, "
        f"too many {list(extra.items())[:5]}"
    )
    return world


NAMES = list(TOPOLOGIES)
