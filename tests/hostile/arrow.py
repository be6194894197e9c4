"""Converts engines' Arrow answers to values, and values to Arrow for writers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
    UnknownType,
    UUIDType,
)
from stack.by_hand import Wkb

from . import shapes, shredding, variants
from .opaque import OPAQUE, ShapeType, VariantType, holds
from .variants import Variant

NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def values(array: pa.Array | pa.ChunkedArray, kind: IcebergType, text: Callable[[str], str] = str) -> list[Any]:
    """Returns the values of an engine's array, for a column of a type. `text` normalizes the engine's JSON."""
    if isinstance(array, pa.ChunkedArray):
        return [v for chunk in array.chunks for v in values(chunk, kind, text)]
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    valid = array.is_valid().to_pylist()
    match kind:
        case VariantType():
            return [None if v is None else variants.read(text(v)) for v in array.cast(pa.large_string()).to_pylist()]
        case StructType():
            if not pa.types.is_struct(array.type):
                raise TypeError(f"{array.type} for {kind}")
            columns = [values(a, f.field_type, text) for a, f in zip(array.flatten(), kind.fields, strict=True)]
            ids = [f.field_id for f in kind.fields]
            return [dict(zip(ids, row, strict=True)) if ok else None for ok, *row in zip(valid, *columns, strict=True)]
        case ListType():
            inner, at = values(array.values, kind.element_type, text), array.offsets.to_pylist()
            return [inner[at[i] : at[i + 1]] if ok else None for i, ok in enumerate(valid)]
        case MapType():
            at = array.offsets.to_pylist()
            items = values(array.items, kind.value_type, text)
            pairs = list(zip(values(array.keys, kind.key_type), items, strict=True))
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


def rows(table: pa.Table, schema: Schema, text: Callable[[str], str] = str) -> list[dict[int, Any]]:
    """Returns the rows of an answer, whose columns are in the schema's order."""
    columns = [values(table.column(i), f.field_type, text) for i, f in enumerate(schema.fields)]
    ids = [f.field_id for f in schema.fields]
    return [dict(zip(ids, row, strict=True)) for row in zip(*columns, strict=True)]


@dataclass
class Way:
    """Options for columns of files and of writers; also collects the shredded columns of variants by field id."""

    with_ids: bool = True
    # The seed of the variants' shredding; None: unshredded.
    seed: int | None = None
    variants: Callable[[list[Variant | None]], pa.Array] | None = None
    columns: dict[int, shredding.Column] = field(default_factory=dict)


def table(found: list[dict[int, Any]], schema: Schema, with_ids: bool = True, way: Way | None = None) -> pa.Table:
    if any(holds(f.field_type, *OPAQUE, UnknownType) for f in schema.fields):
        way = way or Way(with_ids)
        made = [column([row.get(f.field_id) for row in found], f, way) for f in in_files(schema.fields)]
        return pa.Table.from_arrays([a for _, a in made], schema=pa.schema([f for f, _ in made]))
    arrow = schema_to_pyarrow(schema, include_field_ids=with_ids)
    columns = [
        array([row.get(f.field_id) for row in found], f.field_type, arrow.field(i).type)
        for i, f in enumerate(schema.fields)
    ]
    return pa.Table.from_arrays(columns, schema=arrow)


def in_files(fields: tuple[NestedField, ...]) -> list[NestedField]:
    """Returns the fields that files have. Columns of type unknown are in no file."""
    return [f for f in fields if not isinstance(f.field_type, UnknownType)]


def column(found: list[Any], f: NestedField, way: Way) -> tuple[pa.Field, pa.Array]:
    """Returns a column with its name and id. Nested fields of type unknown are left out."""
    kind = f.field_type
    missing = pa.array([v is None for v in found], pa.bool_())
    match kind:
        case VariantType() if way.variants:
            made = way.variants(found)
        case VariantType():
            of = shredding.column(found, None if way.seed is None else way.seed + f.field_id)
            made, way.columns[f.field_id] = of.array, of
        case ShapeType():
            made = pa.array(found, pa.binary())
            if way.with_ids:
                about = Wkb('{"edges": "spherical"}' if kind.on_globe else "{}")
                made = pa.ExtensionArray.from_storage(about, made)
        case StructType():
            columns = [
                column([filler(g) if v is None else v.get(g.field_id) for v in found], g, way)
                for g in in_files(kind.fields)
            ]
            made = pa.StructArray.from_arrays([a for _, a in columns], fields=[g for g, _ in columns], mask=missing)
        case ListType() | MapType():
            ends, at = [], 0
            for v in found:
                ends.append(None if v is None else at)
                at += len(v or [])
            offsets, flat = pa.array([*ends, at], pa.int32()), [item for v in found for item in (v or [])]
            if isinstance(kind, ListType):
                inner, items = column(flat, kind.element_field, way)
                made = pa.ListArray.from_arrays(offsets, items, type=pa.list_(inner))
            else:
                key, keys = column([k for k, _ in flat], kind.key_field, way)
                value, items = column([v for _, v in flat], kind.value_field, way)
                made = pa.MapArray.from_arrays(offsets, keys, items, type=pa.map_(key, value))
        case _:
            arrow = schema_to_pyarrow(Schema(f), include_field_ids=way.with_ids)
            made = array(found, kind, arrow.field(0).type)
    about = {"PARQUET:field_id": str(f.field_id)} if way.with_ids else None
    return pa.field(f.name, made.type, nullable=not f.required, metadata=about), made


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
    """Returns the value of a field below a NULL struct: not NULL if the field is required."""
    if not field.required:
        return None
    match field.field_type:
        case VariantType():
            return Variant(None)
        case ShapeType():
            return shapes.wkb(("POINT", False, (0.0, 0.0)))
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
