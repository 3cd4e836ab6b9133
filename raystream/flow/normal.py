"""What a column may be on the wire: one plain Arrow type for each kind of value.

A dictionary column cannot be read back from a batch that travels without its schema, kernels do not
take every view type, and one moment in three units would be three keys. So where columns enter (at
sources and behind user functions) they are brought to one form.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import PlanError

_NANOSECONDS_PER_US = 1_000


def normal_type(kind: pa.DataType) -> pa.DataType:
    """Give the type that stands for ``kind`` on the wire.

    Dictionary, run-end and extension types give what they hold, large and view types the plain one,
    timestamps microseconds with their zone, small decimals decimal128.
    """
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return normal_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return normal_type(kind.storage_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return _normal_nested(kind) if kind.num_fields else kind


def normal_schema(schema: pa.Schema) -> pa.Schema:
    """Give a schema of normal types without metadata; names, order and nullability stay.

    Raises: PlanError for a name that comes twice.
    """
    names = schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f'column "{twice}" comes twice in the schema')
    fields = [pa.field(field.name, normal_type(field.type), field.nullable) for field in schema]
    return pa.schema(fields)


def normal_record(record: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Bring a record to ``schema``, whose types are normal; columns go by position.

    Raises: pyarrow.ArrowInvalid where a value has no place in the normal type.
    """
    if record.schema.equals(schema, check_metadata=True):
        return record
    arrays = [
        normal_array(array, field.type) for array, field in zip(record.columns, schema, strict=True)
    ]
    if not arrays:
        return record
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def normal_array(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Bring a column to its normal type ``kind``; timestamps are floored to microseconds.

    Shapes: array [n] -> array [n].
    """
    source = array.type
    if source == kind and not isinstance(source, pa.BaseExtensionType):
        return array
    if isinstance(source, pa.BaseExtensionType):
        return normal_array(array.storage, kind)
    if pa.types.is_dictionary(source):
        return normal_array(array.dictionary_decode(), kind)
    if pa.types.is_run_end_encoded(source):
        return normal_array(pc.run_end_decode(array), kind)
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(kind) and source.unit == "ns":
        return _floor(array).cast(kind)
    if pa.types.is_struct(source) and pa.types.is_struct(kind):
        return _struct(array, kind)
    if _is_list(source) and _is_list(kind):
        return _list(array, kind)
    return array.cast(kind)


def _normal_nested(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(normal_type(kind.value_type), kind.list_size)
    if _is_list(kind):
        return pa.list_(normal_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, normal_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(normal_type(kind.key_type), normal_type(kind.item_type))
    return kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _floor(array: pa.Array) -> pa.Array:
    # Arrow's own cast truncates toward zero, which floors nothing before 1970.
    raw = array.cast(pa.int64())
    micros = np.floor_divide(raw.fill_null(0).to_numpy(), _NANOSECONDS_PER_US)
    mask = raw.is_null().to_numpy(zero_copy_only=False) if raw.null_count else None
    return pa.array(micros, pa.int64(), mask=mask).cast(pa.timestamp("us", array.type.tz))


def _struct(array: pa.Array, kind: pa.DataType) -> pa.Array:
    children = [
        normal_array(array.field(index), kind.field(index).type) for index in range(kind.num_fields)
    ]
    mask = array.is_null() if array.null_count else None
    if not children:
        return array.cast(kind)
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


def _list(array: pa.Array, kind: pa.DataType) -> pa.Array:
    values = normal_array(array.flatten(), kind.value_type)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    offsets = np.zeros(len(array) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind, mask=mask)
