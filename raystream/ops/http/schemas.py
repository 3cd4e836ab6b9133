"""The shapes of answers, in JSON Schema: the OpenAPI description shows them, a test holds to them.

Times that end in ``_us`` are microseconds: since the epoch for a moment, of length for a duration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
YES: Schema = {"type": "boolean"}
ANYTHING: Schema = {}


def listed(schema: Schema) -> Schema:
    """A list of such."""
    return {"type": "array", "items": schema}


def maybe(schema: Schema) -> Schema:
    """Such, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """One of SCHEMAS, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(describes: str = "", /, **fields: Schema) -> Schema:
    """An object with all these fields and no others."""
    said = {"description": describes} if describes else {}
    return {
        "type": "object",
        **said,
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def mapped(schema: Schema) -> Schema:
    """An object whose fields are named by what it is about."""
    return {"type": "object", "additionalProperties": schema}


_FIGURES: dict[str, Schema] = {
    "name": TEXT,
    "parallelism": COUNT,
    "rows_in": COUNT,
    "rows_out": COUNT,
    "watermark_us": maybe(INTEGER),
    "ended": YES,
    "busy": SHARE,
    "idle": SHARE,
    "backpressured": SHARE,
    "late_rows": COUNT,
    "failed_rows": COUNT,
}

_CHECKPOINT: dict[str, Schema] = {
    "checkpoint_id": COUNT,
    "attempt": COUNT,
    "status": TEXT,
    "triggered_us": INTEGER,
    "duration_us": COUNT,
    "bytes": COUNT,
    "new_bytes": COUNT,
    "savepoint": YES,
    "reason": TEXT,
}

_JOB: dict[str, Schema] = {
    "id": maybe(TEXT),
    "name": TEXT,
    "status": TEXT,
    "uptime_s": maybe(NUMBER),
    "attempt": maybe(COUNT),
    "over": maybe(YES),
}

_OPERATOR: dict[str, Schema] = {
    "name": TEXT,
    "uid": TEXT,
    "verb": TEXT,
    "describe": TEXT,
    "where": TEXT,
    "on_error": TEXT,
    "changes": maybe(TEXT),
    "schema": maybe(mapped(TEXT)),
    "children": listed(COUNT),
    "outputs": listed(COUNT),
    "figures": maybe(ref("OperatorFigures")),
}

SCHEMAS: dict[str, Schema] = {
    "Error": record(
        "Why a request was refused, and what to do instead.",
        error=record(code=TEXT, message=TEXT, hint=maybe(TEXT)),
    ),
    "Job": record("A job; one that does not answer is `unknown`, and has no figures.", **_JOB),
    "Jobs": record(jobs=listed(ref("Job"))),
    "JobDetails": record(
        **_JOB,
        operators=listed(ref("OperatorFigures")),
        newest_checkpoint=maybe(ref("Checkpoint")),
    ),
    "OperatorFigures": record(
        "An operator, all its subtasks together: rows since the job started, shares of the last "
        "second, of the subtask that is busiest. `ended` once its event time has come to its end.",
        **_FIGURES,
    ),
    "Operators": record(operators=listed(ref("OperatorFigures"))),
    "Chain": record(
        "Operators that run in the same subtasks; `children` are places in the list.",
        name=TEXT,
        parallelism=COUNT,
        resources=mapped(ANYTHING),
        operators=listed(record(**_OPERATOR)),
    ),
    "Edge": record(
        **{"id": COUNT, "from": TEXT, "to": TEXT, "port": COUNT, "exchange": TEXT},
        schema=maybe(mapped(TEXT)),
    ),
    "Plan": record(
        "What runs, with live figures: chains of operators, and the edges between chains.",
        job=TEXT,
        max_parallelism=COUNT,
        chains=listed(ref("Chain")),
        edges=listed(ref("Edge")),
    ),
    "Watermarks": record(
        operators=listed(
            record(
                "How far event time has come; `lag_us` is how far that is behind the clock.",
                name=TEXT,
                watermark_us=maybe(INTEGER),
                lag_us=maybe(INTEGER),
                ended=YES,
            )
        )
    ),
    "Backpressure": record(
        operators=listed(
            record(
                "Where time goes; `level` is ok, low or high: how much it waits for others.",
                name=TEXT,
                busy=SHARE,
                idle=SHARE,
                backpressured=SHARE,
                level={"enum": ["ok", "low", "high"]},
            )
        )
    ),
    "Checkpoint": record("How one checkpoint or savepoint went.", **_CHECKPOINT),
    "Checkpoints": record(settings=maybe(mapped(ANYTHING)), checkpoints=listed(ref("Checkpoint"))),
    "Config": record(
        "The settings of a job.",
        job=TEXT,
        max_parallelism=COUNT,
        checkpoint=maybe(mapped(ANYTHING)),
        restart=mapped(ANYTHING),
        limits=mapped(ANYTHING),
        input_bytes_max=COUNT,
    ),
    "States": record(
        states=listed(
            record(
                "What an operator has in the newest checkpoint; `pickled` in a type: not read here",
                uid=TEXT,
                operator=TEXT,
                verb=TEXT,
                name=TEXT,
                keys=listed(TEXT),
                type=TEXT,
                rows=COUNT,
                bytes=COUNT,
            )
        )
    ),
    "StateRows": record(
        "Rows of a state as the newest checkpoint has it; `found` counts all that fit.",
        uid=TEXT,
        name=TEXT,
        columns=listed(record(name=TEXT, type=TEXT)),
        rows=listed(mapped(ANYTHING)),
        found=COUNT,
        truncated=YES,
    ),
    "Sample": record(
        operator=TEXT,
        rows=listed(
            record(
                "A row as it left its operator; long values are cut, `op` is its kind in a "
                "changelog.",
                subtask=COUNT,
                value=ANYTHING,
                timestamp_us=maybe(INTEGER),
                op=maybe(TEXT),
            )
        ),
    ),
    "Profile": record(
        "Where a subtask's process spends its time: on a CPU where `cpu_known`, else by the clock. "
        "`collapsed` is what flame graphs are drawn from, `speedscope` what speedscope.app opens.",
        operator=TEXT,
        subtask=COUNT,
        seconds=NUMBER,
        samples=COUNT,
        cpu_known=YES,
        top=listed(
            record(
                function=TEXT,
                file=TEXT,
                line=COUNT,
                own_us=COUNT,
                total_us=COUNT,
                own_share=SHARE,
                total_share=SHARE,
            )
        ),
        collapsed=TEXT,
        speedscope=mapped(ANYTHING),
    ),
    "Savepoint": record("Where the savepoint is; null where none was made.", savepoint=maybe(TEXT)),
    "Canceled": record(canceled=TEXT),
    "Rescaled": record(rescaled=TEXT, to={"anyOf": [COUNT, mapped(COUNT)]}),
    "Description": mapped(ANYTHING),
}
