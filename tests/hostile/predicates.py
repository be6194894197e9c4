"""Predicates as data: made by seed, printed in each dialect, and evaluated in Python as a third opinion.

A predicate is a list: `["=", path, value, style]` (also <, <=, >, >=, !=), `["in", path, values]`,
`["between", path, low, high]`, `["null", path]`, `["starts", path, text]`, `["not", p]`, `["and", p, q]`,
`["or", p, q]`. A path is the field ids from the column down.
"""

from __future__ import annotations

import math
import random
from decimal import Decimal
from functools import cache
from typing import Any

import pyiceberg.expressions as px
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DoubleType,
    FloatType,
    IcebergType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
)

from . import literals, values
from .names import quoted

COMPARISONS = ["=", "<", "<=", ">", ">=", "!="]


def paths(fields: tuple[NestedField, ...] | list[NestedField], above: tuple[int, ...] = ()) -> list[list[int]]:
    """The primitive fields that a predicate can name: those of columns, and of structs within structs."""
    found: list[list[int]] = []
    for field in fields:
        here = (*above, field.field_id)
        if isinstance(field.field_type, PrimitiveType):
            found.append(list(here))
        elif isinstance(field.field_type, StructType):
            found += paths(field.field_type.fields, here)
    return found


def fields_of(schema: Schema, path: list[int]) -> list[NestedField]:
    return [schema.find_field(i) for i in path]


def kind_of(schema: Schema, path: list[int]) -> IcebergType:
    return schema.find_field(path[-1]).field_type


def some(pick: random.Random, schema: Schema, rows: list[dict], depth: int = 0) -> list:
    if depth < 2 and pick.random() < 0.25:
        a = some(pick, schema, rows, depth + 1)
        return (
            ["not", a] if pick.random() < 0.3 else [pick.choice(["and", "or"]), a, some(pick, schema, rows, depth + 1)]
        )
    path = pick.choice(paths(schema.fields))
    kind = kind_of(schema, path)

    def one() -> Any:
        found = lookup(pick.choice(rows), path) if rows and pick.random() < 0.7 else None
        return values.some(pick, kind) if found is None else found

    if isinstance(kind, StringType) and pick.random() < 0.15:
        return ["starts", path, one()[: pick.randrange(1, 18)]]
    match pick.randrange(10):
        case 0 | 1:
            return ["null", path]
        case 2 | 3:
            return ["in", path, [one() for _ in range(pick.randrange(1, 4))]]
        case 4:
            return ["between", path, one(), one()]
    return [pick.choice(COMPARISONS), path, one(), pick.randrange(3)]


def lookup(row: dict | None, path: list[int]) -> Any:
    for step in path:
        row = None if row is None else row.get(step)
    return row


@cache
def greatest_nan(value: float) -> tuple:
    return (1, 0.0) if math.isnan(value) else (0, value)


def ordered(value: Any) -> Any:
    """A key that compares as SQL does: NaN is the greatest, -0.0 is 0.0, text goes by its bytes."""
    match value:
        case bool() | int() | Decimal() | bytes():
            return value
        case float():
            return greatest_nan(value)
        case str():
            return value.encode()
    raise TypeError(repr(value))


def fits(p: list, schema: Schema) -> bool:
    """Whether a schema has all the fields of a filter."""
    if p[0] in ("not", "and", "or"):
        return all(fits(a, schema) for a in p[1:])
    return all(schema.find_column_name(i) is not None for i in p[1])


def holds(p: list, row: dict) -> bool | None:
    """Three-valued."""
    match p:
        case ["not", a]:
            inner = holds(a, row)
            return None if inner is None else not inner
        case ["and", a, b]:
            both = (holds(a, row), holds(b, row))
            return False if False in both else None if None in both else True
        case ["or", a, b]:
            both = (holds(a, row), holds(b, row))
            return True if True in both else None if None in both else False
        case ["null", path]:
            return lookup(row, path) is None
    found = lookup(row, p[1])
    if found is None:
        return None
    x = ordered(found)
    match p:
        case ["in", _, among]:
            return any(x == ordered(v) for v in among)
        case ["between", _, low, high]:
            return ordered(low) <= x <= ordered(high)
        case ["starts", _, prefix]:
            return found.startswith(prefix)
        case [op, _, value, _]:
            y = ordered(value)
            return {"=": x == y, "!=": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[op]
    raise TypeError(str(p))


def sql(p: list, schema: Schema, dialect: str) -> str:
    """In an engine's dialect, or as a filter of the management API, which takes literals only."""
    match p:
        case ["not", a]:
            return f"NOT ({sql(a, schema, dialect)})"
        case ["and" | "or" as op, a, b]:
            return f"({sql(a, schema, dialect)}) {op.upper()} ({sql(b, schema, dialect)})"
    kind, column = kind_of(schema, p[1]), name_in(schema, p[1], dialect)

    def literal(value: Any, style: int = 2) -> str:
        if dialect == "filter":
            return literals.sql(value, kind, "esker", 1)
        return literals.sql(value, kind, dialect, style if dialect == "esker" else 2)

    match p:
        case ["null", _]:
            return f"{column} IS NULL"
        case ["in", _, among]:
            return f"{column} IN ({', '.join(literal(v) for v in among)})"
        case ["between", _, low, high]:
            return f"{column} BETWEEN {literal(low)} AND {literal(high)}"
        case ["starts", _, prefix]:
            pattern = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            return f"{column} LIKE {literals.string(pattern)} ESCAPE '\\'"
        case [op, _, value, style]:
            return f"{column} {op} {literal(value, style)}"
    raise TypeError(str(p))


def name_in(schema: Schema, path: list[int], dialect: str) -> str:
    names = [f.name for f in fields_of(schema, path)]
    if dialect == "spark":
        return ".".join("`" + name.replace("`", "``") + "`" for name in names)
    if dialect == "duckdb" and len(names) > 1:
        return quoted(names[0]) + "".join(f"[{literals.string(name)}]" for name in names[1:])
    return literals.path_of(names)


class NoOpinion(Exception):
    """An engine has no vote on this."""


def pyiceberg(p: list, schema: Schema) -> px.BooleanExpression:
    match p:
        case ["not", a]:
            return px.Not(pyiceberg(a, schema))
        case ["and", a, b]:
            return px.And(pyiceberg(a, schema), pyiceberg(b, schema))
        case ["or", a, b]:
            return px.Or(pyiceberg(a, schema), pyiceberg(b, schema))
    kind, name = kind_of(schema, p[1]), schema.find_column_name(p[1][-1])
    if isinstance(kind, (FloatType, DoubleType)) and p[0] != "null":
        raise NoOpinion("PyIceberg compares floats as IEEE 754 does, SQL takes NaN for the greatest")
    literal = lambda value: literals.pyiceberg(value, kind)  # noqa: E731
    match p:
        case ["null", _]:
            return px.IsNull(name)
        case ["in", _, among]:
            return px.In(name, [literal(v) for v in among])
        case ["between", _, low, high]:
            return px.And(px.GreaterThanOrEqual(name, literal(low)), px.LessThanOrEqual(name, literal(high)))
        case ["starts", _, prefix]:
            return px.StartsWith(name, prefix)
        case [op, _, value, _]:
            kinds = [px.EqualTo, px.LessThan, px.LessThanOrEqual, px.GreaterThan, px.GreaterThanOrEqual, px.NotEqualTo]
            return kinds[COMPARISONS.index(op)](name, literal(value))
    raise TypeError(str(p))


def as_json(p: list) -> list:
    return (
        [p[0], *(as_json(a) for a in p[1:])] if p[0] in ("not", "and", "or") else [p[0], p[1], *values.as_json(p[2:])]
    )


def of_json(p: list) -> list:
    return (
        [p[0], *(of_json(a) for a in p[1:])] if p[0] in ("not", "and", "or") else [p[0], p[1], *values.of_json(p[2:])]
    )
