"""A chain reads history to its end, then what is live, and goes on from anywhere in both."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from positions import check_positions, read_on

import raystream as rs
from raystream.connectors.items import ItemsSource
from raystream.contracts.source import discovery_period_us

T = rs.testing
N = pa.schema({"n": pa.int64()})


class Live(rs.Source):
    """Splits of numbers, made when they are listed, as one that starts at "now" would do."""

    schema = N

    def __init__(self, log: list[str], starts: dict[str, int], *, bounded: bool = True) -> None:
        self.log, self.starts, self.bounded = log, starts, bounded

    def splits(self) -> list[rs.Split]:
        self.log.append("live")
        return [rs.Split(name, start, {"n": start}) for name, start in self.starts.items()]

    def discover(self) -> list[rs.Split]:
        return [*self.splits(), rs.Split("new", 900)]

    def open(self, split: rs.Split, position: int | None) -> rs.Reader:
        rows = pa.table({"n": range(split.payload, split.payload + 4)})
        return ItemsSource(rows).open(split, position)


class History(Live):
    """The same, with an end."""

    def splits(self) -> list[rs.Split]:
        found = super().splits()
        self.log[-1] = "history"
        return found


def given(source: rs.Source, split: rs.Split) -> list[int]:
    return [row["n"] for row, _ in read_on(source, split, None, random.Random(0), 3)[0]]


def four(start: int) -> list[int]:
    return list(range(start, start + 4))


def test_each_live_split_comes_behind_its_share_of_history():
    log: list[str] = []
    history = History(log, {"a": 0, "b": 10, "c": 20})
    chained = rs.chain(history, Live(log, {"x": 500, "y": 600}, bounded=False))
    first, second = chained.splits()
    assert log == ["live", "history"]  # "now" is settled before history is listed
    assert (first.id, second.id) == ("live x", "live y")
    assert given(chained, first) == [*four(0), *four(20), *four(500)]
    assert given(chained, second) == [*four(10), *four(600)]
    assert (first.earliest, second.earliest) == ({"n": 0}, {"n": 10})
    assert not chained.bounded


def test_live_splits_without_history_and_history_without_live_splits_are_read():
    chained = rs.chain(History([], {"a": 0}), Live([], {"x": 500, "y": 600}))
    assert [given(chained, split) for split in chained.splits()] == [
        [*four(0), *four(500)],
        four(600),
    ]
    alone = rs.chain(History([], {"a": 0, "b": 10}), Live([], {}, bounded=False))
    assert [given(alone, split) for split in alone.splits()] == [four(0), four(10)]


def test_what_is_discovered_later_is_live_only_and_named_as_before():
    chained = rs.chain(History([], {"a": 0}), Live([], {"x": 500}, bounded=False))
    (known,) = chained.splits()
    again, new = chained.discover()
    assert (again.id, new.id) == (known.id, "live new")
    assert given(chained, new) == four(900)
    assert discovery_period_us(chained) == discovery_period_us(Live([], {}, bounded=False))


def test_it_goes_on_from_any_position_on_both_sides_of_the_seam(tmp_path):
    (tmp_path / "a.csv").write_text("n\n1\n2\n3\n")
    (tmp_path / "b.json").write_text('{"n": 4}\n{"n": "x"}\n{"n": 5}\n')
    files = [rs.FileSource(tmp_path / name, schema=N) for name in ("a.csv", "b.json")]
    chained = rs.chain(rs.chain(*files), Live([], {"x": 6, "y": 100})).tolerating()
    rows, broken = check_positions(chained, seed=1, rows_max=2)
    assert [row["n"] for row, _ in rows] == [1, 2, 3, 4, 5, *four(6), *four(100)]
    assert [raw for raw, _ in broken] == [b'{"n": "x"}']


def test_a_position_at_the_seam_does_not_open_what_has_ended():
    history = History([], {"a": 0})
    chained = rs.chain(history, Live([], {"x": 500}))
    (split,) = chained.splits()
    reader = chained.open(split, None)
    assert reader.poll(4).num_rows == 4
    assert reader.position() == (0, "a", 4)
    assert reader.poll(1).to_pylist() == [{"n": 500}]
    assert reader.position() == (1, "x", 1)
    reader.checkpointed((0, "a", 4))
    reader.close()
    assert chained.open(split, (2, None, None)).poll(1) is rs.END


def test_a_share_that_was_dealt_otherwise_is_refused_not_read_from_the_wrong_place():
    history = History([], {"a": 0, "b": 10})
    (split,) = rs.chain(history, Live([], {"x": 500})).splits()
    later = rs.chain(history, Live([], {"x": 500, "y": 600}))
    with pytest.raises(rs.SourceError, match="was reading b, which is now in another share"):
        later.open(later.splits()[0], (1, "b", 2))
    # The split as it was listed first still says what its share is.
    assert later.open(split, (1, "b", 2)).poll(9).to_pylist() == [{"n": 12}, {"n": 13}]


def test_columns_are_left_out_where_both_can(tmp_path):
    schema = pa.schema({"n": pa.int64(), "m": pa.int64()})
    data = rs.DataGenSource(schema, rows=3)
    narrow = rs.chain(data, data).project(["m"])
    assert narrow.schema.names == ["m"]
    assert len(check_positions(narrow, seed=0, rows_max=2)[0]) == 6
    items = ItemsSource([{"n": 1, "m": 2}], schema)
    wide = rs.chain(data, items)
    assert wide.project(["m"]) is wide


@pytest.mark.parametrize(
    ("history", "live", "told"),
    [
        (Live([], {}, bounded=False), Live([], {}), "must end"),
        (Live([], {}), ItemsSource([1]), "gives n: int64, 1 items gives objects"),
        (ItemsSource([1], timestamps=[1]), ItemsSource([1]), "gives event times and 1 items does"),
        (ItemsSource([1]), [1], r"takes two sources; live is \[1\]"),
    ],
)
def test_what_makes_no_chain_is_refused(history, live, told):
    with pytest.raises(rs.PlanError, match=told):
        rs.chain(history, live)


def test_windows_over_the_seam_are_whole():
    def at(second: int) -> T.At:
        return T.At(second * 1_000_000, {"n": second})

    history = T.Source(splits=[[at(1), at(4), at(8)], [at(2), at(5), at(11)]], schema=N)
    live = T.Source(splits=[[at(9), at(13)], [at(12), at(25)]], schema=N)
    rows = rs.Job("seam", parallelism=2).source(
        rs.chain(history, live), watermark=rs.WatermarkStrategy("n", unit="s")
    )
    counts = rows.window_all(rs.Tumbling("10s")).aggregate(n=rs.count()).collect()
    found = sorted((row["window_start"].second, row["n"]) for row in counts)
    assert found == [(0, 6), (10, 3), (20, 1)]


def test_what_is_to_come_is_known_in_the_last_split_alone():
    numbers = lambda rows: rs.DataGenSource(lambda i: {"n": i}, rows=rows)
    source = rs.chain(numbers(3), numbers(5))
    (split,) = source.splits()
    reader = source.open(split, None)
    assert (len(reader.poll(2)), reader.backlog()) == (2, None)
    assert (len(reader.poll(2)), reader.backlog()) == (1, None)
    assert (len(reader.poll(2)), reader.backlog()) == (2, 3)
    assert (len(reader.poll(9)), reader.backlog()) == (3, 0)
    assert (reader.poll(9), reader.backlog()) == (rs.END, None)
