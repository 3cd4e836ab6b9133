"""Where a job keeps what it remembers, and which snapshot it starts from."""

from __future__ import annotations

import difflib
import logging
import time
import uuid

from raystream.coordinator.states import Beginning
from raystream.errors import PlanError, RestoreRefused
from raystream.flow.snapshots import Manifest
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.vault import Home
from raystream.storage.jobs import (
    Found,
    absolute,
    find,
    ids_of,
    load_manifest,
    new_id,
    newest,
    root_of,
)
from raystream.storage.store import open_store

LATEST = "latest"
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
    directory = "" if settings is None else _absolute(settings.directory)
    known = ids_of(directory, plan.job) if directory else []
    if start == LATEST and known:
        root = root_of(directory, plan.job, known[0])
        entry = newest(open_store(root), savepoints=True)
        if entry is not None:
            check(load_manifest(absolute(root, entry.manifest)), plan, allow_dropped, where)
        return Home(root, known[0], Beginning(resumed=True))
    source = ""
    if start is not None and start != LATEST:
        found = find(_absolute(start))
        check(found, plan, allow_dropped, where)
        source = found.url
    elif start is None and known:
        _LOG.warning(
            'job "%s" starts empty, though runs of that name have made checkpoints: '
            'run(from_snapshot="latest") or --from latest goes on where the newest was',
            plan.job,
        )
    job_id = new_id(int(time.time() * 1e6), uuid.uuid4().hex)
    root = root_of(directory, plan.job, job_id) if directory else ""
    return Home(root, job_id, Beginning(source=source))


def check(found: Found, plan: PhysicalPlan, allow_dropped: bool, where: str) -> None:
    """Refuse a snapshot that a job cannot take up.

    Raises: RestoreRefused naming what does not fit.
    """
    manifest = found.manifest
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
    return [entry.uid for entry in manifest.operators if entry.stateful]


def _absolute(path: str) -> str:
    return open_store(path).url
