"""Difficult values of every type.

A value is plain Python: dates, times and timestamps are the integers in files, a struct is a dictionary by field id, a
map a list of pairs. So no engine's own types take part in comparisons.
"""

from __future__ import annotations

import random
import struct
from decimal import Decimal
from fractions import Fraction
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
    IntegerType,
    ListType,
    LongType,
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

from . import shapes, variants
from .opaque import ShapeType, VariantType
from .variants import Variant

DAY = 86_400_000_000
# 0001-01-01 and 9999-12-31, in days since 1970.
FIRST_DAY, LAST_DAY = -719_162, 2_932_896

LABELS = [
    "null",
    "",
    "a",
    "b",
    "a=1",
    "1/b=2",
    "2/b=3",
    "nullable",
    "NULL",
    "a b",
    "%",
    "x.y",
    "__HIVE_DEFAULT_PARTITION__",
]
TEXTS = [
    *LABELS, "'", "it's", "' OR 1=1 --", "x' OR 1=1 -- really?", '"', "\\", "\n", "\t", "--", "/* c */", "?", "$1", ";",
    "A", "B", "ä", "Z", "é", "日本語", "🦊", "\u007f", "\uffff", "\U0010ffff", "0", "1", "-1", "NaN", "true", "%%", "_",
    "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaab", "aaaaaaaaaaaaaaaac", "aaaaaaaaaaaaaaa日", "aaaaaaaaaaaaaaa🦊z",
    "\U0010ffff" * 17, "\uffff" * 16 + "x", "null-and-more-than-16",
]  # fmt: skip
DOUBLES = [5e-324, 1.7976931348623157e308, 0.1, 9007199254740993.0, 3.4028234663852886e38]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.25, 100.0, float("nan"), float("nan"), float("inf"), float("-inf")]
SMALLEST_FLOAT, LARGEST_FLOAT = struct.unpack("<ff", bytes.fromhex("01000000ffff7f7f"))


def some(pick: random.Random, kind: IcebergType, few: bool = False) -> Any:
    """Returns a value that is not NULL; with `few`, from a small set, so that values repeat."""
    match kind:
        case VariantType():
            return variants.some(pick, few)
        case ShapeType():
            # Distances on a globe are computed for points only, so some columns have only points.
            return shapes.some(pick, few, kind.on_globe, kind.on_globe and kind.crs is None)
        case UnknownType():
            return None
        case BooleanType():
            return pick.random() < 0.5
        case IntegerType():
            return some_integer(pick, 31, few)
        case LongType():
            return some_integer(pick, 63, few)
        case FloatType():
            return pick.choice(FLOATS if few else [*FLOATS, SMALLEST_FLOAT, LARGEST_FLOAT, -LARGEST_FLOAT, 16777216.0])
        case DoubleType():
            return pick.choice(FLOATS if few else [*FLOATS, *DOUBLES])
        case DecimalType():
            return some_decimal(pick, kind, few)
        case DateType():
            return pick.choice([0, -1, 1, 59, 365, 20_454] if few else [FIRST_DAY, LAST_DAY, -1, 0, 11_016, 20_512])
        case TimeType():
            return pick.choice([0, 1, DAY - 1, DAY // 2, 36_000_000_000, 3_600_000_000])
        case TimestampType() | TimestamptzType():
            return some_timestamp(pick, few)
        case TimestampNanoType() | TimestamptzNanoType():
            return pick.choice([0, 1, -1, 999, 1_700_000_000_000_000_001, -(10**18) - 7, 999_999_999, 36_000 * 10**9])
        case StringType():
            return pick.choice(LABELS if few else TEXTS)
        case UUIDType():
            return pick.choice(
                ["00" * 16, "ff" * 16, "f79c3e0967794b2fa3c66fb6b1a0d9d8", "7f" + "ff" * 15, "80" + "00" * 15]
            )
        case FixedType():
            return pick.choice([b"\x00", b"\xff", b"\x7f", b"a", b"\x80"]) * len(kind)
        case BinaryType():
            return pick.choice([b"", b"\x00", b"\xff", b"a", b"\xff" * 20, b"a" * 16 + b"\xff", b"'\"\\", b"\x80"])
        case StructType():
            return {f.field_id: of_field(pick, f, few) for f in kind.fields}
        case ListType():
            return [of_field(pick, kind.element_field, few) for _ in range(pick.randrange(4))]
        case MapType():
            keys: dict = {}
            for _ in range(pick.randrange(3)):
                key = some(pick, kind.key_type, few)
                keys[repr(key)] = (key, of_field(pick, kind.value_field, few))
            return [[k, v] for k, v in keys.values()]
    raise TypeError(f"no values for {kind}")


def of_field(pick: random.Random, f: NestedField, few: bool = False) -> Any:
    return some(pick, f.field_type, few) if f.required else maybe(pick, f.field_type, few)


def maybe(pick: random.Random, kind: IcebergType, few: bool = False) -> Any:
    return None if pick.random() < 0.2 else some(pick, kind, few)


def some_integer(pick: random.Random, bits: int, few: bool) -> int:
    if few:
        return pick.choice([0, 1, 2, 5, -1, 7])
    return pick.choice(
        [0, 1, -1, 5, 10, -10, 2**bits - 1, -(2**bits), 2**24 + 1, 2**31 - 1, -(2**31), pick.randrange(100)]
    )


def some_decimal(pick: random.Random, kind: DecimalType, few: bool) -> Decimal:
    largest = 10**kind.precision - 1
    unscaled = pick.choice(
        [0, 1, -1, 5, 100, -250] if few else [0, 1, -1, largest, -largest, 123_456_789, largest // 3]
    )
    return Decimal(f"{min(largest, max(-largest, unscaled))}E-{kind.scale}")


def some_timestamp(pick: random.Random, few: bool) -> int:
    if few:
        return pick.choice([0, 1, -1, DAY, -DAY, 1_760_000_000_000_000])
    far = [FIRST_DAY * DAY, (LAST_DAY + 1) * DAY - 1, -9_223_372_800_000_000, 9_223_372_900_000_000]
    return pick.choice([*far, 0, -1, 1, 1_760_000_000_123_456, 3_599_999_999, 3_600_000_000, -3_600_000_001])


def key(value: Any) -> Any:
    """Returns a key that is equal exactly for identical values: -0.0 differs from 0.0, and NaN equals NaN."""
    match value:
        case Variant():
            return variants.key(value)
        case float():
            return "NaN" if value != value else repr(value)
        case Decimal():
            return f"d{Fraction(value)}"
        case dict():
            return tuple((name, key(v)) for name, v in sorted(value.items()))
        case list() | tuple():
            return tuple(key(v) for v in value)
    return repr(value)


def as_json(value: Any) -> Any:
    match value:
        case Variant(tree):
            return {"v": variants.as_json(tree)}
        case float():
            return {"f": repr(value)}
        case Decimal():
            return {"d": str(value)}
        case bytes():
            return {"b": value.hex()}
        case dict():
            return {"s": {str(k): as_json(v) for k, v in value.items()}}
        case list() | tuple():
            return [as_json(v) for v in value]
    return value


def of_json(value: Any) -> Any:
    match value:
        case {"v": tree}:
            return Variant(variants.of_json(tree))
        case {"f": text}:
            return float(text)
        case {"d": text}:
            return Decimal(text)
        case {"b": text}:
            return bytes.fromhex(text)
        case {"s": fields}:
            return {int(k): of_json(v) for k, v in fields.items()}
        case list():
            return [of_json(v) for v in value]
    return value
