"""What ``import raystream`` gives, and what it must not load."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import raystream

# A name is added here on purpose and taken away never.
PUBLIC = [
    "Aggregate",
    "AggregateFunction",
    "AggregatingState",
    "Alignment",
    "Autoscale",
    "Batch",
    "Boolean",
    "BroadcastProcessFunction",
    "BroadcastState",
    "CallbackSink",
    "Checkpointing",
    "ClusterError",
    "CoProcessFunction",
    "ConfigError",
    "Cumulative",
    "DataGenSource",
    "Date",
    "Datetime",
    "END",
    "Evictor",
    "Expr",
    "ExternalError",
    "FileSink",
    "FileSource",
    "Float32",
    "Float64",
    "Global",
    "Int16",
    "Int32",
    "Int64",
    "Int8",
    "InternalError",
    "Job",
    "JobFailed",
    "JobHandle",
    "JobResult",
    "KeyedProcessFunction",
    "KeyedStream",
    "Limits",
    "ListState",
    "MapState",
    "MemorySink",
    "NexmarkSource",
    "OpenContext",
    "OperatorListState",
    "PlanError",
    "PrintSink",
    "ProcessFunction",
    "Punctuated",
    "RaystreamError",
    "Reader",
    "ReducingState",
    "Restart",
    "RestoreRefused",
    "Session",
    "Sink",
    "SinkError",
    "Sliding",
    "SlidingCount",
    "SocketSource",
    "Source",
    "SourceError",
    "Split",
    "StorageError",
    "Stream",
    "String",
    "Trigger",
    "TriggerResult",
    "Tumbling",
    "TumblingCount",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt8",
    "UnionListState",
    "UserError",
    "UserFunctionError",
    "ValueState",
    "WatermarkStrategy",
    "WindowedStream",
    "Writer",
    "approx_count_distinct",
    "attach",
    "chain",
    "coalesce",
    "col",
    "collect",
    "concat_str",
    "count",
    "count_distinct",
    "event_time",
    "evictors",
    "list_jobs",
    "lit",
    "max_by",
    "mean",
    "micros",
    "min_by",
    "quantile",
    "secret",
    "state",
    "stddev",
    "testing",
    "triggers",
    "variance",
    "when",
]

# Reached as ``rs.sum``; a star import would hide what Python or a script calls so.
NOT_STARRED = [
    "Array",
    "Binary",
    "Decimal",
    "Duration",
    "Int128",
    "List",
    "Struct",
    "Time",
    "first",
    "last",
    "max",
    "min",
    "sum",
]

# Slow to load, or not installed with the package.
NOT_LOADED = (
    *("ray", "kafka", "confluent_kafka", "psycopg", "duckdb", "polars", "pandas", "rich", "click"),
    *("deltalake", "pyiceberg"),
)


def test_the_public_names_are_exactly_these():
    assert sorted(raystream.__all__) == sorted(PUBLIC)


def test_every_public_name_is_there():
    assert [name for name in [*PUBLIC, *NOT_STARRED] if not hasattr(raystream, name)] == []


def test_a_star_import_leaves_the_builtins_alone():
    assert not set(NOT_STARRED) & set(raystream.__all__)
    assert not set(dir(builtins)) & set(raystream.__all__)


def test_importing_raystream_loads_nothing_heavy():
    code = (
        "import json, sys, raystream; "
        f"print(json.dumps([name for name in {NOT_LOADED!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
