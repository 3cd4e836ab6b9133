"""What a job would keep of one operator that is asked for its changes only."""

from __future__ import annotations

from collections import Counter
from typing import Any

from raystream.keyed.snapshot import BUCKET, GONE, KEY_GROUP, Section, Share, Snapshot, merged

_WRITTEN = {"written", "__written"}


class Lineages:
    """Of each section the last whole table, and the deltas that have come behind it."""

    def __init__(self) -> None:
        self.sections: dict[str, list[Section]] = {}
        self.rows_changed = 0

    def take(self, changes: Snapshot) -> None:
        """Take what an operator gives as its changes: what it names no more is no more."""
        assert len({one.name for one in changes}) == len(changes), "no name comes twice"
        kept = {}
        for one in changes:
            assert set(one.key) <= set(one.table.column_names)
            if one.delta:
                before = self.sections.get(one.name)
                assert before is not None, f"a delta of {one.name} comes behind nothing"
                assert (one.key, one.share) == (before[0].key, before[0].share)
                kept[one.name] = [*before, one]
                self.rows_changed += one.table.num_rows
            else:
                assert GONE not in one.table.column_names
                kept[one.name] = [one]
        self.sections = kept

    def snapshot(self) -> Snapshot:
        """Put together what the operator keeps."""
        return tuple(
            Section(name, merged([one.table for one in some], some[0].key), some[0].share)
            for name, some in self.sections.items()
        )


def same_rows(got: Snapshot, wanted: Snapshot) -> None:
    """See that two snapshots hold the same rows, in any order within a key group."""
    assert {one.name for one in got} == {one.name for one in wanted}
    by_name = {one.name: one for one in wanted}
    for one in got:
        other = by_name[one.name]
        assert one.share is other.share
        assert one.table.schema.equals(other.table.schema), one.name
        rows, kept = _rows(one), _rows(other)
        if one.name == "windows" and BUCKET in one.table.column_names:
            # Partials that were added are merged in the operator, and not here.
            assert set(_places(one)) == set(_places(other))
        elif _WRITTEN & set(one.table.column_names):
            # What has expired is not told: it is dead by the time of its writing.
            assert not kept - rows, one.name
        else:
            assert rows == kept, one.name
        if one.share is Share.KEYED:
            groups = one.table.column(KEY_GROUP).to_pylist()
            assert groups == sorted(groups)


def _places(section: Section) -> list[tuple[int, int]]:
    places = section.table.select([KEY_GROUP, BUCKET]).to_pylist()
    return [(place[KEY_GROUP], place[BUCKET]) for place in places]


def _rows(section: Section) -> Counter[Any]:
    return Counter(map(repr, section.table.to_pylist()))
