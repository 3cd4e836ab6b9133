"""What a snapshot holds, read with no job running: states by their names, sections by theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from raystream.errors import ConfigError, NotFound
from raystream.flow.snapshots import Manifest
from raystream.keyed.operator_states import PREFIX as UNKEYED
from raystream.keyed.snapshot import KEY_GROUP, Share
from raystream.keyed.state_tables import (
    MAP_KEY,
    PICKLED,
    PICKLED_KEY,
    PICKLED_MAP_KEY,
    VALUE,
    is_running,
    key_names,
    shown,
)
from raystream.keyed.store import PREFIX as KEYED
from raystream.storage.jobs import LATEST, Found, read_manifest, resolve
from raystream.storage.opening import open_store
from raystream.storage.store import Store
from raystream.storage.survey import Surveyed, survey, whole_section


@dataclass(frozen=True, slots=True)
class Held:
    """One thing that an operator has in a snapshot: a state by its name, or a section of its own.

    ``keys`` are the key columns with their types, where there is a key; ``type`` is that of the
    value, ``pickled`` where a state has none, or the columns of a section. ``rows`` and ``bytes``
    count what is stored.
    """

    uid: str
    operator: str
    verb: str
    name: str
    keys: tuple[str, ...]
    type: str
    rows: int
    bytes: int

    def __str__(self) -> str:
        keys = f" by {', '.join(self.keys)}" if self.keys else ""
        return (
            f'{self.uid} ({self.verb}) "{self.name}": {self.type}{keys}, {self.rows} rows, '
            f"{self.bytes} bytes"
        )


def held(path: str) -> list[Held]:
    """Tell what the snapshot that a path means holds, operator by operator.

    Raises: ConfigError where there is no snapshot; StorageError.
    """
    return [_held(one) for one in survey(*opened(path))]


def read(
    path: str, uid: str | None = None, name: str | None = None, *, allow_pickle: bool = False
) -> pa.Table:
    """Read what an operator has in a snapshot; ``raystream.state.read`` says how it looks.

    Raises: ConfigError naming what there is, if the one asked for is not; UserError for pickles.
    """
    manifest, store = opened(path)
    found = survey(manifest, store)
    one = _chosen(found, uid, name, path)
    section = whole_section(manifest, store, one.uid, one.section)
    if is_state(one) or is_running(one.schema):
        return shown(section, f'"{name_of(one)}" of "{one.uid}"', allow_pickle=allow_pickle)
    return section.table.drop_columns([KEY_GROUP]) if is_keyed(one) else section.table


def opened(path: str) -> tuple[Manifest, Store]:
    """Read the manifest that a path means, and open the root that holds it."""
    if path == LATEST:
        raise ConfigError(
            '"latest" is of a job; here no job says where its checkpoints are',
            hint="give the folder of a savepoint or of a job, or the file of a manifest",
        )
    try:
        found: Found | None = resolve(path, None, "")
    except ConfigError as error:
        error.where = None  # nothing is started from it
        raise
    assert found is not None, "a path has a snapshot, or is refused"
    store = open_store(found.root)
    return read_manifest(store, found.manifest), store


def _chosen(found: Iterable[Surveyed], uid: str | None, name: str | None, path: str) -> Surveyed:
    every = [*found]
    uids = [*dict.fromkeys(one.uid for one in every)]
    if uid is not None and uid not in uids:
        raise NotFound(
            f'no operator with uid "{uid}" has anything in {path}',
            hint=f"those that have: {', '.join(uids) or 'none'}",
        )
    some = [one for one in every if uid in (None, one.uid)]
    if name is not None:
        # The name of a state goes before that of a section.
        fits = [one for one in some if is_state(one) and name_of(one) == name]
        fits = fits or [one for one in some if one.section == name]
    else:
        fits = [one for one in some if is_state(one) or is_running(one.schema)]
        fits = fits or some
    if len(fits) == 1:
        return fits[0]
    what = "several things" if fits else f'nothing called "{name}"' if name else "nothing"
    listed = ", ".join(f"{one.uid} {name_of(one)}" for one in (fits or some))
    raise NotFound(
        f"there {'are' if len(fits) > 1 else 'is'} {what} to read in {path}",
        hint=f"give uid and name of one of these: {listed or 'none'}",
    )


def _held(one: Surveyed) -> Held:
    schema = one.schema
    if is_state(one):
        keys = key_names(schema) if one.share == Share.KEYED.value else []
        kind = _value_type(schema)
    elif is_running(schema):
        keys = [name for name in schema.names if name[:2] != "__"]
        kind = _columns([name for name in schema.names if name[:2] == "__" and name != KEY_GROUP])
    else:
        keys, kind = [], _columns([name for name in schema.names if name != KEY_GROUP])
    shown_keys = tuple(
        "key: pickled" if name == PICKLED_KEY else f"{name}: {schema.field(name).type}"
        for name in keys
    )
    return Held(
        one.uid, one.operator, one.verb, name_of(one), shown_keys, kind, one.rows, one.bytes
    )


def _columns(names: Iterable[str]) -> str:
    return f"columns {', '.join(names)}"


def _value_type(schema: pa.Schema) -> str:
    def typed(plain: str, pickled: str) -> str | None:
        if plain in schema.names:
            return str(schema.field(plain).type)
        if pickled not in schema.names:
            return None
        return "list<pickled>" if pa.types.is_list(schema.field(pickled).type) else "pickled"

    value, key = typed(VALUE, PICKLED), typed(MAP_KEY, PICKLED_MAP_KEY)
    return str(value) if key is None else f"map<{key}, {value}>"


def name_of(one: Surveyed) -> str:
    """Give what a state was declared as; of anything else the name of its section."""
    for prefix in (KEYED, UNKEYED):
        if one.section.startswith(prefix):
            return one.section.removeprefix(prefix)
    return one.section


def is_state(one: Surveyed) -> bool:
    """Tell whether a function declared it."""
    return one.section.startswith((KEYED, UNKEYED))


def is_keyed(one: Surveyed) -> bool:
    """Tell whether each row of it belongs to a key."""
    return one.share == Share.KEYED.value
