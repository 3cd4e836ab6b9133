"""One life of one job from one seed, and what must be true behind it."""

from __future__ import annotations

import functools
import pickle
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ledger import Ledger
from topologies import TOPOLOGIES, plan_of, replan_of

from raystream.contracts.checkpointing import Checkpointing
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry
from raystream.storage.jobs import read_manifest
from raystream.storage.layout import CHUNKS, chunk_attempt, is_manifest
from raystream.storage.log import read_log
from raystream.storage.retention import referenced
from raystream.testing.world import Faults, World, without_faults

State = dict[tuple[str, str], list[str]]

_NUMBERS_ARRIVAL = ("__slot", "__row", "__arrival")
"""Columns that say what came first, which is for the seed to choose."""


@dataclass(frozen=True)
class Calm:
    """A run that nothing happened to: what became visible, what was kept, how long it took."""

    rows: Counter[str]
    states: State
    steps: int


@functools.cache
def undisturbed(name: str) -> Calm:
    """Run a job that nothing happens to."""
    ledger = Ledger()
    world = without_faults(plan_of(name, ledger, 2))
    return Calm(ledger.rows, states(name, world), len(world.trace))


def states(name: str, world: World) -> State:
    """Give what must be the same in the end of every run, key for key."""
    found = {}
    for uid, section in TOPOLOGIES[name].states:
        rows = world.state(uid, section)
        found[uid, section] = sorted(repr(_plain(row)) for row in rows)
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        column: sorted(value, key=repr) if isinstance(value, list) else value
        for column, value in row.items()
        if column not in _NUMBERS_ARRIVAL
    } | _unpacked(row)


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """Read what is pickled; a number of arrival stands before a reduced row."""
    if not isinstance(row.get("pickled"), bytes):
        return {}
    value = pickle.loads(row["pickled"])
    return {"pickled": value[1:] if isinstance(value, tuple) else value}


@dataclass(frozen=True)
class Sharp:
    """What is not left to the seed, because a bug is sought that needs it."""

    settings: dict[str, Any] = field(default_factory=dict)
    faults: Faults | None = None
    failing: float | None = None
    lives: int | None = None
    parallelism: tuple[int, int] = (1, 4)
    steps_max: int = 60_000


def story(name: str, seed: int, sharp: Sharp | None = None) -> tuple[World, Ledger]:
    """Make a world of a topology; the seed chooses parallelism, settings and what breaks."""
    sharp = sharp or Sharp()
    rng = random.Random(f"{name} {seed}")
    calm = undisturbed(name)
    ledger = Ledger(calm.rows)
    ledger.rng = rng
    ledger.failing = rng.choice([0.0, 0.0, 0.3])
    unaligned = rng.random() < 0.3
    # Whoever is in a hurry counts on few subtasks, and gives up for good on more.
    resized = sharp.faults is not None and sharp.faults.resizes > 0
    hurried = rng.random() < 0.15 and not resized
    # A checkpoint of thirty subtasks, in one thread, takes longer than others may.
    tight = "60ms" if calm.steps < 1_000 else "150ms"
    settings: dict[str, Any] = {
        "every": rng.choice(["1ms", "2ms", "5ms"]),
        "timeout": f"{25 * calm.steps}us" if hurried else rng.choice([tight, "1s"]),
        "min_pause": rng.choice(["0s", "3ms"]),
        "keep": rng.choice([1, 2, 3]),
        "tolerate_failures": 20 if hurried else rng.choice([0, 2]),
        "unaligned_after": rng.choice(["0s", "2ms"]) if unaligned else None,
    }
    checkpoint = Checkpointing("sim://", **(settings | sharp.settings))
    lives = 1 if unaligned else rng.choice([1, 1, 2, 3])
    least, most = sharp.parallelism
    most = min(most, 2) if hurried else most
    counts = [rng.randint(least, most) for _ in range(sharp.lives or lives)]
    replans = [replan_of(name, ledger, count, checkpoint) for count in counts]
    plans = [replan.plan({}) for replan in replans]
    faults = Faults(*(rng.randint(0, count) for count in (3, 2, 2, 2, 2)))
    horizon = int(calm.steps * rng.choice([0.5, 1, 2.5]))
    world = World(
        plans,
        seed,
        sharp.faults or faults,
        horizon=horizon,
        steps_max=sharp.steps_max,
        replan=replans[0],
    )
    ledger.failing = ledger.failing if sharp.failing is None else sharp.failing
    ledger.durable = world.newest_durable
    return world, ledger


def live(name: str, seed: int, sharp: Sharp | None = None) -> World:
    """Let a job live, and compare what is visible and kept with what an undisturbed run gives.

    Raises: AssertionError, JobFailed.
    """
    wanted, kept = undisturbed(name).rows, undisturbed(name).states
    world, ledger = story(name, seed, sharp)
    world.run()
    told = f"{name} seed={seed}:"
    assert not ledger.wrongs, f"{told} {ledger.wrongs[0]}"
    missing, extra = wanted - ledger.rows, ledger.rows - wanted
    assert not missing, f"{told} missing {list(missing.items())[:5]}"
    assert not extra, f"{told} too many {list(extra.items())[:5]}"
    for place, rows in states(name, world).items():
        assert rows == kept[place], f"{told} state {place} is {rows}, undisturbed {kept[place]}"
    if len(world.plans) == 1:
        assert world.sizes == logged_sizes(world), f"{told} the log says another size"
    left = left_behind(world, ledger)
    assert not left, f"{told} left behind: {left[:5]}"
    return world


def logged_sizes(world: World) -> dict[str, int]:
    """Give how many subtasks the log says of each operator: what was asked for last, and done."""
    log = [one.entry for one in read_log(world.root).entries]
    scales = [one.scale for one in log if isinstance(one, AttemptEntry) and one.scale]
    assert world.replan is not None, "the job may be asked for another size"
    plan = world.replan.plan(scales[-1] if scales else {})
    return {node.name: chain.parallelism for chain in plan.chains for node in chain.nodes}


def left_behind(world: World, ledger: Ledger) -> list[str]:
    """Give what nobody needs and nobody will ever remove."""
    faults = world.faults
    left = []
    if not world.deaths:
        # Only whoever dies takes with it the knowledge of what it had begun.
        left += [f"transaction {token}" for token in sorted(ledger.open)]
    if faults.orphans or faults.storage:
        return left  # what a removed coordinator still wrote, or a disk would not remove
    store = world.root
    log = [one.entry for one in read_log(store).entries]
    entries = [entry for entry in log if isinstance(entry, CheckpointEntry)]
    kept = {entry.manifest for entry in entries}
    plan = world.plans[0]
    assert plan.checkpoint is not None, "a world's jobs are kept safe"
    if len(entries) > plan.checkpoint.keep:
        left.append(f"{len(entries)} checkpoints")
    left += [name for name in store.list() if is_manifest(name) and name not in kept]
    needed = referenced(read_manifest(store, manifest) for manifest in kept)
    for name in store.list(CHUNKS):
        # What the last attempt wrote for checkpoints that were given up, the next one sweeps.
        if f"{CHUNKS}/{name}" not in needed and chunk_attempt(name) != world.attempt:
            left.append(name)
    return left


NAMES = list(TOPOLOGIES)
