"""Comparing what was read with what was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

NOTHING = (None, [], {})


def differences(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two values are not alike. What is null is as what is not there."""
    inner = f"{place}." if place else ""
    # Who refuses the one is not asked for more.
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
    """What was in a JSON text and is not in what was printed of it, or the other way round, unless it means the same.
    Besides, what is printed may have at its place what `unknown` has there and the original's reader did not know."""
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


# What version 1 may leave out, and readers work out.
OF_VERSION_1 = re.compile(
    r"schemas|schema\.schema-id|current-schema-id|partition-specs|default-spec-id|last-partition-id|sort-orders"
    r"|partition-spec\.\d+\.field-id"
)


def same_meaning(place: str, a: Any, b: Any, printed: dict) -> bool:
    """What the specification lets be said in two ways, or be left out (Appendix C)."""
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
        # Java takes a snapshot that does not say what it did for one that overwrote.
        case "operation":
            return (a, b) == ("overwrite", None)
    return False


def type_name(name: str) -> str:
    name = name.replace(" ", "")
    return {"geometry": "geometry(OGC:CRS84)", "geography": "geography(OGC:CRS84,spherical)"}.get(name, name)
