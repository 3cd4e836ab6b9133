"""Joins of tables in a loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines import TIME, Flow

Row = dict[str, Any]


@dataclass(frozen=True)
class Join:
    """What is joined on, how, and what is put behind a name that is taken."""

    left_on: list[str]
    right_on: list[str]
    how: str
    suffix: str

    @property
    def given(self) -> dict[str, Any]:
        return {"left_on": self.left_on, "right_on": self.right_on, "suffix": self.suffix}


def always(left: Row, right: Row) -> bool:
    return True


def joined(
    flow: Flow, other: Flow, join: Join, fits: Callable[[Row, Row], bool] = always
) -> tuple[list[Row], dict[str, Any]]:
    """Join two tables in a loop; what is hidden (``__…``) goes along, the time is the later one."""
    lefts, rights = flow.rows.to_dicts(), other.rows.to_dicts()
    left_on, right_on, how = join.left_on, join.right_on, join.how
    hidden = [name for name in flow.rows.columns if name.startswith("__") and name != TIME]
    kept = {
        name: name + join.suffix if name in flow.columns else name
        for name in other.columns
        if name not in right_on and not name.startswith("__")
    }
    like = {n: t for n, t in flow.rows.schema.items() if n != TIME}
    alone = how in ("semi", "anti")
    if not alone:
        like |= {kept[n]: t for n, t in other.rows.schema.items() if n in kept}
    by_key: dict[Any, list[int]] = defaultdict(list)
    for place, right in enumerate(rights):
        by_key[tuple(right[name] for name in right_on)].append(place)
    met: set[int] = set()
    made: list[Row] = []
    for left in lefts:
        key = tuple(left[name] for name in left_on)
        partners = [] if None in key else [p for p in by_key[key] if fits(left, rights[p])]
        met |= {*partners}
        if alone:
            made += [left] if bool(partners) == (how == "semi") else []
            continue
        for place in partners:
            right = rights[place]
            times = [one[TIME] for one in (left, right) if one[TIME] is not None]
            beside = {to: right[name] for name, to in kept.items()}
            made.append({**left, **beside, TIME: max(times, default=None)})
        if not partners and how in ("left", "full"):
            made.append({**left, **dict.fromkeys(kept.values())})
    if how in ("right", "full"):
        for place, right in enumerate(rights):
            if place in met:
                continue
            row = dict.fromkeys(flow.rows.columns) | {name: right[name] for name in hidden}
            row |= {a: right[b] for a, b in zip(left_on, right_on, strict=True)}
            row |= {to: right[name] for name, to in kept.items()}
            made.append({**row, TIME: right[TIME]})
    return made, like
