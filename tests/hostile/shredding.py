"""Variant columns of files, unshredded or shredded (Parquet, "Variant Shredding"). A seed chooses the shredded fields.

A layout is None (not shredded), an Arrow type, a dictionary of layouts by name, or a list of one layout.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from . import variants
from .variants import CONTEXT, Missing, Typed, Variant

TIMES = {
    "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
    "timestamp_ns": pa.timestamp("ns"), "timestamptz_ns": pa.timestamp("ns", "UTC"),
    "date": pa.date32(), "time": pa.time64("us"), "float": pa.float32(),
}  # fmt: skip
INTS = [(pa.int8(), 7), (pa.int16(), 15), (pa.int32(), 31), (pa.int64(), 63)]


@dataclass
class Column:
    """A variant column, and the types and values of paths that are shredded completely."""

    array: pa.Array
    whole: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)


def layout(pick: random.Random, trees: list[Any], depth: int = 0) -> Any:
    """Returns a layout for the values at one path."""
    if pick.random() < (0.1 if depth == 0 else 0.2) or depth > 3:
        return None
    there = [t for t in trees if t is not None and t is not Missing]
    if not there:
        return pick.choice([None, pa.int32(), pa.string()])
    one = pick.choice(there)
    match one:
        case dict():
            names = sorted({n for t in there if isinstance(t, dict) for n in t})
            found = {}
            for name in [n for n in names if pick.random() < 0.7] + (["seldom"] if pick.random() < 0.1 else []):
                at = [t.get(name, Missing) for t in there if isinstance(t, dict)]
                found[name] = layout(pick, at, depth + 1)
            return found or None
        case list():
            return [layout(pick, [v for t in there if isinstance(t, list) for v in t], depth + 1)]
    return primitive(pick, one)


def primitive(pick: random.Random, one: Any) -> pa.DataType | None:
    match one:
        case bool():
            return pa.bool_()
        case int():
            if pick.random() < 0.15 and abs(one) < 10**9:
                return pa.decimal128(12, 2)
            fit = [t for t, bits in INTS if -(2**bits) <= one < 2**bits]
            return pick.choice(fit)
        case Decimal():
            scale = max(0, -one.as_tuple().exponent)
            return pick.choice([pa.decimal128(38, scale), pa.decimal128(18, scale), pa.decimal128(9, scale)])
        case float():
            return pa.float64()
        case str():
            return pa.string()
        case bytes():
            return pa.binary()
        case Typed("uuid", _):
            return pa.uuid()
        case Typed(kind, _):
            return TIMES[kind]
    return None


def fits(value: Any, of: pa.DataType) -> Any:
    """Returns the value in a column of a type, or Missing if the value is not of the type."""
    match value:
        case bool():
            return value if of == pa.bool_() else Missing
        case int() | Decimal():
            if pa.types.is_decimal(of):
                unscaled = Decimal(value).scaleb(of.scale, CONTEXT)
                exact = unscaled == unscaled.to_integral_value() and abs(unscaled) < 10**of.precision
                return Decimal(value) if exact else Missing
            bits = next((bits for t, bits in INTS if t == of), None)
            whole = isinstance(value, int)
            return value if bits and whole and -(2**bits) <= value < 2**bits else Missing
        case float():
            return value if of == pa.float64() else Missing
        case str():
            return value if of == pa.string() else Missing
        case bytes():
            return value if of == pa.binary() else Missing
        case Typed("uuid", text):
            return bytes.fromhex(text) if of == pa.uuid() else Missing
        case Typed(kind, found):
            return found if of == TIMES[kind] else Missing
    return Missing


class Shredder:
    """Shreds values. The names in all `value` columns of a row are in the row's metadata."""

    def __init__(self, pick: random.Random) -> None:
        self.pick, self.names = pick, []
        self.required = pick.random() < 0.5

    def type_of(self, layout: Any) -> pa.DataType | None:
        """Returns the Arrow type of a `typed_value`."""
        match layout:
            case dict():
                group = lambda inner: pa.struct(self.pair(inner))  # noqa: E731
                return pa.struct([pa.field(n, group(of), nullable=not self.required) for n, of in layout.items()])
            case [inner]:
                return pa.list_(pa.field("element", pa.struct(self.pair(inner)), nullable=not self.required))
        return layout

    def pair(self, layout: Any) -> list[pa.Field]:
        typed = self.type_of(layout)
        return [pa.field("value", pa.binary())] + ([] if typed is None else [pa.field("typed_value", typed)])

    def bytes_of(self, value: Any) -> bytes:
        return variants.bytes_of(value, self.names, self.pick)

    def apart(self, value: Any, layout: Any) -> dict:
        if value is Missing:
            return {"value": None} if layout is None else {"value": None, "typed_value": None}
        match layout, value:
            case None, _:
                return {"value": self.bytes_of(value)}
            case dict(), dict():
                rest = {name: of for name, of in value.items() if name not in layout}
                typed = {name: self.apart(value.get(name, Missing), of) for name, of in layout.items()}
                return {"value": self.bytes_of(rest) if rest else None, "typed_value": typed}
            case [inner], list():
                return {"value": None, "typed_value": [self.apart(v, inner) for v in value]}
            case pa.DataType(), _ if (found := fits(value, layout)) is not Missing:
                return {"value": None, "typed_value": found}
        return {"value": self.bytes_of(value), "typed_value": None}


def column(found: list[Variant | None], seed: int | None) -> Column:
    """Returns a variant column. Without a seed it is unshredded, in the simplest encoding."""
    pick = random.Random(seed)
    trees = [v.tree for v in found if v is not None]
    chosen = layout(pick, trees) if seed is not None and pick.random() < 0.8 else None
    shredder = Shredder(pick if seed is not None else PLAIN)
    kind = pa.struct([pa.field("metadata", pa.binary(), nullable=False), *shredder.pair(chosen)])
    rows: list[dict | None] = []
    for v in found:
        if v is None:
            rows.append(None)
            continue
        names = shredder.names = sorted(variants.names_in(v.tree))
        rows.append({"metadata": variants.metadata(names, shredder.pick)} | shredder.apart(v.tree, chosen))
    missing = pa.array([row is None for row in rows], pa.bool_())
    filler = {"metadata": b"\x01\x00\x00"}
    columns = [arrow([(row or filler).get(f.name) for row in rows], f.type) for f in kind]
    array = pa.StructArray.from_arrays(columns, fields=list(kind), mask=missing)
    whole: dict[tuple[str, ...], list[Any]] = {}
    gather(chosen, trees, (), whole)
    return Column(array, whole)


def arrow(found: list[Any], kind: pa.DataType) -> pa.Array:
    """Returns an Arrow array of shredded values. Required groups exist in rows without the field too."""
    if pa.types.is_struct(kind):
        missing = pa.array([v is None for v in found], pa.bool_())
        columns = [arrow([(v or {}).get(f.name) if v else filler(f) for v in found], f.type) for f in kind]
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=missing)
    if pa.types.is_list(kind):
        offsets, at = [], 0
        for v in found:
            offsets.append(None if v is None else at)
            at += len(v or [])
        inner = arrow([item for v in found for item in (v or [])], kind.value_type)
        return pa.ListArray.from_arrays(pa.array([*offsets, at], pa.int32()), inner, type=kind)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(found, kind.storage_type))
    return pa.array(found, kind)


def filler(f: pa.Field) -> Any:
    return None if f.nullable else {}


class Plainest(random.Random):
    """A generator that always chooses the shortest encoding."""

    def random(self) -> float:
        return 0.5


PLAIN = Plainest(0)


def gather(layout: Any, trees: list[Any], path: tuple[str, ...], whole: dict) -> None:
    """Collects the paths whose values are all in the path's shredded column, with the values."""
    match layout:
        case dict():
            for name, inner in layout.items():
                at = [t[name] for t in trees if isinstance(t, dict) and name in t]
                gather(inner, at, (*path, name), whole)
        case pa.DataType():
            held = [fits(t, layout) for t in trees if t is not Missing]
            if held and Missing not in held:
                whole[path] = [t for t in trees if t is not Missing]


def bounds(column: Column) -> tuple[bytes, bytes] | None:
    """Returns the bounds in manifests: variants with the least and the greatest values (specification, Appendix D)."""
    low, high = {}, {}
    for path, found in column.whole.items():
        if all(isinstance(v, (int, str, Decimal)) and not isinstance(v, bool) for v in found):
            text = "$" + "".join("['" + n.replace("\\", "\\\\").replace("'", "\\'") + "']" for n in path)
            order = (lambda v: v.encode()) if isinstance(found[0], str) else None
            if all(len(v) <= 64 for v in found if isinstance(v, str)):
                low[text], high[text] = min(found, key=order), max(found, key=order)
    if not low:
        return None
    lower, upper = (b"".join(variants.encoded(of, PLAIN)) for of in (low, high))
    return lower, upper
