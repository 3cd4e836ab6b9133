"""What each verb of a stream checks and gives."""

import pyarrow as pa
import pytest

import raystream as rs

COL = rs.col
TABLE = pa.table({"auction": [1, 2, 3], "price": [10, 20, 30], "tags": [["a"], [], ["b", "c"]]})
HERE = "test_stream_verbs.py:"


def bids():
    return rs.Job("t").from_items(TABLE).named("bids")


def objects():
    return rs.Job("t").from_items([{"a": 1}, {"a": 2}])


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.select("prcie"),
        lambda s: s.select(x="prcie"),
        lambda s: s.select(x=COL("prcie") * 2),
        lambda s: s.with_columns(x=COL("prcie")),
        lambda s: s.drop("prcie"),
        lambda s: s.rename({"prcie": "p"}),
        lambda s: s.explode("prcie"),
        lambda s: s.filter(COL("prcie") > 1),
        lambda s: s.filter("prcie"),
        lambda s: s.key_by("prcie"),
        lambda s: s.key_by(x=COL("prcie")),
        lambda s: s.key_by("auction").aggregate(n=rs.sum("prcie")),
        lambda s: s.key_by("auction").aggregate(n=rs.count().where(COL("prcie") > 1)),
        lambda s: s.assign_timestamps(rs.WatermarkStrategy("prcie")),
    ],
)
def test_an_unknown_column_names_the_close_one_the_others_and_the_line(call):
    with pytest.raises(rs.PlanError) as error:
        call(bids())
    text = str(error.value)
    assert 'column "prcie" not found in stream "bids"' in text
    assert "auction, price, tags" in text
    assert '"price"' in text.split("tags", 1)[1]
    assert HERE in error.value.where


def test_the_stream_of_an_error_is_named_by_its_source_and_last_operator():
    with pytest.raises(rs.PlanError, match='stream "bids" after "select#1"'):
        bids().select("price").select("auction")


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.select("a"),
        lambda s: s.with_columns(b=COL("a")),
        lambda s: s.drop("a"),
        lambda s: s.rename({"a": "b"}),
        lambda s: s.explode("a"),
        lambda s: s.filter(COL("a") > 1),
    ],
)
def test_columns_of_objects_are_refused_with_the_way_out(call):
    with pytest.raises(rs.PlanError, match="carries objects") as error:
        call(objects())
    assert "with_schema" in error.value.hint
    assert HERE in error.value.where


def test_select_names_computes_and_orders():
    s = bids().select("price", COL("auction") + 1, twice=COL("price") * 2, one=1, same="auction")
    assert s.schema.names == ["price", "auction", "twice", "one", "same"]
    assert s.collect(limit=1) == [{"price": 10, "auction": 2, "twice": 20, "one": 1, "same": 1}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.select(), "at least one column"),
        (lambda s: s.select("price", "price"), 'makes column "price" twice'),
        (lambda s: s.select("price", price=COL("price")), 'makes column "price" twice'),
        (lambda s: s.select(5), "takes names and expressions, got 5"),
        (lambda s: s.select(x=len), "not the function 'len'"),
        (lambda s: s.select(__ts=COL("price")), "hidden event time"),
        (lambda s: s.with_columns(__ts=COL("price")), "hidden event time"),
        (lambda s: s.rename({"price": "auction"}), 'makes column "auction" twice'),
        (lambda s: s.rename({"price": "__ts"}), "hidden event time"),
        (lambda s: s.drop("auction", "price", "tags"), "would leave no column"),
        (lambda s: s.explode("price"), "takes a column of lists"),
        (lambda s: s.select(x=COL("price").shift(1)), "row-wise"),
        (lambda s: s.filter(COL("price") + 1), "boolean"),
        (lambda s: s.filter(5), "takes an expression or a function"),
        (lambda s: s.map(5), r"map\(\) takes a function"),
        (lambda s: s.map(repr, schema=5), r"schema= takes a pa.Schema"),
        (lambda s: s.map(repr, schema=pa.schema({"__ts": pa.int64()})), "hidden event time"),
        (lambda s: s.with_schema(TABLE.schema), "has columns already"),
        (lambda s: s.map_batches(len, batch_format="cudf"), "batch_format"),
        (lambda s: s.map_batches(len, batch_size=0), "batch_size"),
        (lambda s: s.map_batches(len, timestamp="price"), "no event time"),
        (lambda s: s.partition_by("price"), "takes a function, got str"),
        (lambda s: s.union("other"), "takes streams"),
        (lambda s: s.union(bids()), 'belongs to job "t"'),
        (lambda s: s.union(s.select("price")), 'only one has column "auction"'),
        (lambda s: s.union(s.map(repr)), "one has columns, the other carries objects"),
        (lambda s: s.union(s.with_columns(price="tags")), '"price" is int64 in one'),
        (lambda s: s.union(s.select("price", "auction", "tags")), "another order"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(call, message):
    with pytest.raises(rs.PlanError, match=message) as error:
        call(bids())
    assert HERE in error.value.where


def test_an_expression_of_another_library_is_refused():
    import pyarrow.compute as pc

    with pytest.raises(rs.PlanError, match="got one of pyarrow"):
        bids().select(x=pc.field("price"))


def test_with_columns_replaces_in_place_and_sees_the_input():
    s = bids().with_columns(auction=COL("price"), price=COL("auction"), last=True)
    assert s.schema.names == ["auction", "price", "tags", "last"]
    assert s.drop("tags").collect(limit=1) == [{"auction": 10, "price": 1, "last": True}]


def test_rename_and_drop_keep_the_order():
    assert bids().rename({"price": "p"}).drop("auction").schema.names == ["p", "tags"]


def test_explode_gives_a_row_for_each_element():
    s = bids().select("auction", "tags").explode("tags")
    assert s.schema == pa.schema({"auction": pa.int64(), "tags": pa.string()})
    assert [(row["auction"], row["tags"]) for row in s.collect()] == [
        (1, "a"),
        (3, "b"),
        (3, "c"),
    ]


def test_map_makes_objects_or_columns():
    s = bids().map(lambda row: {"p": row["price"]}, schema=pa.schema({"p": pa.int64()}))
    assert s.collect() == [{"p": 10}, {"p": 20}, {"p": 30}]
    assert bids().map(lambda row: row["price"]).collect() == [10, 20, 30]


def test_functions_take_arguments_and_classes_are_made_once():
    class Add:
        def __init__(self, n):
            self.n = n

        def __call__(self, row):
            return row["a"] + self.n

    assert objects().map(Add, fn_kwargs={"n": 10}).collect() == [11, 12]
    assert objects().map(lambda row, n: row["a"] * n, fn_kwargs={"n": 3}).collect() == [3, 6]
    assert objects().filter(lambda row, n: row["a"] == n, fn_kwargs={"n": 2}).collect() == [
        {"a": 2}
    ]
    assert objects().flat_map(lambda row, n: [row] * n, fn_kwargs={"n": 2}).collect() == [
        {"a": 1},
        {"a": 1},
        {"a": 2},
        {"a": 2},
    ]


def test_filter_by_a_function_keeps_the_columns():
    s = bids().filter(lambda row: row["price"] > 10)
    assert s.schema == TABLE.schema
    assert [row["auction"] for row in s.collect()] == [2, 3]


def test_with_schema_makes_columns_of_dicts():
    s = objects().with_schema(pa.schema({"a": pa.int32()}))
    assert s.schema == pa.schema({"a": pa.int32()})
    assert s.to_arrow().column("a").to_pylist() == [1, 2]


def test_map_batches_keeps_the_columns_unless_told():
    s = bids().map_batches(lambda batch: batch)
    assert s.schema == TABLE.schema
    small = bids().map_batches(
        lambda batch: batch.select(["price"]), schema=pa.schema({"price": pa.int64()})
    )
    assert small.collect() == [{"price": 10}, {"price": 20}, {"price": 30}]


def test_map_batches_can_name_the_event_time_of_its_result():
    timed = bids().assign_timestamps(rs.WatermarkStrategy("price"))
    first = timed.map_batches(lambda batch: batch.slice(0, 1), timestamp="auction")
    assert first.select(t=rs.event_time()).collect()[0]["t"].microsecond == 1
    with pytest.raises(rs.PlanError, match='"when" not found'):
        timed.map_batches(lambda batch: batch, timestamp="when")
    with pytest.raises(rs.PlanError, match='column "tags" is list'):
        timed.map_batches(lambda batch: batch, timestamp="tags")


def test_event_time_is_an_expression_where_there_is_one():
    timed = bids().assign_timestamps(rs.WatermarkStrategy("price"))
    assert timed.select(t=rs.event_time()).schema == pa.schema({"t": pa.timestamp("us", "UTC")})
    with pytest.raises(rs.PlanError, match="has no event time"):
        bids().select(t=rs.event_time())


def test_union_gives_all_rows():
    s = bids().select("price")
    assert sorted(row["price"] for row in s.union(s, s).collect()) == sorted([10, 20, 30] * 3)


def test_streams_with_and_without_event_time_do_not_join():
    s = bids()
    with pytest.raises(rs.PlanError, match="one has event time, the other has none"):
        s.union(s.assign_timestamps(rs.WatermarkStrategy("price")))


@pytest.mark.parametrize("exchange", ["rebalance", "shuffle", "to_one"])
def test_exchanges_lose_and_double_nothing(exchange):
    job = rs.Job("t", parallelism=2)
    s = job.from_items(range(100))
    moved = getattr(s, exchange)().map(lambda x: x)
    assert sorted(moved.collect()) == list(range(100))


def test_broadcast_gives_every_subtask_every_row():
    s = rs.Job("t", parallelism=3).from_items(range(10))
    assert sorted(s.broadcast().map(lambda x: x).collect()) == sorted(list(range(10)) * 3)


def test_partition_by_sends_rows_where_the_function_says():
    class Where:
        def open(self, ctx):
            self.index = ctx.subtask_index

        def __call__(self, row):
            return (row, self.index)

    s = rs.Job("t", parallelism=2).from_items(range(10))
    placed = s.partition_by(lambda row: row // 5).map(Where).collect()
    assert sorted(placed) == [(row, (row // 5) % 2) for row in range(10)]
