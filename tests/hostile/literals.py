"""Values as literals of each dialect, and as PyIceberg takes them."""

from __future__ import annotations

import math
import uuid
from datetime import datetime, timedelta
from typing import Any

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
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from . import shapes, variants
from .names import quoted
from .opaque import ShapeType, VariantType
from .variants import Typed, Variant

EPOCH = datetime(1970, 1, 1)
# Names of Iceberg's types in dialects, where they differ.
SQL = {"int": "INT", "long": "BIGINT", "float": "REAL", "double": "DOUBLE", "string": "VARCHAR", "boolean": "BOOLEAN"}


def sql_type(kind: IcebergType, dialect: str) -> str:
    match kind:
        case DecimalType():
            return f"DECIMAL({kind.precision}, {kind.scale})"
        case TimestampNanoType():
            return "TIMESTAMP_NS" if dialect == "duckdb" else "TIMESTAMP(9)"
        case TimestampType():
            return "TIMESTAMP"
        case TimestamptzNanoType() if dialect == "esker":
            return "TIMESTAMPTZ_NS"
        case TimestamptzType() | TimestamptzNanoType():
            return "TIMESTAMPTZ" if dialect == "duckdb" else "TIMESTAMP WITH TIME ZONE"
        case BinaryType() | FixedType():
            return "BLOB" if dialect == "duckdb" else "VARBINARY"
        case UUIDType():
            return "UUID"
    return SQL.get(str(kind), str(kind).upper())


def text(value: Any, kind: IcebergType) -> str:
    """Returns the text between the quotes of a literal."""
    match kind:
        case DateType():
            return (EPOCH + timedelta(days=value)).date().isoformat()
        case TimeType():
            return (EPOCH + timedelta(microseconds=value)).time().isoformat(timespec="microseconds")
        case TimestampType():
            return (EPOCH + timedelta(microseconds=value)).isoformat(sep=" ", timespec="microseconds")
        case TimestamptzType():
            return text(value, TimestampType()) + "+00:00"
        case TimestampNanoType() | TimestamptzNanoType():
            zone = "+00:00" if isinstance(kind, TimestamptzNanoType) else ""
            return f"{(EPOCH + timedelta(seconds=value // 10**9)).isoformat(sep=' ')}.{value % 10**9:09}{zone}"
        case UUIDType():
            return str(uuid.UUID(hex=value))
        case FloatType() | DoubleType():
            return "NaN" if math.isnan(value) else repr(value).replace("inf", "Infinity")
    return f"{value:f}" if isinstance(kind, DecimalType) else str(value)


def string(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def sql(value: Any, kind: IcebergType, dialect: str, style: int = 0) -> str:
    """Returns a literal. Styles: 0 typed, 1 without its type if the column determines it, 2 a cast."""
    if value is None:
        return "NULL"
    if isinstance(kind, (StructType, ListType, MapType)):
        return nested(value, kind, dialect)
    if isinstance(kind, VariantType):
        return variant(value, style)
    if isinstance(kind, ShapeType):
        return shape(value, style)
    plain, name = text(value, kind), sql_type(kind, dialect)
    match kind:
        case StringType():
            return string(value)
        case BooleanType():
            return "true" if value else "false"
        case BinaryType() | FixedType():
            return blob(value) if dialect == "duckdb" else f"X'{value.hex()}'"
        case FloatType() | DoubleType() if math.isfinite(value) and style != 2 and plain != "-0.0":
            # A number without an exponent is a decimal, and a decimal zero has no sign.
            return plain
        case DecimalType() if style != 2:
            return f"{value:f}"
        case DateType() | TimeType() | TimestampType() | UUIDType() if style == 0 and dialect != "duckdb":
            return f"{name} '{plain}'"
        case DateType() | TimeType() | TimestampType() | TimestamptzType() | UUIDType() if style == 1:
            return f"'{plain}'"
    if plain.lstrip("-").isdigit() and style != 2:
        return plain
    return f"CAST('{plain}' AS {name})"


def variant(value: Variant, style: int = 2) -> str:
    """Returns a variant in Esker's SQL: from JSON, or as a cast of a type that JSON lacks."""
    of = value.tree
    match of:
        case bytes():
            return f"CAST(X'{of.hex()}' AS VARIANT)"
        case Typed(kind, number):
            return f"CAST({sql(number, TYPED[kind], 'esker', 2)} AS VARIANT)"
        case int() if style == 1 and not isinstance(of, bool) and of != -(2**63):
            return f"CAST({of} AS VARIANT)"
        case str() if style == 1:
            return f"CAST({string(of)} AS VARIANT)"
        case bool() if style == 1:
            return f"CAST({str(of).lower()} AS VARIANT)"
    return f"parse_json({string(variants.json_text(of))})"


# Types of variants that JSON lacks, as types of columns.
TYPED = {
    "float": FloatType(), "date": DateType(), "time": TimeType(), "timestamp": TimestampType(), "uuid": UUIDType(),
    "timestamptz": TimestamptzType(), "timestamp_ns": TimestampNanoType(), "timestamptz_ns": TimestamptzNanoType(),
}  # fmt: skip


def shape(value: bytes, style: int = 2) -> str:
    of = shapes.read(value)
    # Text can't express the byte order of well-known binary.
    if style == 0 and shapes.wkb(of) == value:
        return f"ST_GeomFromText('{shapes.wkt(of)}')"
    return f"X'{value.hex()}'" if style == 1 else f"ST_GeomFromWKB(X'{value.hex()}')"


def blob(value: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"


def nested(value: Any, kind: IcebergType, dialect: str) -> str:
    match kind:
        case StructType():
            inner = [(f.name, sql(value.get(f.field_id), f.field_type, dialect, 2)) for f in kind.fields]
            if dialect == "duckdb":
                return "{" + ", ".join(f"{string(name)}: {v}" for name, v in inner) + "}"
            return "named_struct(" + ", ".join(f"{string(name)}, {v}" for name, v in inner) + ")"
        case ListType():
            return "[" + ", ".join(sql(v, kind.element_type, dialect, 2) for v in value) + "]"
        case MapType():
            keys = ", ".join(sql(k, kind.key_type, dialect, 2) for k, _ in value)
            items = ", ".join(sql(v, kind.value_type, dialect, 2) for _, v in value)
            return f"MAP([{keys}], [{items}])"
    raise TypeError(str(kind))


def pyiceberg(value: Any, kind: IcebergType) -> Any:
    return uuid.UUID(hex=value) if isinstance(kind, UUIDType) else value


def default(value: Any, kind: IcebergType) -> Any:
    """Returns a value in the JSON of the format, or None if the format has none for it."""
    match kind:
        case FloatType() | DoubleType():
            return value if math.isfinite(value) else None
        case BinaryType() | FixedType():
            return value.hex().upper()
        case TimestampType() | TimestamptzType() | TimestampNanoType() | TimestamptzNanoType():
            return text(value, kind).replace(" ", "T")
        case DateType() | TimeType() | UUIDType() | DecimalType():
            return text(value, kind)
    return value


def path_of(names: list[str]) -> str:
    return ".".join(quoted(name) for name in names)
