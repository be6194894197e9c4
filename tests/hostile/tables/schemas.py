"""Generates schemas, partition specs and steps of evolution from a seed."""

from __future__ import annotations

import random

from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
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

from .. import literals, names, values
from ..opaque import comparable
from .state import State

PRIMITIVES = [
    "boolean", "int", "long", "float", "double", "decimal(9,2)", "decimal(18,6)", "decimal(38,10)", "decimal(5,0)",
    "date", "time", "timestamp", "timestamptz", "string", "string", "uuid", "fixed[5]", "binary",
]  # fmt: skip
# DuckDB does not support timestamptz_ns, so it is rare.
NANOSECONDS = ["timestamp_ns", "timestamp_ns"]
PROMOTED = {"int": "long", "float": "double", "decimal(9, 2)": "decimal(12, 2)", "decimal(5, 0)": "decimal(38, 0)"}


class Ids:
    """Distinct field ids, and limits of the types. The catalog assigns its own ids later.

    Spark has no time and no nanoseconds, and tables that DuckDB creates no timestamptz_ns. `new` is the share of
    variants, geometries and unknown among the types.
    """

    def __init__(self, last: int = 0, for_spark: bool = False, for_duckdb: bool = False, new: float = 0.0) -> None:
        self.last, self.for_spark, self.for_duckdb, self.new = last, for_spark, for_duckdb, new

    def __call__(self) -> int:
        self.last += 1
        return self.last


def kind(pick: random.Random, version: int, depth: int, ids: Ids) -> object:
    """Returns a type as JSON."""
    if depth < 3 and pick.random() < (0.25 if depth == 0 else 0.35):
        match pick.randrange(4):
            case 0 | 1:
                taken: set[str] = set()
                fields = []
                for _ in range(pick.randrange(1, 4)):
                    name = names.some(pick, taken, 0.3)
                    taken.add(name)
                    must = pick.random() < 0.1
                    fields.append(
                        {"id": ids(), "name": name, "required": must, "type": kind(pick, version, depth + 1, ids)}
                    )
                return {"type": "struct", "fields": fields}
            case 2:
                return {
                    "type": "list",
                    "element-id": ids(),
                    "element-required": pick.random() < 0.1,
                    "element": kind(pick, version, depth + 1, ids),
                }
            case 3:
                key, must = pick.choice(["string", "int", "long", "date"]), pick.random() < 0.1
                return {
                    "type": "map", "key-id": ids(), "key": key, "value-id": ids(), "value-required": must,
                    "value": kind(pick, version, depth + 1, ids),
                }  # fmt: skip
    if version == 3 and ids.new and pick.random() < ids.new and not (ids.for_spark and depth):
        return new(pick, depth, ids.for_spark)
    if version == 3 and not ids.for_spark and pick.random() < 0.02:
        return "timestamp_ns" if ids.for_duckdb else "timestamptz_ns"
    return primitive(pick, version, ids)


SHAPES = [
    "geometry", "geometry", "geometry(EPSG:4326)", "geography", "geography", "geography(OGC:CRS84, karney)",
    "geography(OGC:CRS84, spherical)",
]  # fmt: skip


def new(pick: random.Random, depth: int, for_spark: bool = False) -> str:
    """Returns a type of version 3; Spark 4 supports only variants. Files can't have lists or maps of unknown only."""
    if for_spark:
        return "variant"
    sorts = ["variant", "variant", "shape", "shape", "nanoseconds", *(["unknown"] if depth == 0 else [])]
    match pick.choice(sorts):
        case "shape":
            return pick.choice(SHAPES)
        case "nanoseconds":
            return pick.choice(["timestamp_ns", "timestamptz_ns"])
        case other:
            return other


def around(pick: random.Random, ids: Ids, inner: str) -> dict:
    """Returns a struct, list or map of a type of version 3."""
    kind = pick.choice(SHAPES) if inner == "shape" else inner
    match pick.randrange(4):
        case 0:
            return {"type": "list", "element-id": ids(), "element": kind, "element-required": False}
        case 1:
            of_value = {"value-id": ids(), "value": kind, "value-required": False}
            return {"type": "map", "key-id": ids(), "key": "string"} | of_value
    fields = [{"id": ids(), "name": name, "required": False, "type": of} for name, of in (("x", kind), ("n", "int"))]
    if pick.random() < 0.3:
        fields.append({"id": ids(), "name": "d", "required": False, "type": around(pick, ids, inner)})
    return {"type": "struct", "fields": fields}


def primitive(pick: random.Random, version: int, ids: Ids) -> str:
    known = [t for t in PRIMITIVES if t != "time"] if ids.for_spark else PRIMITIVES
    return pick.choice(known + (NANOSECONDS if version == 3 and not ids.for_spark else []))


def columns(
    pick: random.Random, version: int, wanted: list[tuple[str, object]], more: int, ids: Ids, hostile: float
) -> list[dict]:
    """Returns the columns that a theme needs, and others."""
    taken = {name for name, _ in wanted}
    found = [{"id": ids(), "name": name, "required": False, "type": of} for name, of in wanted]
    for _ in range(more):
        name = names.some(pick, taken, hostile, ids.for_duckdb)
        taken.add(name)
        must, of = pick.random() < 0.1, kind(pick, version, 0, ids)
        found.append({"id": ids(), "name": name, "required": must and of != "unknown", "type": of})
    pick.shuffle(found)
    return found


def transforms(of: IcebergType) -> list[str]:
    match of:
        case TimestampNanoType() | TimestamptzNanoType():
            return ["identity", "year", "month", "day", "hour", "bucket[3]"]
        case TimestampType() | TimestamptzType():
            return ["identity", "year", "month", "day", "hour", "bucket[3]", "void"]
        case DateType():
            return ["identity", "year", "month", "day", "bucket[3]", "void"]
        case UUIDType():
            return ["identity", "bucket[3]", "void"]
        case IntegerType() | LongType() | DecimalType():
            return ["identity", "identity", "bucket[3]", "truncate[10]", "void"]
        case StringType():
            return ["identity", "identity", "bucket[3]", "truncate[4]", "truncate[1]", "void"]
        case BinaryType():
            return ["identity", "bucket[3]", "truncate[2]", "void"]
        case FixedType() | TimeType():
            return ["identity", "bucket[3]", "void"]
        case FloatType() | DoubleType():
            return ["identity", "void"]
        case PrimitiveType():
            return ["identity", "void"]
    return []


def partition_fields(fields: list[NestedField] | tuple[NestedField, ...]) -> list[NestedField]:
    """Returns the fields that may be the source of a partition."""
    found = [f for f in fields if comparable(f.field_type)]
    inner = [g for f in fields if isinstance(f.field_type, StructType) for g in partition_fields(f.field_type.fields)]
    return found + inner


def evolution(pick: random.Random, s: State, ids: Ids) -> dict | None:
    """Returns a step that changes the schema."""
    fields = list(s.schema.fields)
    taken = {f.name for f in fields}
    used = {f.source_id for spec in s.table.specs().values() for f in spec.fields}
    used |= {f.source_id for order in s.table.sort_orders().values() for f in order.fields}
    structs = [f for f in fields if isinstance(f.field_type, StructType)]
    if s.version == 3 and pick.random() < 0.25:
        return defaulted(pick, s, ids)
    match pick.choice(["add", "add", "add in", "drop", "rename", "rename in", "first", "promote", "promote"]):
        case "add":
            return {
                "do": "schema",
                "change": "add",
                "name": names.some(pick, taken, 0.4),
                "type": kind(pick, s.version, 0, ids),
            }
        case "add in" if structs:
            above = pick.choice(structs)
            name = names.some(pick, {f.name for f in above.field_type.fields}, 0.2)
            step = {
                "do": "schema",
                "change": "add",
                "in": above.field_id,
                "name": name,
                "type": primitive(pick, s.version, ids),
            }
            if s.version == 3 and pick.random() < 0.6:
                step |= {"type": "int", "default": 100} if pick.random() < 0.5 else {"type": "string", "default": "d'f"}
            return step
        case "drop":
            free = [f for f in fields if f.field_id not in used]
            if len(fields) > 2 and free:
                return {"do": "schema", "change": "drop", "field": pick.choice(free).field_id}
        case "rename":
            return {
                "do": "schema",
                "change": "rename",
                "field": pick.choice(fields).field_id,
                "name": names.some(pick, taken, 0.4),
            }
        case "rename in" if structs:
            inner = pick.choice(pick.choice(structs).field_type.fields)
            return {"do": "schema", "change": "rename", "field": inner.field_id, "name": f"r{pick.randrange(1000)}"}
        case "first":
            return {"do": "schema", "change": "first", "field": pick.choice(fields).field_id}
        case "promote":
            nested = [g for f in structs for g in f.field_type.fields]
            for f in pick.sample(fields + nested, len(fields + nested)):
                if isinstance(f.field_type, UnknownType):
                    of = pick.choice(["int", "string", "timestamp_ns", "double", "decimal(9,2)"])
                    return {"do": "schema", "change": "promote", "field": f.field_id, "type": of}
                if str(f.field_type) in PROMOTED and promotable(s, f):
                    return {
                        "do": "schema",
                        "change": "promote",
                        "field": f.field_id,
                        "type": PROMOTED[str(f.field_type)],
                    }
    return None


def defaulted(pick: random.Random, s: State, ids: Ids) -> dict | None:
    """Returns a step that adds a field with defaults at any depth, or changes the write default of a field."""
    fields = list(s.schema.fields)
    structs = [f for f in fields if isinstance(f.field_type, StructType)]
    if pick.random() < 0.3:
        inner = [g for f in structs for g in f.field_type.fields]
        found = [f for f in fields + inner if may_have_default(f.field_type)]
        if not found:
            return None
        f = pick.choice(found)
        return {
            "do": "schema", "change": "write default", "field": f.field_id, "value": values.of_field(pick, f),
        }  # fmt: skip
    above = pick.choice(structs) if structs and pick.random() < 0.5 else None
    taken = {f.name for f in (above.field_type.fields if above else fields)}
    field = with_default(pick, s.version, ids, names.some(pick, taken, 0.3), 0)
    return {"do": "schema", "change": "add field", "in": above and above.field_id, "field json": field}


def may_have_default(kind: IcebergType) -> bool:
    return comparable(kind) and not isinstance(kind, (FloatType, DoubleType))


def with_default(pick: random.Random, version: int, ids: Ids, name: str, depth: int) -> dict:
    """Returns a field as JSON, of a primitive type or a struct, list or map of such."""
    found: dict = {"id": ids(), "name": name, "required": False}
    shape = pick.random() if depth < 2 else 1.0
    if shape < 0.4:
        inner = [with_default(pick, version, ids, f"f{n}", depth + 1) for n in range(pick.randrange(1, 4))]
        # A part of the type allows no default but null.
        if pick.random() < 0.5:
            inner.append({"id": ids(), "name": "n", "required": False, "type": new(pick, 1, ids.for_spark)})
        found["type"], default = {"type": "struct", "fields": inner}, {}
    elif shape < 0.5:
        found["type"] = {"type": "list", "element-id": ids(), "element": "int", "element-required": False}
        default = pick.choice([[], [1, None, -3]])
    elif shape < 0.6:
        found["type"] = {
            "type": "map", "key-id": ids(), "key": "string", "value-id": ids(), "value": "long", "value-required": False
        }  # fmt: skip
        default = pick.choice([{"keys": [], "values": []}, {"keys": ["k", "l"], "values": [7, None]}])
    else:
        found["type"] = primitive(pick, version, ids)
        kind = NestedField(1, "x", found["type"]).field_type
        while (default := literals.default(values.some(pick, kind), kind)) is None:
            pass
    if pick.random() < 0.85:
        found["initial-default"] = default
    if pick.random() < 0.8:
        found["write-default"] = default
    return found


def promotable(s: State, field: NestedField) -> bool:
    """Returns True if a promotion does not change buckets and truncations, which it does for decimals."""
    return not isinstance(field.field_type, DecimalType) or all(
        f.source_id != field.field_id for spec in s.table.specs().values() for f in spec.fields
    )


def repartition(pick: random.Random, s: State) -> dict | None:
    """Returns a step that changes the partition spec."""
    if s.spec.fields and pick.random() < 0.4:
        return {"do": "spec", "change": "remove", "at": pick.randrange(9)}
    there = {(f.source_id, str(f.transform)) for f in s.spec.fields}
    free = partition_fields(s.schema.fields)
    if not free or len(s.spec.fields) > 2:
        return None
    field = pick.choice(free)
    chosen = [t for t in transforms(field.field_type) if t != "void" and (field.field_id, t) not in there]
    if not chosen:
        return None
    return {
        "do": "spec", "change": "add", "field": field.field_id, "transform": pick.choice(chosen),
        "name": f"part{pick.randrange(1000)}{pick.choice(names.HOSTILE) if pick.random() < 0.4 else ''}",
    }  # fmt: skip
