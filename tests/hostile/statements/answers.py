"""Compares two answers, independently of the engines' types."""

from __future__ import annotations

import math
import re
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa

from ..arrow import NANOS

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DAY = 86_400 * 10**9


def difference(ours: pa.Table, theirs: pa.Table, ordered: bool) -> str:
    """Returns the difference, or the empty text if there is none."""
    a, b = rows(ours), rows(theirs)
    if ordered:
        return "" if a == b else f"in order: {a[:6]}, not {b[:6]}"
    more, less = Counter(a) - Counter(b), Counter(b) - Counter(a)
    if not more and not less:
        return ""
    return f"{more.total()} too many {list(more.elements())[:3]}, {less.total()} missing {list(less.elements())[:3]}"


def rows(table: pa.Table) -> list[tuple]:
    columns = [column for i in range(table.num_columns) for column in [plain(table.column(i))]]
    return list(zip(*columns, strict=True)) if columns else []


def plain(column: pa.ChunkedArray) -> list[Any]:
    return [value for chunk in column.chunks for value in plainly(chunk)]


def plainly(array: pa.Array) -> list[Any]:
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    of = array.type
    if pa.types.is_timestamp(of) or pa.types.is_time(of):
        whole = array.cast(pa.int32() if pa.types.is_time32(of) else pa.int64()).to_pylist()
        return [None if v is None else ("t", v * NANOS[of.unit]) for v in whole]
    if pa.types.is_date32(of):
        return [None if v is None else ("t", v * DAY) for v in array.cast(pa.int32()).to_pylist()]
    return [one(value) for value in array.to_pylist()]


def one(value: Any) -> Any:
    match value:
        case bool() | None:
            return value
        case int() | Decimal():
            return number(Fraction(value))
        case float():
            return "NaN" if math.isnan(value) else str(value) if math.isinf(value) else number(Fraction(value))
        case bytes():
            return value.hex()
        case str():
            return value.replace("-", "") if UUID.fullmatch(value) else value
    return repr(value)


def number(value: Fraction) -> tuple:
    """Rounds to ten digits, because engines add floats in different orders. Zero has no sign here."""
    if value.denominator != 1 and abs(value) >= 2**52:
        # The fraction is not that of a double.
        value = Fraction(float(value))
    return ("n", int(value)) if value.denominator == 1 else ("n", f"{float(value):.10g}")
