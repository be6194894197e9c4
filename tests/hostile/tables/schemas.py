"""Schemas, specs and steps of evolution, made by seed."""

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
    UUIDType,
)

from .. import names
from .state import State

PRIMITIVES = [
    "boolean", "int", "long", "float", "double", "decimal(9,2)", "decimal(18,6)", "decimal(38,10)", "decimal(5,0)",
    "date", "time", "timestamp", "timestamptz", "string", "string", "uuid", "fixed[5]", "binary",
]  # fmt: skip
# DuckDB knows no timestamptz_ns, so that there are few.
NANOSECONDS = ["timestamp_ns", "timestamp_ns"]
PROMOTED = {"int": "long", "float": "double", "decimal(9, 2)": "decimal(12, 2)", "decimal(5, 0)": "decimal(38, 0)"}


class Ids:
    """Ids that no two fields share; the catalog gives its own. Spark knows no time and no nanoseconds, and tables of
    DuckDB's own have no timestamptz_ns."""

    def __init__(self, last: int = 0, for_spark: bool = False, for_duckdb: bool = False) -> None:
        self.last, self.for_spark, self.for_duckdb = last, for_spark, for_duckdb

    def __call__(self) -> int:
        self.last += 1
        return self.last


def kind(pick: random.Random, version: int, depth: int, ids: Ids) -> object:
    """A type, as JSON."""
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
    if version == 3 and not ids.for_spark and pick.random() < 0.02:
        return "timestamp_ns" if ids.for_duckdb else "timestamptz_ns"
    return primitive(pick, version, ids)


def primitive(pick: random.Random, version: int, ids: Ids) -> str:
    known = [t for t in PRIMITIVES if t != "time"] if ids.for_spark else PRIMITIVES
    return pick.choice(known + (NANOSECONDS if version == 3 and not ids.for_spark else []))


def columns(
    pick: random.Random, version: int, wanted: list[tuple[str, object]], more: int, ids: Ids, hostile: float
) -> list[dict]:
    """The columns that a theme wants, and others."""
    taken = {name for name, _ in wanted}
    found = [{"id": ids(), "name": name, "required": False, "type": of} for name, of in wanted]
    for _ in range(more):
        name = names.some(pick, taken, hostile, ids.for_duckdb)
        taken.add(name)
        found.append({
            "id": ids(), "name": name, "required": pick.random() < 0.1, "type": kind(pick, version, 0, ids),
        })  # fmt: skip
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
    """Fields that may be the source of a partition."""
    found = [f for f in fields if isinstance(f.field_type, PrimitiveType)]
    inner = [g for f in fields if isinstance(f.field_type, StructType) for g in partition_fields(f.field_type.fields)]
    return found + inner


def evolution(pick: random.Random, s: State, ids: Ids) -> dict | None:
    """A step that changes the schema."""
    fields = list(s.schema.fields)
    taken = {f.name for f in fields}
    used = {f.source_id for spec in s.table.specs().values() for f in spec.fields}
    used |= {f.source_id for order in s.table.sort_orders().values() for f in order.fields}
    structs = [f for f in fields if isinstance(f.field_type, StructType)]
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
                if str(f.field_type) in PROMOTED and promotable(s, f):
                    return {
                        "do": "schema",
                        "change": "promote",
                        "field": f.field_id,
                        "type": PROMOTED[str(f.field_type)],
                    }
    return None


def promotable(s: State, field: NestedField) -> bool:
    """Whether a bucket's hash or a cut stays what it was: of a decimal it does not."""
    return not isinstance(field.field_type, DecimalType) or all(
        f.source_id != field.field_id for spec in s.table.specs().values() for f in spec.fields
    )


def repartition(pick: random.Random, s: State) -> dict | None:
    """A step that changes the spec."""
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
