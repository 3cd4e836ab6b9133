"""An index follows a stream: what is there is the table, whatever fails in between."""

from __future__ import annotations

import secrets

import pyarrow as pa
import pytest
from elasticsearch_server import running_elasticsearch, search  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import elasticsearch

pytestmark = [pytest.mark.services, pytest.mark.slow]

URL = rs.secret("ES_URL")
CHANGES = pa.schema({"op": pa.string(), "id": pa.int64(), "v": pa.string()})


@pytest.fixture
def index() -> str:
    return f"i{secrets.token_hex(6)}"


def changes(job, rows):
    return job.from_items(rows, schema=CHANGES).to_changelog(key=["id"], op="op")


def test_documents_follow_a_table_by_its_key(search, index):
    rows = [
        {"op": "+I", "id": 1, "v": "a"},
        {"op": "+I", "id": 2, "v": 'quote " and\nbreak'},
        {"op": "-U", "id": 1, "v": "a"},
        {"op": "+U", "id": 1, "v": None},
        {"op": "+I", "id": 3, "v": "c"},
        {"op": "-D", "id": 3, "v": "c"},
        {"op": "-D", "id": 9, "v": "was never there"},
    ]
    job = rs.Job("indexed", runtime="local", config={"batch_rows_max": 2})
    changes(job, rows).sink(elasticsearch.ElasticsearchSink(URL, index=index))
    assert "at least once" in job.explain()
    job.run()
    assert search.table(index) == {
        "1": {"id": 1, "v": None},
        "2": {"id": 2, "v": 'quote " and\nbreak'},
    }


def test_what_is_older_than_what_is_there_is_not_written(search, index):
    schema = pa.schema({"id": pa.string(), "at": pa.timestamp("us", "UTC")})
    sink = elasticsearch.ElasticsearchSink(URL, index, "{id}", version="at")
    for at in (5, 7, 6):
        job = rs.Job("versions", runtime="local")
        job.from_items([{"id": "a", "at": at}], schema=schema).sink(sink)
        job.run()
    assert search.table(index) == {"a": {"id": "a", "at": "1970-01-01T00:00:00.000007Z"}}


def test_a_later_run_replaces_what_an_earlier_one_wrote(search, index):
    sink = elasticsearch.ElasticsearchSink(URL, index + "-{kind}", "{id}")
    schema = pa.schema({"id": pa.int64(), "kind": pa.string(), "n": pa.int64()})
    for n in range(3):
        job = rs.Job("again", runtime="local")
        job.from_items([{"id": 1, "kind": "x", "n": n}], schema=schema).sink(sink)
        job.run()
    assert search.table(f"{index}-x") == {"1": {"id": 1, "kind": "x", "n": 2}}


def test_rows_without_ids_are_added(search, index):
    job = rs.Job("added", runtime="local")
    rows = job.from_items([{"n": n % 2} for n in range(5)], schema=pa.schema({"n": pa.int64()}))
    rows.sink(elasticsearch.ElasticsearchSink(URL, index))
    job.run()
    assert sorted(row["n"] for row in search.table(index).values()) == [0, 0, 0, 1, 1]


def test_orders_that_are_joined_with_their_customers_are_those_of_the_table(
    search, index, tmp_path
):
    orders = pa.schema({"op": pa.string(), "id": pa.int64(), "customer": pa.int64()})
    names = pa.schema({"op": pa.string(), "cid": pa.int64(), "name": pa.string()})
    rows, expected, at = [], {}, {}
    for n in range(1_500):
        id, customer = n % 30, (n * 7) % 11
        if id in at:
            rows.append({"op": "-U", "id": id, "customer": at[id]})
        rows.append({"op": "+U" if id in at else "+I", "id": id, "customer": customer})
        at[id] = customer
        name = f"c{customer}" if customer < 10 else None
        expected[str(id)] = {"id": id, "customer": customer, "name": name}
    job = rs.Job(
        "joined",
        runtime="local",
        parallelism=2,
        checkpoint=rs.Checkpointing(tmp_path, every="300ms"),
        config={"batch_rows_max": 50},
    )
    left = job.from_items(rows, schema=orders).to_changelog(key=["id"], op="op")
    right = job.from_items(
        [{"op": "+I", "cid": n, "name": f"c{n}"} for n in range(10)], schema=names
    ).to_changelog(key=["cid"], op="op")
    full = left.join(right, left_on="customer", right_on="cid", how="left", ttl="forever")
    full.sink(elasticsearch.ElasticsearchSink(URL, index=index))
    assert "upserts by id" in job.explain(physical=True)
    job.run()
    assert search.table(index) == expected


def test_documents_that_are_refused_follow_the_policy(search, index):
    search.ask(
        "PUT",
        f"/{index}",
        {
            "mappings": {
                "dynamic": "strict",
                "properties": {"id": {"type": "keyword"}, "v": {"type": "integer"}},
            }
        },
    )
    schema = pa.schema({"id": pa.string(), "v": pa.string()})
    rows = [
        {"id": "1", "v": "1"},
        {"id": "2", "v": "no number"},
        {"id": None, "v": "3"},
        {"id": "x" * 600, "v": "3"},
        {"id": "4", "v": "4"},
    ]
    sink = elasticsearch.ElasticsearchSink(URL, index, "{id}")
    job = rs.Job("bad", runtime="local")
    letters = rs.MemorySink()
    written = job.from_items(rows, schema=schema).sink(sink).on_error("dead_letter")
    written.dead_letters.sink(letters)
    job.run()
    assert sorted(search.table(index)) == ["1", "4"]
    assert sorted(letter["row"]["v"] for letter in letters.rows) == ["3", "3", "no number"]
    failing = rs.Job("fails", runtime="local")
    failing.from_items(rows[1:2], schema=schema).sink(sink)
    with pytest.raises(rs.JobFailed, match='document "2" of index .* was refused: 400'):
        failing.run()
