"""Compares JSON values that were read with those that were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

NOTHING = (None, [], {})


def differences(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields the places where two values differ. A null counts as a missing value."""
    inner = f"{place}." if place else ""
    # If one of them is an error, there is nothing more to compare.
    if isinstance(a, dict) and isinstance(b, dict) and ("error" in a) != ("error" in b):
        yield f"{inner}error", a.get("error"), b.get("error")
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({**a, **b}, key=str):
            yield from differences(a.get(key), b.get(key), f"{inner}{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{inner}{n}")
    elif a != b or type(a) is not type(b):
        yield place, a, b


def kept(original: Any, printed: Any, unknown: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Yields values that only one of a JSON text and its copy has, unless both mean the same.

    The copy may also have the values of `unknown`, which the reader of the original did not know, at their places.
    """
    for place, a, b in differences(original, printed):
        if b in NOTHING and a in NOTHING:
            continue
        if unknown is not None and a is None and at(unknown, place) == b:
            continue
        if not same_meaning(place, a, b, printed):
            yield place, a, b


def at(json: Any, place: str) -> Any:
    for part in place.split("."):
        if isinstance(json, list):
            json = json[int(part)] if part.isdigit() and int(part) < len(json) else None
        elif isinstance(json, dict):
            json = json.get(part)
        else:
            return None
    return json


# Values that version 1 may omit, and that readers derive.
OF_VERSION_1 = re.compile(
    r"schemas|schema\.schema-id|current-schema-id|partition-specs|default-spec-id|last-partition-id|sort-orders"
    r"|partition-spec\.\d+\.field-id"
)


def same_meaning(place: str, a: Any, b: Any, printed: dict) -> bool:
    """Returns True if the specification has both forms for the same meaning, or lets it be omitted (Appendix C)."""
    if a is None and printed.get("format-version") == 1 and OF_VERSION_1.fullmatch(place):
        return True
    match place.rsplit(".", 1)[-1]:
        case "current-snapshot-id":
            return {a, b} <= {None, -1}
        case "last-sequence-number" | "default-sort-order-id":
            return {a, b} <= {None, 0}
        case "refs":
            current = printed["current-snapshot-id"]
            return a is None and b == {"main": {"snapshot-id": current, "type": "branch"}}
        case "type" | "key" | "value" | "element" if isinstance(a, str) and isinstance(b, str):
            return type_name(a) == type_name(b)
        # Java reads a snapshot without an operation as an overwrite.
        case "operation":
            return (a, b) == ("overwrite", None)
    return False


def type_name(name: str) -> str:
    name = name.replace(" ", "")
    return {"geometry": "geometry(OGC:CRS84)", "geography": "geography(OGC:CRS84,spherical)"}.get(name, name)
