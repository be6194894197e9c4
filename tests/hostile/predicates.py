"""Predicates as data: generated from a seed, printed in each dialect, and evaluated in Python as a third opinion.

A predicate is a list: `["=", path, value, style]` (also <, <=, >, >=, !=), `["in", path, values]`,
`["between", path, low, high]`, `["null", path]`, `["starts", path, text]`, `["not", p]`, `["and", p, q]`,
`["or", p, q]`, `["shape", path, function, text, bytes, distance, on a globe]`. A path is the field ids from the column
down. A path into a variant ends with `{"at": steps, "as": type, "form": how}`.
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
    StringType,
    StructType,
)

from . import literals, shapes, values, variants
from .names import quoted
from .opaque import OPAQUE, VariantType, comparable
from .variants import Unfit, Unsure, Variant

COMPARISONS = ["=", "<", "<=", ">", ">=", "!="]


def paths(fields: tuple[NestedField, ...] | list[NestedField], above: tuple[int, ...] = ()) -> list[list[int]]:
    """Returns the paths of primitive fields that a predicate can use: columns, and fields of nested structs."""
    found: list[list[int]] = []
    for field in fields:
        here = (*above, field.field_id)
        if comparable(field.field_type):
            found.append(list(here))
        elif isinstance(field.field_type, StructType):
            found += paths(field.field_type.fields, here)
    return found


def opaque(fields: tuple[NestedField, ...], sorts: tuple[type, ...], above: tuple[int, ...] = ()) -> list[list[int]]:
    """Returns the paths of fields of some types without an order, such as variants."""
    found: list[list[int]] = []
    for field in fields:
        here = (*above, field.field_id)
        if isinstance(field.field_type, sorts):
            found.append(list(here))
        elif isinstance(field.field_type, StructType):
            found += opaque(field.field_type.fields, sorts, here)
    return found


def fields_of(schema: Schema, path: list[int]) -> list[NestedField]:
    return [schema.find_field(i) for i in path if isinstance(i, int)]


def kind_of(schema: Schema, path: list[int]) -> IcebergType:
    if isinstance(path[-1], dict):
        return variants.KINDS[path[-1]["as"]]
    return schema.find_field(path[-1]).field_type


def some(pick: random.Random, schema: Schema, rows: list[dict], depth: int = 0, plain: bool = False) -> list:
    """Returns a filter. A plain one uses primitive columns only."""
    if not plain and pick.random() < 0.6 and (found := special(pick, schema, rows)):
        return found
    if depth < 2 and pick.random() < 0.25:
        a = some(pick, schema, rows, depth + 1, plain)
        if pick.random() < 0.3:
            return ["not", a]
        return [pick.choice(["and", "or"]), a, some(pick, schema, rows, depth + 1, plain)]
    if not (found := paths(schema.fields)):
        return ["null", [schema.fields[0].field_id]]
    return on_path(pick, schema, rows, pick.choice(found))


def on_path(pick: random.Random, schema: Schema, rows: list[dict], path: list) -> list:
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


def special(pick: random.Random, schema: Schema, rows: list[dict]) -> list | None:
    """Returns a filter on a field of a variant or on a shape's place, or None if no answer is certain."""
    found = opaque(schema.fields, OPAQUE)
    if not found:
        return None
    for _ in range(20):
        path = pick.choice(found)
        if pick.random() < 0.1:
            return ["null", path]
        is_variant = isinstance(kind_of(schema, path), VariantType)
        try:
            made = of_variant(pick, schema, rows, path) if is_variant else of_shape(pick, schema, rows, path)
            for row in rows if made else []:
                holds(made, row)
        except (Unsure, Unfit):
            continue
        if made:
            return made
    return None


def of_variant(pick: random.Random, schema: Schema, rows: list[dict], path: list[int]) -> list | None:
    trees = [v.tree for row in rows if (v := lookup(row, path)) is not None]
    if not trees:
        return None
    chosen = pick.choice(trees)
    steps = pick.choice(variants.paths(chosen)) if pick.random() < 0.9 else [pick.choice(variants.HARD[1:])]
    here = variants.at(chosen, steps)
    match here:
        case bool():
            to = "boolean"
        case int():
            to = pick.choice(["int", "bigint", "bigint", "double", "decimal(20, 4)", "string"])
        case Decimal():
            to = pick.choice(["decimal(20, 4)", "double", "int"])
        case float():
            to = "double"
        case str():
            to = pick.choice(["string", "string", "int"])
        case variants.Typed("date", _):
            to = "date"
        case _:
            to = pick.choice(list(variants.KINDS))
    form = pick.choice(["get", "try", "try", "cast", "try cast"])
    return on_path(pick, schema, rows, [*path, {"at": steps, "as": to, "form": form}])


SHAPES = ["ST_Intersects", "ST_Within", "ST_Contains", "ST_DWithin"]


def of_shape(pick: random.Random, schema: Schema, rows: list[dict], path: list[int]) -> list | None:
    """Returns a filter by the relation to a rectangle, or by the distance from a point."""
    kind, known = kind_of(schema, path), [v for row in rows if (v := lookup(row, path)) is not None]
    function = "ST_DWithin" if kind.on_globe else pick.choice(SHAPES)
    near = [p for v in pick.sample(known, min(2, len(known))) for p in shapes.coordinates(shapes.read(v))]
    x, y = near[0][:2] if near and pick.random() < 0.8 else (pick.randrange(-60, 60), pick.randrange(-60, 60))
    if function == "ST_DWithin":
        shape = ("POINT", False, (x + pick.choice([0, 0.5, -3]), y + pick.choice([0, 0.5, -3])))
        if kind.on_globe:
            x, y = shape[2]
            shape = ("POINT", False, (max(-180.0, min(180.0, x)), max(-89.0, min(89.0, y))))
        far = pick.choice([0.0, 1.0, 1e5, 7e5, 3e6, 9e6]) if kind.on_globe else pick.choice([0, 0.75, 3.1, 20.3])
    else:
        w, h = pick.randrange(1, 30) / 2, pick.randrange(1, 30) / 2
        far, shape = None, shapes.rectangle(x - pick.choice([0, w, 0.5]), y - pick.choice([0, h, 0.5]), w, h)
    return ["shape", path, function, shapes.wkt(shape), shapes.wkb(shape), far, kind.on_globe]


def lies(function: str, found: bytes, other: bytes, far: float | None, on_globe: bool) -> bool:
    shape, beside = shapes.read(found), shapes.read(other)
    match function:
        case "ST_Intersects":
            return shapes.intersects(shape, beside)
        case "ST_Within" | "ST_Contains":
            return shapes.within(shape, beside)
    (point,) = shapes.coordinates(beside)
    if not on_globe:
        apart = shapes.distance(shape, point)
        if apart is not None and abs(apart - far) < 1e-9 * max(1.0, far) and apart != far:
            raise Unsure
        return apart is not None and apart <= far
    if shape[0] != "POINT":
        raise Unsure
    if shape[2] is None:
        return False
    apart = shapes.metres(shape[2], point)
    if abs(apart - far) < 0.02 * max(apart, far) and (apart, far) != (0, 0):
        raise Unsure
    return apart <= far


def lookup(row: dict | None, path: list) -> Any:
    for step in path:
        if isinstance(step, dict):
            return None if row is None else part(row, step)
        row = None if row is None else row.get(step)
    return row


def part(found: Variant, step: dict) -> Any:
    try:
        return variants.cast(variants.at(found.tree, step["at"]), step["as"])
    except Unfit:
        if step["form"].startswith("try"):
            return None
        raise


@cache
def greatest_nan(value: float) -> tuple:
    return (1, 0.0) if math.isnan(value) else (0, value)


def ordered(value: Any) -> Any:
    """Returns a key that compares as SQL does: NaN is the greatest, -0.0 equals 0.0, text is compared by bytes."""
    match value:
        case bool() | int() | Decimal() | bytes():
            return value
        case float():
            return greatest_nan(value)
        case str():
            return value.encode()
    raise TypeError(repr(value))


def fits(p: list, schema: Schema) -> bool:
    """Returns True if a schema has all the fields of a filter."""
    if p[0] in ("not", "and", "or"):
        return all(fits(a, schema) for a in p[1:])
    return all(schema.find_column_name(i) is not None for i in p[1] if isinstance(i, int))


def holds(p: list, row: dict) -> bool | None:
    """Evaluates a predicate for a row, in three-valued logic: None is unknown."""
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
    if p[0] == "shape":
        return lies(p[2], found, *p[4:])
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
    """Returns the predicate in an engine's dialect, or as a filter of the management API, which has literals only."""
    match p:
        case ["not", a]:
            return f"NOT ({sql(a, schema, dialect)})"
        case ["and" | "or" as op, a, b]:
            return f"({sql(a, schema, dialect)}) {op.upper()} ({sql(b, schema, dialect)})"
    if dialect != "esker" and (p[0] == "shape" or isinstance(p[1][-1], dict) or is_opaque(schema, p[1])):
        raise NoOpinion(f"{dialect} is not asked for parts of variants and where shapes lie")
    kind, column = kind_of(schema, p[1]), name_in(schema, p[1], dialect)

    def literal(value: Any, style: int = 2) -> str:
        if dialect == "filter":
            return literals.sql(value, kind, "esker", 1)
        return literals.sql(value, kind, dialect, style if dialect == "esker" else 2)

    match p:
        case ["shape", _, "ST_Contains" as function, text, *_]:
            return f"{function}(ST_GeomFromText('{text}'), {column})"
        case ["shape", _, function, text, _, far, _]:
            more = "" if far is None else f", {far}"
            return f"{function}({column}, ST_GeomFromText('{text}'){more})"
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
    if isinstance(path[-1], dict):
        return part_in(literals.path_of(names), **path[-1])
    if dialect == "spark":
        return ".".join("`" + name.replace("`", "``") + "`" for name in names)
    if dialect == "duckdb" and len(names) > 1:
        return quoted(names[0]) + "".join(f"[{literals.string(name)}]" for name in names[1:])
    return literals.path_of(names)


def part_in(column: str, **step: Any) -> str:
    way, kind, form = literals.string(variants.path_text(step["at"])), step["as"], step["form"]
    if form in ("get", "try"):
        return f"{'try_' if form == 'try' else ''}variant_get({column}, {way}, '{kind}')"
    inner = f"variant_get({column}, {way})" if step["at"] else column
    return f"{'TRY_' if form.startswith('try') else ''}CAST({inner} AS {kind.upper()})"


def about(p: list) -> str | None:
    """Returns the special subject of a filter: fields of variants, or shapes; None if it has none."""
    if p[0] in ("not", "and", "or"):
        return next((found for a in p[1:] if (found := about(a))), None)
    return "shapes" if p[0] == "shape" else "parts of variants" if isinstance(p[1][-1], dict) else None


def is_opaque(schema: Schema, path: list) -> bool:
    return isinstance(kind_of(schema, path), OPAQUE)


class NoOpinion(Exception):
    """An engine can't evaluate the question, so it has no vote."""


def pyiceberg(p: list, schema: Schema) -> px.BooleanExpression:
    match p:
        case ["not", a]:
            return px.Not(pyiceberg(a, schema))
        case ["and", a, b]:
            return px.And(pyiceberg(a, schema), pyiceberg(b, schema))
        case ["or", a, b]:
            return px.Or(pyiceberg(a, schema), pyiceberg(b, schema))
    if p[0] == "shape" or isinstance(p[1][-1], dict):
        raise NoOpinion("PyIceberg has no such filters")
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
