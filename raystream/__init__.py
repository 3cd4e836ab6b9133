"""Stateful stream processing on Ray: ``import raystream as rs``.

Everything that a job script needs is a name of this module. Importing it loads neither Ray nor a
connector: sources and sinks are loaded when they are first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from narwhals.stable.v2 import (
    Array as Array,
)
from narwhals.stable.v2 import (
    Binary as Binary,
)
from narwhals.stable.v2 import (
    Boolean,
    Date,
    Datetime,
    Expr,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    String,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    coalesce,
    col,
    concat_str,
    lit,
    when,
)
from narwhals.stable.v2 import (
    Categorical as Categorical,
)
from narwhals.stable.v2 import (
    Decimal as Decimal,
)
from narwhals.stable.v2 import (
    Duration as Duration,
)
from narwhals.stable.v2 import (
    Enum as Enum,
)
from narwhals.stable.v2 import (
    Int128 as Int128,
)
from narwhals.stable.v2 import (
    List as List,
)
from narwhals.stable.v2 import (
    Object as Object,
)
from narwhals.stable.v2 import (
    Struct as Struct,
)
from narwhals.stable.v2 import (
    Time as Time,
)
from narwhals.stable.v2 import (
    UInt128 as UInt128,
)

from raystream.api.job import Job, JobHandle, attach, list_jobs
from raystream.api.keyed import KeyedStream
from raystream.api.streams import Stream
from raystream.api.windowed import WindowedStream
from raystream.config import Limits
from raystream.contracts import evictors, triggers
from raystream.contracts.aggregate import (
    Aggregate,
    AggregateFunction,
    approx_count_distinct,
    collect,
    count,
    count_distinct,
    max_by,
    mean,
    min_by,
    quantile,
    stddev,
    variance,
)
from raystream.contracts.aggregate import (
    first as first,
)
from raystream.contracts.aggregate import (
    last as last,
)
from raystream.contracts.aggregate import (
    max as max,
)
from raystream.contracts.aggregate import (
    min as min,
)
from raystream.contracts.aggregate import (
    sum as sum,
)
from raystream.contracts.autoscale import Autoscale
from raystream.contracts.batch import Batch
from raystream.contracts.checkpointing import Checkpointing, Restart
from raystream.contracts.context import OpenContext
from raystream.contracts.evictor import Evictor
from raystream.contracts.process import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
)
from raystream.contracts.secret import secret
from raystream.contracts.sink import Sink, Writer
from raystream.contracts.source import END, Reader, Source, Split
from raystream.contracts.state import (
    AggregatingState,
    BroadcastState,
    ListState,
    MapState,
    OperatorListState,
    ReducingState,
    UnionListState,
    ValueState,
)
from raystream.contracts.trigger import Trigger, TriggerResult
from raystream.contracts.watermark import Alignment, Punctuated, WatermarkStrategy
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.contracts.window_unaligned import Global, Session, SlidingCount, TumblingCount
from raystream.errors import (
    ClusterError,
    ConfigError,
    ExternalError,
    InternalError,
    JobFailed,
    PlanError,
    RaystreamError,
    RestoreRefused,
    SinkError,
    SourceError,
    StorageError,
    UserError,
    UserFunctionError,
)
from raystream.flow.control import JobResult
from raystream.flow.time import micros
from raystream.operators.expressions import event_time

if TYPE_CHECKING:
    from raystream import testing
    from raystream.api import state
    from raystream.connectors.callback import CallbackSink
    from raystream.connectors.chained import chain
    from raystream.connectors.console import PrintSink
    from raystream.connectors.file_sink import FileSink
    from raystream.connectors.files import FileSource
    from raystream.connectors.generator import DataGenSource
    from raystream.connectors.memory import MemorySink
    from raystream.connectors.nexmark import NexmarkSource
    from raystream.connectors.socket import SocketSource

__version__ = "0.1.0"

_CONNECTORS = {
    "CallbackSink": "callback",
    "DataGenSource": "generator",
    "FileSink": "file_sink",
    "FileSource": "files",
    "MemorySink": "memory",
    "NexmarkSource": "nexmark",
    "PrintSink": "console",
    "SocketSource": "socket",
    "chain": "chained",
}

_MODULES = {"state": "raystream.api.state", "testing": "raystream.testing"}


def __getattr__(name: str) -> Any:
    """Load an embedded connector, the testing kit or the state reader when it is first named."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _CONNECTORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.connectors.{_CONNECTORS[name]}"), name)


# ``from raystream import *`` must not hide Python's own min, max and sum, nor names such as Decimal
# and List that scripts import from elsewhere.
__all__ = [
    "END",
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
    "Evictor",
    "Expr",
    "ExternalError",
    "FileSink",
    "FileSource",
    "Float32",
    "Float64",
    "Global",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
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
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
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
