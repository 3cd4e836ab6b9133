"""Where a job keeps what it remembers, and which snapshot it starts from."""

from __future__ import annotations

import difflib
import logging
import uuid

from raystream.clock import SystemClock
from raystream.coordinator.states import Beginning
from raystream.errors import PlanError, RestoreRefused
from raystream.flow.snapshots import Manifest
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rules import ATTACHED
from raystream.runtime.vault import Home
from raystream.storage.jobs import (
    LATEST,
    Found,
    job_ids,
    job_root,
    new_job_id,
    read_manifest,
    resolve,
)
from raystream.storage.opening import open_store

_LOG = logging.getLogger("raystream")


def home_of(
    plan: PhysicalPlan, start: str | None, *, allow_dropped: bool, where: str
) -> Home | None:
    """Decide where a job lives and how it begins; None: it remembers nothing and starts empty.

    ``start`` is a path or URL of a snapshot, or ``latest``: the newest checkpoint or savepoint that
    a job of this name has in the directory, whose run then goes on.
    Raises: RestoreRefused where the snapshot is not this job's; ConfigError where there is none.
    """
    settings = plan.checkpoint
    if start is None and settings is None:
        return None
    if start == LATEST and settings is None:
        raise PlanError(
            'from_snapshot="latest" looks into the checkpoint directory, and the job has none',
            where=where,
            hint="give Job(checkpoint=…), or the path of a snapshot",
        )
    directory = None if settings is None else open_store(settings.directory).url
    found = None if start is None else resolve(start, directory, plan.job)
    if found is not None:
        check(found, plan, allow_dropped, where)
    if found is not None and found.job_id is not None and directory is not None:
        root = job_root(directory, plan.job, found.job_id)
        return Home(root, found.job_id, Beginning(resumed=True))
    if start is None and directory is not None and job_ids(open_store(directory), plan.job):
        _LOG.warning(
            'job "%s" starts empty, though it has run before: run(from_snapshot="latest"), or '
            "--from latest, goes on where its newest checkpoint was",
            plan.job,
        )
    job_id = new_job_id(SystemClock(), uuid.uuid4().hex[:8])
    root = "" if directory is None else job_root(directory, plan.job, job_id)
    return Home(root, job_id, Beginning(source="" if found is None else found.url))


def check(found: Found, plan: PhysicalPlan, allow_dropped: bool, where: str) -> None:
    """Refuse a snapshot that a job cannot take up.

    Raises: RestoreRefused naming what does not fit.
    """
    manifest = read_manifest(open_store(found.root), found.manifest)
    if manifest.max_parallelism != plan.max_parallelism:
        raise RestoreRefused(
            f"{found.url} was taken with max_parallelism {manifest.max_parallelism}, the job has "
            f"{plan.max_parallelism}",
            where=where,
            hint="max_parallelism is the number of key groups, which a job keeps for life",
        )
    verbs = {node.uid: node.spec.verb for chain in plan.chains for node in chain.nodes}
    missing = [one for one in _stateful(manifest) if one not in verbs]
    if missing and not allow_dropped:
        close = {uid: difflib.get_close_matches(uid, verbs, 1) for uid in missing}
        listed = ", ".join(
            f'"{uid}"' + (f' (did you mean "{near[0]}"?)' if near else "")
            for uid, near in close.items()
        )
        raise RestoreRefused(
            f"{found.url} holds state of operators that the job does not have: {listed}",
            where=where,
            hint="give operators the uid they had with .uid(…), or drop their state with "
            "allow_dropped_state=True (--allow-dropped-state)",
        )
    for entry in manifest.operators:
        verb = verbs.get(entry.uid, entry.verb)
        if entry.stateful and verb != entry.verb:
            raise RestoreRefused(
                f'{found.url} holds state of "{entry.uid}", which was a {entry.verb} and is a '
                f"{verb} now",
                where=where,
                hint="give one of them another name or uid",
            )


def _stateful(manifest: Manifest) -> list[str]:
    """Give the uids of operators with state, those that a planner puts in and leaves out aside."""
    return [one.uid for one in manifest.operators if one.stateful and one.verb not in ATTACHED]
