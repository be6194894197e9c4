"""Between values and Arrow: what engines answer becomes values, and values become what writers take."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def values(array: pa.Array | pa.ChunkedArray, kind: IcebergType) -> list[Any]:
    """The values of an array that an engine answered for a column of that type."""
    if isinstance(array, pa.ChunkedArray):
        return [v for chunk in array.chunks for v in values(chunk, kind)]
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    valid = array.is_valid().to_pylist()
    match kind:
        case StructType():
            if not pa.types.is_struct(array.type):
                raise TypeError(f"{array.type} for {kind}")
            columns = [values(a, f.field_type) for a, f in zip(array.flatten(), kind.fields, strict=True)]
            ids = [f.field_id for f in kind.fields]
            return [dict(zip(ids, row, strict=True)) if ok else None for ok, *row in zip(valid, *columns, strict=True)]
        case ListType():
            inner, at = values(array.values, kind.element_type), array.offsets.to_pylist()
            return [inner[at[i] : at[i + 1]] if ok else None for i, ok in enumerate(valid)]
        case MapType():
            at = array.offsets.to_pylist()
            pairs = list(zip(values(array.keys, kind.key_type), values(array.items, kind.value_type), strict=True))
            return [[list(p) for p in pairs[at[i] : at[i + 1]]] if ok else None for i, ok in enumerate(valid)]
        case TimestampType() | TimestamptzType() | TimeType():
            return [None if v is None else v // 1000 for v in nanos(array)]
        case TimestampNanoType() | TimestamptzNanoType():
            return nanos(array)
        case DateType():
            return array.cast(pa.int32()).to_pylist()
        case UUIDType():
            return [
                None if v is None else v.hex() if isinstance(v, bytes) else v.replace("-", "")
                for v in array.to_pylist()
            ]
        case FloatType() | DoubleType():
            return [None if v is None else float(v) for v in array.to_pylist()]
        case BinaryType() | FixedType():
            return [None if v is None else bytes(v) for v in array.to_pylist()]
        case StringType():
            return array.cast(pa.large_string()).to_pylist()
        case DecimalType():
            return array.to_pylist()
    return array.to_pylist()


def nanos(array: pa.Array) -> list[int | None]:
    unit = NANOS[array.type.unit]
    whole = array.cast(pa.int32() if pa.types.is_time32(array.type) else pa.int64())
    return [None if v is None else v * unit for v in whole.to_pylist()]


def rows(table: pa.Table, schema: Schema) -> list[dict[int, Any]]:
    """The rows of an answer whose columns are those of the schema, in its order."""
    columns = [values(table.column(i), f.field_type) for i, f in enumerate(schema.fields)]
    ids = [f.field_id for f in schema.fields]
    return [dict(zip(ids, row, strict=True)) for row in zip(*columns, strict=True)]


def table(found: list[dict[int, Any]], schema: Schema, with_ids: bool = True) -> pa.Table:
    arrow = schema_to_pyarrow(schema, include_field_ids=with_ids)
    columns = [
        array([row.get(f.field_id) for row in found], f.field_type, arrow.field(i).type)
        for i, f in enumerate(schema.fields)
    ]
    return pa.Table.from_arrays(columns, schema=arrow)


def array(found: list[Any], kind: IcebergType, into: pa.DataType) -> pa.Array:
    plain = [plainly(v, kind) for v in found]
    if isinstance(into, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(into, pa.array(plain, into.storage_type))
    if isinstance(kind, (StructType, ListType, MapType)):
        return nested(found, kind, into)
    return pa.array(plain, into)


def nested(found: list[Any], kind: IcebergType, into: pa.DataType) -> pa.Array:
    missing = pa.array([v is None for v in found], pa.bool_())
    if isinstance(kind, StructType):
        inner = [
            array([filler(f) if v is None else v.get(f.field_id) for v in found], f.field_type, into.field(i).type)
            for i, f in enumerate(kind.fields)
        ]
        fields = [into.field(i) for i in range(into.num_fields)]
        return pa.StructArray.from_arrays(inner, fields=fields, mask=missing)
    offsets, at = [], 0
    for value in found:
        offsets.append(None if value is None else at)
        at += len(value or [])
    offsets.append(at)
    flat = [v for value in found for v in (value or [])]
    if isinstance(kind, ListType):
        inner = array(flat, kind.element_type, into.value_type)
        maker = pa.LargeListArray if pa.types.is_large_list(into) else pa.ListArray
        return maker.from_arrays(
            pa.array(offsets, pa.int64() if maker is pa.LargeListArray else pa.int32()), inner, type=into
        )
    keys = array([k for k, _ in flat], kind.key_type, into.key_type)
    items = array([v for _, v in flat], kind.value_type, into.item_type)
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items, type=into)


def filler(field: NestedField) -> Any:
    """What stands in a field below a struct that is NULL: something, where the field is required."""
    if not field.required:
        return None
    match field.field_type:
        case StructType() as kind:
            return {f.field_id: filler(f) for f in kind.fields}
        case ListType() | MapType():
            return []
        case StringType():
            return ""
        case BinaryType():
            return b""
        case FixedType() as kind:
            return bytes(len(kind))
        case UUIDType():
            return "00" * 16
        case DecimalType():
            return Decimal(0)
        case BooleanType():
            return False
    return 0


def plainly(value: Any, kind: IcebergType) -> Any:
    return bytes.fromhex(value) if isinstance(kind, UUIDType) and value is not None else value
