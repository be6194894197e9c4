"""Variants: random values, their bytes ("Variant Binary Encoding"), their JSON, and the results of casts.

A variant is a tree: None, bool, int, Decimal, float, str, bytes, lists, dictionaries by text, and `Typed` for types
that Python does not distinguish.
"""

from __future__ import annotations

import base64
import json
import random
import re
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

from pyiceberg.types import BooleanType, DateType, DecimalType, DoubleType, IntegerType, LongType, StringType

EPOCH = datetime(1970, 1, 1)
# More digits than any decimal has.
CONTEXT = Context(prec=60)
# Field names: a few that occur at many paths, so that values repeat, and some that are difficult to write.
NAMES = ["a", "b", "c"]
HARD = ["", "a.b", "a b", "it's", '"', "\\", "é", "🦊", "$", "[0]", "metadata", "value", "typed_value", "A", "z" * 70]
TEXTS = [
    "", "x", "7", "-1", "true", "null", "it's", '"', "\\", "\n", "é", "日本語🦊", "a" * 63, "b" * 64, "text", "0.5",
    "2020-01-01", "zz", "\u0001", "NaN", "c" * 300,
]  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """A value with its type: float, date, time, timestamp or timestamptz in microseconds or nanoseconds, uuid."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Variant:
    tree: Any


def some(pick: random.Random, few: bool = False) -> Variant:
    return Variant(tree(pick, 0, few))


def tree(pick: random.Random, depth: int, few: bool = False) -> Any:
    shape = pick.random()
    if depth == 0:
        shape = shape * 0.75 + 0.25 if pick.random() < 0.8 else shape
    if shape < 0.62 or depth > 3:
        return leaf(pick, few)
    if shape < 0.9:
        names = [name for name in NAMES if pick.random() < 0.6]
        names += [pick.choice(HARD)] if pick.random() < 0.15 else []
        return {name: tree(pick, depth + 1, few) for name in names}
    return [tree(pick, depth + 1, few) for _ in range(pick.choice([0, 1, 2, 3, 3, 20]) if depth == 0 else 2)]


def leaf(pick: random.Random, few: bool) -> Any:
    match pick.randrange(16):
        case 0:
            return None
        case 1:
            return pick.random() < 0.5
        case 2 | 3 | 4 | 5 | 6:
            low = [0, 1, 2, 5, -1, 7]
            more = [127, -129, 40_000, 2**31, 2**63 - 1, -(2**63), pick.randrange(99)]
            return pick.choice(low if few else [*low, *more])
        case 7 | 8:
            return Decimal(pick.choice(["0.5", "1.50", "-2.25", "100.0", "12345678.9", "12345678901234567890.123"]))
        case 9:
            return pick.choice([0.5, 1e300, -2.25, 1e-300, 0.1, 100.0, -0.0, float("inf"), float("nan")])
        case 10 | 11 | 12:
            return pick.choice(TEXTS[:5] if few else TEXTS)
        case 13:
            return pick.choice([Typed("date", 0), Typed("date", 20_000), Typed("date", -1)])
        case 14:
            return pick.choice(TIMED)
    return pick.choice([*TIMED, b"", b"\xff\x00bytes"])


TIMED = [
    Typed("float", 0.5), Typed("float", -2.25), Typed("time", 0), Typed("time", 36_000_000_001),
    Typed("timestamp", 0), Typed("timestamp", 1_760_000_000_123_456), Typed("timestamp", -1),
    Typed("timestamptz", 1_760_000_000_000_000), Typed("timestamptz", -1),
    Typed("timestamp_ns", 1_700_000_000_000_000_001), Typed("timestamptz_ns", -1),
    Typed("uuid", "f79c3e0967794b2fa3c66fb6b1a0d9d8"),
]  # fmt: skip


def plain(value: Any) -> Any:
    """Returns a tree with JSON's types only."""
    match value:
        case Variant(of):
            return Variant(plain(of))
        case Typed(_, of):
            return of
        case bytes():
            return value.hex()
        case float() if value != value or value in (float("inf"), float("-inf")):
            return "no number"
        case list():
            return [plain(v) for v in value]
        case dict():
            return {name: plain(v) for name, v in value.items()}
    return value


def any_in(value: Any, test: Callable[[Any], bool]) -> bool:
    """Returns True if a leaf of a tree passes a test."""
    match value:
        case list():
            return any(any_in(v, test) for v in value)
        case dict():
            return any(any_in(v, test) for v in value.values())
    return test(value)


# JSON in scripts.


def as_json(value: Any) -> Any:
    match value:
        case Decimal():
            return {"d": str(value)}
        case float():
            return {"f": repr(value)}
        case bytes():
            return {"b": value.hex()}
        case Typed(kind, of):
            return {"t": [kind, of]}
        case list():
            return [as_json(v) for v in value]
        case dict():
            return {"o": {name: as_json(v) for name, v in value.items()}}
    return value


def of_json(value: Any) -> Any:
    match value:
        case {"d": text}:
            return Decimal(text)
        case {"f": text}:
            return float(text)
        case {"b": text}:
            return bytes.fromhex(text)
        case {"t": [kind, of]}:
            return Typed(kind, of)
        case {"o": fields}:
            return {name: of_json(v) for name, v in fields.items()}
        case list():
            return [of_json(v) for v in value]
    return value


# JSON for clients.


def read(text: str) -> Variant:
    return Variant(json.loads(text, parse_float=Decimal, parse_constant=str))


TIMES = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+?)0*)?(Z|[+-]00(?::?00)?)?")
CLOCK = re.compile(r"(\d\d:\d\d:\d\d)(?:\.(\d+?)0*)?")


def same_text(text: str) -> str:
    """Normalizes a text: times have one of several forms."""
    if found := TIMES.fullmatch(text):
        day, clock, digits, zone = found.groups()
        return f"{day}T{clock}.{(digits or '').rstrip('0')}{'Z' if zone else ''}"
    if found := CLOCK.fullmatch(text):
        return f"{found[1]}.{(found[2] or '').rstrip('0')}"
    return text


def key(value: Any) -> Any:
    """Returns a key that is equal exactly for variants with the same JSON."""
    match value:
        case Variant(of):
            return ("variant", key(of))
        case None | bool():
            return repr(value)
        case int():
            return ("n", str(value))
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                return ("s", "NaN" if value != value else "Infinity" if value > 0 else "-Infinity")
            return key(Decimal(repr(value)))
        case Decimal():
            return ("n", "-0" if value == 0 and value.is_signed() else str(Fraction(value)))
        case str():
            return ("s", same_text(value))
        case bytes():
            return ("s", base64.b64encode(value).decode())
        case Typed("float", of):
            return key(of)
        case Typed("uuid", of):
            return ("s", str(uuid.UUID(hex=of)))
        case Typed("date", of):
            return ("s", (EPOCH + timedelta(days=of)).date().isoformat())
        case Typed("time", of):
            return ("s", same_text((EPOCH + timedelta(microseconds=of)).time().isoformat()))
        case Typed(kind, of):
            scale = 10**9 if kind.endswith("_ns") else 10**6
            digits = f"{of % scale:0{len(str(scale)) - 1}}"
            text = f"{(EPOCH + timedelta(seconds=of // scale)).isoformat()}.{digits}"
            return ("s", same_text(text + ("Z" if "tz" in kind else "")))
        case list():
            return tuple(key(v) for v in value)
        case dict():
            return ("o", tuple(sorted((name, key(v)) for name, v in value.items())))
    raise TypeError(repr(value))


def json_text(value: Any) -> str:
    """Returns JSON that SQL parses to the same tree."""
    match value:
        case Decimal():
            return f"{value:f}"
        case float():
            text = repr(value)
            return text if "e" in text or value == 0 else f"{text}e0"
        case list():
            return "[" + ", ".join(json_text(v) for v in value) + "]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(n)}: {json_text(v)}" for n, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=isinstance(value, str) and len(value) % 2 == 0)


# Paths, and casts of the values there.


def path_text(steps: list[str | int]) -> str:
    def one(step: str | int) -> str:
        if isinstance(step, int):
            return f"[{step}]"
        if step.isalnum() and step.isascii():
            return f".{step}"
        return "['" + step.replace("\\", "\\\\").replace("'", "\\'") + "']"

    return "$" + "".join(one(step) for step in steps)


class Missing:
    """The value at a path that does not exist."""


def at(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        named = isinstance(step, str) and isinstance(value, dict) and step in value
        if not named and not (isinstance(step, int) and isinstance(value, list) and step < len(value)):
            return Missing
        value = value[step]
    return value


def paths(value: Any, above: tuple = ()) -> list[list[str | int]]:
    """Returns the paths to all nodes of a tree."""
    found = [list(above)]
    match value:
        case dict():
            found += [p for name, v in value.items() for p in paths(v, (*above, name))]
        case list():
            found += [p for n, v in enumerate(value[:3]) for p in paths(v, (*above, n))]
    return found


class Unfit(Exception):
    """A value can't be cast to the type."""


class Unsure(Exception):
    """docs/sql.md does not define the cast of a value."""


KINDS = {
    "int": IntegerType(), "bigint": LongType(), "string": StringType(), "double": DoubleType(),
    "boolean": BooleanType(), "decimal(20, 4)": DecimalType(20, 4), "date": DateType(),
}  # fmt: skip
LETTERS = re.compile(r"[a-z]+", re.IGNORECASE)


def cast(value: Any, to: str) -> Any:
    if value is Missing or value is None:
        return None
    if isinstance(value, (dict, list)):
        if to == "string":
            raise Unsure
        raise Unfit
    words = ("nan", "infinity", "inf", "true", "false", "t", "f", "yes", "no", "y", "n", "on", "off")
    if isinstance(value, str) and LETTERS.fullmatch(value) and value.lower() not in words and to != "string":
        raise Unfit
    match to, value:
        case "string", str():
            return value
        case "string", bool():
            return "true" if value else "false"
        case "string", int():
            return str(value)
        case "boolean", bool():
            return value
        case "date", Typed("date", of):
            return of
        case (("int" | "bigint"), (int() | str() | Decimal() | float())) if not isinstance(value, bool):
            if isinstance(value, str) and not re.fullmatch(r"-?\d+", value):
                raise Unsure
            if isinstance(value, float) and value != value or value in (float("inf"), float("-inf")):
                raise Unfit
            # DuckDB reads JSON decimals as doubles, and rounds halves to even.
            if isinstance(value, Decimal) and Fraction(value) % 1 == Fraction(1, 2):
                raise Unsure
            made = round(value) if isinstance(value, float) else int(Decimal(value).to_integral_value(ROUND_HALF_UP))
            bits = 31 if to == "int" else 63
            if not -(2**bits) <= made < 2**bits:
                raise Unfit
            return made
        case "double", (int() | float() | Decimal()) if not isinstance(value, bool):
            return float(value)
        case "double", Typed("float", of):
            return of
        case "decimal(20, 4)", (int() | Decimal()) if not isinstance(value, bool):
            if abs(value) >= 10**16:
                raise Unfit
            if Decimal(value) != Decimal(value).quantize(Decimal("0.0001")):
                raise Unsure
            return Decimal(value)
    raise Unsure


# Bytes.

PRIMITIVES = {
    "float": (14, "<f"), "date": (11, "<i"), "timestamptz": (12, "<q"), "timestamp": (13, "<q"), "time": (17, "<q"),
    "timestamptz_ns": (18, "<q"), "timestamp_ns": (19, "<q"),
}  # fmt: skip


def encoded(value: Any, pick: random.Random) -> tuple[bytes, bytes]:
    """Encodes a variant in one of several legal ways. Returns metadata and value."""
    names = sorted(names_in(value))
    return metadata(names, pick), bytes_of(value, names, pick)


def names_in(value: Any) -> set[str]:
    match value:
        case dict():
            return set(value) | {n for v in value.values() for n in names_in(v)}
        case list():
            return {n for v in value for n in names_in(v)}
    return set()


def metadata(names: list[str], pick: random.Random) -> bytes:
    """Encodes the names in the order in which `bytes_of` numbers them, mostly with the bit for sorted names."""
    texts = [name.encode() for name in names]
    ends = [sum(map(len, texts[:n])) for n in range(len(texts) + 1)]
    size = wide(max(ends[-1], len(texts)), pick)
    is_sorted = pick.random() < 0.7
    head = 1 | (is_sorted << 4) | ((size - 1) << 6)
    return bytes([head]) + len(texts).to_bytes(size, "little") + numbers(ends, size) + b"".join(texts)


def wide(largest: int, pick: random.Random) -> int:
    least = max(1, (largest.bit_length() + 7) // 8)
    return least if pick.random() < 0.8 else pick.randrange(least, 5)


def numbers(of: list[int], size: int) -> bytes:
    return b"".join(n.to_bytes(size, "little") for n in of)


def primitive(kind: int, data: bytes) -> bytes:
    return bytes([kind << 2]) + data


def bytes_of(value: Any, names: list[str], pick: random.Random) -> bytes:
    match value:
        case None:
            return primitive(0, b"")
        case bool():
            return primitive(1 if value else 2, b"")
        case int():
            least = next(n for n in range(4) if -(2 ** (8 * 2**n - 1)) <= value < 2 ** (8 * 2**n - 1))
            size = least if pick.random() < 0.7 else pick.randrange(least, 4)
            return primitive(3 + size, value.to_bytes(2**size, "little", signed=True))
        case Decimal():
            scale = max(0, -value.as_tuple().exponent)
            unscaled = int(value.scaleb(scale, CONTEXT))
            digits = len(str(abs(unscaled)))
            least = 0 if digits <= 9 and scale <= 9 else 1 if digits <= 18 and scale <= 18 else 2
            size = least if pick.random() < 0.7 else pick.randrange(least, 3)
            return primitive(8 + size, bytes([scale]) + unscaled.to_bytes(4 * 2**size, "little", signed=True))
        case float():
            return primitive(7, struct.pack("<d", value))
        case str():
            data = value.encode()
            if len(data) < 64 and pick.random() < 0.9:
                return bytes([len(data) << 2 | 1]) + data
            return primitive(16, len(data).to_bytes(4, "little") + data)
        case bytes():
            return primitive(15, len(value).to_bytes(4, "little") + value)
        case Typed("uuid", of):
            return primitive(20, bytes.fromhex(of))
        case Typed(kind, of):
            number, form = PRIMITIVES[kind]
            return primitive(number, struct.pack(form, of))
        case list():
            items = [bytes_of(v, names, pick) for v in value]
            ends = [sum(map(len, items[:n])) for n in range(len(items) + 1)]
            size, large = wide(ends[-1], pick), len(items) > 255 or pick.random() < 0.1
            head = bytes([3 | (size - 1) << 2 | large << 4])
            return head + len(items).to_bytes(4 if large else 1, "little") + numbers(ends, size) + b"".join(items)
        case dict():
            fields = sorted(value)
            items = [bytes_of(value[name], names, pick) for name in fields]
            # Values may be stored in any order.
            order = list(range(len(items)))
            if pick.random() < 0.3:
                pick.shuffle(order)
            starts, end = [0] * len(items), 0
            for n in order:
                starts[n], end = end, end + len(items[n])
            size, large = wide(end, pick), pick.random() < 0.1
            ids = [names.index(name) for name in fields]
            id_size = wide(max([*ids, 0]), pick)
            head = bytes([2 | (size - 1) << 2 | (id_size - 1) << 4 | large << 6])
            data = b"".join(items[n] for n in order)
            count = len(items).to_bytes(4 if large else 1, "little")
            return head + count + numbers(ids, id_size) + numbers([*starts, end], size) + data
    raise TypeError(repr(value))
