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


_SHARES: dict[str, Schema] = {"busy": SHARE, "idle": SHARE, "backpressured": SHARE}

_TIMES: dict[str, Schema] = {"watermark_us": maybe(INTEGER), "ended": YES}

_COUNTED: dict[str, Schema] = {
    "rows_in": COUNT,
    "rows_out": COUNT,
    "late_rows": COUNT,
    "failed_rows": COUNT,
    "counters": mapped(NUMBER),
    "gauges": mapped(maybe(NUMBER)),
    "histograms": mapped(record(counts=listed(COUNT), total=maybe(NUMBER))),
}

_RATE: Schema = {"type": "number", "minimum": 0}

_RATES: dict[str, Schema] = {"rows_in_per_s": _RATE, "rows_out_per_s": _RATE}

_BYTES: dict[str, Schema] = {"bytes_in": COUNT, "bytes_out": COUNT, "queued_bytes": COUNT}

_FIGURES: dict[str, Schema] = {
    "name": TEXT,
    "uid": TEXT,
    "kind": TEXT,
    "chain": TEXT,
    "inputs": listed(TEXT),
    "parallelism": COUNT,
    **_COUNTED,
    **_BYTES,
    **_TIMES,
    **_SHARES,
    **_RATES,
    "exchange": TEXT,
    "own_busy": ref("Spread"),
    "busy_spread": ref("Spread"),
    "idle_spread": ref("Spread"),
    "backpressured_spread": ref("Spread"),
}

_SUBTASK: dict[str, Schema] = {
    "subtask": TEXT,
    "index": COUNT,
    **_TIMES,
    **_SHARES,
    "rows_in": COUNT,
    "rows_out": COUNT,
    **_BYTES,
    "queue_bytes_max": COUNT,
    **_RATES,
    "bytes_in_per_s": _RATE,
    "bytes_out_per_s": _RATE,
    "inputs": listed(ref("Input")),
    "inputs_active": COUNT,
    "inputs_idle": COUNT,
    "inputs_finished": COUNT,
    "outputs": listed(ref("Output")),
    "working_us": COUNT,
    "working_in": TEXT,
    "at": TEXT,
    "age_us": INTEGER,
    "span_us": COUNT,
    "process": maybe(record(pid=COUNT, rss_bytes=COUNT, node_id=TEXT, node_ip=TEXT)),
    "operator": maybe(ref("OperatorInSubtask")),
}

_PART: dict[str, Schema] = {
    "alignment_us": COUNT,
    "sync_us": COUNT,
    "upload_us": COUNT,
    "acked_us": COUNT,
    "bytes": COUNT,
    "rows": COUNT,
}

_HOW: dict[str, Schema] = {**_SHARES, "level": {"enum": ["ok", "low", "high"]}}

_FAR: dict[str, Schema] = {**_TIMES, "lag_us": maybe(INTEGER)}

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
    "restarts": maybe(COUNT),
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
        at_us=maybe(INTEGER),
        newest_checkpoint=maybe(ref("Checkpoint")),
        newest_failure=maybe(ref("Failure")),
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
    "Spread": record(
        "A share over the subtasks of an operator.", least=SHARE, mean=SHARE, most=SHARE
    ),
    "SubtaskFigures": record(
        "One subtask: counts since it started, shares and rates over `span_us`; `operator` is what "
        "passed the operator that was asked for, `at` the user's line that it is at for long.",
        **_SUBTASK,
    ),
    "OperatorInSubtask": record(
        "What passed one operator in one subtask; `busy` is what it took itself of the time.",
        name=TEXT,
        busy=SHARE,
        **_COUNTED,
        **_RATES,
    ),
    "Subtasks": record(subtasks=listed(ref("SubtaskFigures"))),
    "Input": record(
        "A channel or a split, and how far it has brought event time.",
        name=TEXT,
        status=TEXT,
        watermark_us=maybe(INTEGER),
        silent_us=maybe(INTEGER),
        still_us=INTEGER,
    ),
    "Output": record(
        "An edge out of a subtask, how long it was out of credit, and who gave none for longest.",
        edge=COUNT,
        to=TEXT,
        bytes=COUNT,
        held_us=COUNT,
        slowest=maybe(COUNT),
    ),
    "Watermarks": record(
        "How far event time has come; `lag_us` is how far that is behind the clock.",
        operators=listed(record(name=TEXT, **_FAR)),
        subtasks=listed(record(subtask=TEXT, **_FAR, inputs=listed(ref("Input")))),
    ),
    "Backpressure": record(
        "Where time goes; `level` tells how much somebody waits for those behind it.",
        operators=listed(record(name=TEXT, **_HOW)),
        subtasks=listed(record(subtask=TEXT, **_HOW, outputs=listed(ref("Output")))),
    ),
    "Part": record("Where a subtask's time went in a checkpoint.", subtask=TEXT, **_PART),
    "CheckpointDetails": record(
        "One checkpoint, with its slowest subtasks, and what each operator keeps.",
        **_CHECKPOINT,
        subtasks=listed(ref("Part")),
        state=listed(record(uid=TEXT, rows=COUNT, bytes=COUNT)),
    ),
    "Failure": record(
        "Something broke; `where` is the user's line, if it is known.",
        at_us=INTEGER,
        attempt=COUNT,
        subtask=TEXT,
        operator=TEXT,
        kind=TEXT,
        message=TEXT,
        where=TEXT,
    ),
    "Exceptions": record(restarts=COUNT, exceptions=listed(ref("Failure"))),
    "Change": record(at_us=INTEGER, attempt=COUNT, before=TEXT, after=TEXT),
    "Changes": record(changes=listed(ref("Change"))),
    "Diagnosis": record(
        "What holds a job up, and why its event time stands still, in sentences.",
        says=TEXT,
        bottleneck=maybe(record(cause=TEXT, operator=TEXT, subtask=maybe(COUNT), says=TEXT)),
        watermark=listed(TEXT),
    ),
    "Rescaling": record(
        "A change of size, subtasks by chain; `reason` is empty where somebody asked, `outcome` is "
        "under way, done, or why there was none; for `pause_us` no source read.",
        at_us=INTEGER,
        reason=TEXT,
        before=mapped(COUNT),
        after=mapped(COUNT),
        outcome=TEXT,
        pause_us=maybe(COUNT),
    ),
    "Rescales": record(
        under_way=YES, sizes=mapped(COUNT), says=TEXT, rescales=listed(ref("Rescaling"))
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
        "`collapsed` is what flame graphs are drawn from, `speedscope` what speedscope.app opens. "
        "`native_share` is how much of it compiled code takes, null where that was not asked for.",
        operator=TEXT,
        subtask=COUNT,
        seconds=NUMBER,
        samples=COUNT,
        cpu_known=YES,
        native_share=maybe(SHARE),
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
    "Text": TEXT,
}
