import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.changes import OPS, apply_changes, kept_ops

CODES = {op: code for code, op in enumerate(OPS)}
KEYS, VALUES = st.sampled_from("ab"), st.integers(0, 2)


def applied(changes, *, unique):
    """Apply (op, key, value) and give the rows that are left."""
    rows = [(key, value) for _, key, value in changes]
    keys = [key for _, key, _ in changes] if unique else rows
    places = apply_changes(keys, rows, [op for op, _, _ in changes], unique=unique)
    return [rows[place] for place in places]


@given(st.lists(st.tuples(KEYS, VALUES)), st.booleans(), st.randoms(use_true_random=False))
def test_upserts_and_retractions_of_a_table_give_the_table(writes, retracting, rng):
    table, changes = {}, []
    for key, value in writes:
        if key in table and rng.random() < 0.3:
            gone = table.pop(key)
            changes.append(("-D", key, gone if retracting else None))
        elif key in table:
            if retracting:
                changes.append(("-U", key, table[key]))
            changes.append(("+U", key, value))
            table[key] = value
        else:
            # A filter in front may have made an insert of it, or not have seen the pair.
            changes.append((rng.choice(["+I", "+U"]), key, value))
            table[key] = value
        assert sorted(applied(changes, unique=True)) == sorted(table.items())
        if retracting:
            assert sorted(applied(changes, unique=False)) == sorted(table.items())


@given(st.lists(st.tuples(KEYS, VALUES)), st.randoms(use_true_random=False))
def test_a_table_whose_key_is_all_columns_holds_equal_rows(writes, rng):
    held, changes = [], []
    for row in writes:
        if held and rng.random() < 0.4:
            gone = held.pop(rng.randrange(len(held)))
            changes.append((rng.choice(["-D", "-U"]), *gone))
        else:
            held.append(row)
            changes.append((rng.choice(["+I", "+U"]), *row))
    assert sorted(applied(changes, unique=False)) == sorted(held)


def test_rows_of_one_key_in_any_order_are_taken_back_by_what_they_hold():
    changes = [("+I", "a", 1), ("+I", "a", 2), ("-D", "a", 1)]
    assert applied(changes, unique=True) == [("a", 2)]
    assert applied([("+I", "a", 1), ("+U", "a", 2)], unique=True) == [("a", 2)]
    assert applied([("+I", "a", 1), ("-D", "a", None)], unique=True) == []
    changes = [("+I", "a", 1), ("+I", "a", 2), ("-U", "a", 1), ("+U", "a", 3)]
    assert applied(changes, unique=True) == [("a", 2), ("a", 3)]
    assert applied([("-D", "a", 1), ("+I", "a", 1)], unique=True) == [("a", 1)]


def test_of_an_update_that_passes_in_part_a_delete_or_an_insert_is_left():
    ops = np.array([CODES[op] for op in ("+I", "-U", "+U", "-U", "+U", "-U", "+U", "-D")], np.int8)
    passes = np.array([1, 1, 0, 0, 1, 1, 1, 1], bool)
    kept = [OPS[code] for code in kept_ops(ops, passes)[passes]]
    assert kept == ["+I", "-D", "+I", "-U", "+U", "-D"]
    alone = np.array([CODES["+U"], CODES["-U"]], np.int8)
    assert kept_ops(alone, np.array([True, False])) is alone
    assert not len(kept_ops(alone[:0], passes[:0]))
