"""Column statistics of a data file as writers may make them.

Complete, partial, wide or missing ones are legal. Senseless ones (`SENSELESS`) must be treated as unknown.
"""

from __future__ import annotations

import math
import random
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.schema import Schema
from pyiceberg.types import BinaryType, DoubleType, FloatType, IntegerType, LongType, StringType, UUIDType

from .. import literals, predicates, shapes, shredding
from ..opaque import OPAQUE, ShapeType

KINDS = [
    "full",
    "none",
    "counts",
    "bounds",
    "no nan counts",
    "no null counts",
    "wide",
    "cut",
    "cut inside",
    "nan bounds",
    "some columns",
    "inverted",
    "odd counts",
]

# Lower bounds above upper ones, and more nulls than values. Some engines prune files by them.
SENSELESS = ("inverted", "odd counts")


def made(
    kind: str, rows: list[dict], schema: Schema, seed: int, variants: dict[int, shredding.Column] | None = None
) -> dict[str, dict]:
    """Returns manifest fields by name. The seed chooses the columns without statistics."""
    pick = random.Random(seed)
    names = ["value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds", "column_sizes"]
    found: dict[str, dict] = {name: {} for name in names}
    if kind == "none":
        return found
    for path in predicates.paths(schema.fields):
        if kind != "some columns" or pick.random() < 0.5:
            column(kind, [predicates.lookup(row, path) for row in rows], path[-1], schema, found)
    for path in predicates.opaque(schema.fields, OPAQUE):
        if kind != "some columns" or pick.random() < 0.5:
            without_order(kind, [predicates.lookup(row, path) for row in rows], path[-1], schema, pick, variants, found)
    return found


def without_order(
    kind: str,
    values: list[Any],
    field: int,
    schema: Schema,
    pick: random.Random,
    variants: dict[int, shredding.Column] | None,
    found: dict[str, dict],
) -> None:
    """Returns counts, and as bounds the bounding box of geometries or the bounds of a variant's shredded fields."""
    known, of = [v for v in values if v is not None], schema.find_field(field).field_type
    if kind != "bounds":
        found["value_counts"][field] = len(values)
        if kind != "no null counts":
            found["null_value_counts"][field] = len(values) - len(known)
    if kind in ("counts", *SENSELESS):
        return
    if isinstance(of, ShapeType):
        ends = shapes.box(known, of.on_globe, pick)
    else:
        ends = shredding.bounds(variants[field]) if variants and field in variants else None
    if ends:
        found["lower_bounds"][field], found["upper_bounds"][field] = ends


def column(kind: str, values: list[Any], field: int, schema: Schema, found: dict[str, dict]) -> None:
    known, of = [v for v in values if v is not None], schema.find_field(field).field_type
    numbers = [v for v in known if not (isinstance(v, float) and math.isnan(v))]
    if kind != "bounds":
        found["value_counts"][field] = len(values)
        if kind != "no null counts":
            odd = 1 + 2 * len(values) if kind == "odd counts" and len(known) < len(values) else 0
            found["null_value_counts"][field] = len(values) - len(known) + odd
        if isinstance(of, (FloatType, DoubleType)) and kind != "no nan counts":
            found["nan_value_counts"][field] = len(known) - len(numbers)
    if kind == "counts" or not numbers:
        return
    low, high = min(numbers, key=predicates.ordered), max(numbers, key=predicates.ordered)
    if kind == "nan bounds" and isinstance(of, (FloatType, DoubleType)):
        low = high = float("nan")
    elif isinstance(of, (FloatType, DoubleType)):
        # Specification: a lower bound of zero is -0.0, an upper one +0.0.
        low, high = (-0.0 if low == 0 else low), (0.0 if high == 0 else high)
    if kind == "wide" and isinstance(of, (IntegerType, LongType)):
        bits = 31 if isinstance(of, IntegerType) else 63
        low, high = max(low - 7, -(2**bits)), min(high + 7, 2**bits - 1)
    if kind == "inverted":
        low, high = high, low
    if kind in ("cut", "full") and isinstance(of, (StringType, BinaryType)):
        low, high = low[:16], cut_above(high)
    if kind == "cut inside" and isinstance(of, StringType):
        # DuckDB cuts bytes, so the bound is no valid text if a character crosses the end.
        above = cut_above(high.encode())
        found["lower_bounds"][field] = low.encode()[:16]
        if above is not None:
            found["upper_bounds"][field] = above
        return
    found["lower_bounds"][field] = to_bytes(of, plain(low, of))
    if high is not None:
        found["upper_bounds"][field] = to_bytes(of, plain(high, of))


def cut_above(value: str | bytes) -> str | bytes | None:
    """Returns the smallest upper bound of at most 16 characters or bytes, or None if there is none."""
    if len(value) <= 16:
        return value
    for end in range(16, 0, -1):
        if isinstance(value, bytes):
            if value[end - 1] < 255:
                return value[: end - 1] + bytes([value[end - 1] + 1])
        elif ord(value[end - 1]) < 0x10FFFF:
            following = ord(value[end - 1]) + 1
            return value[: end - 1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)
    return None


def plain(value: Any, of: Any) -> Any:
    return literals.pyiceberg(value, of) if isinstance(of, UUIDType) else value
