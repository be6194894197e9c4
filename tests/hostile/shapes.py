"""Geometries and geographies: random values, well-known binary and text, and spatial relations.

A shape is a tuple of its kind, a flag for Z, and its coordinates, nested as the kind needs. Coordinates are multiples
of a half, so that everything but distances is exact.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

KINDS = ["POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION"]
# Nesting depth of the coordinates of each kind.
DEPTH = {"POINT": 0, "LINESTRING": 1, "POLYGON": 2, "MULTIPOINT": 1, "MULTILINESTRING": 2, "MULTIPOLYGON": 3}

Shape = tuple[str, bool, Any]
Point = tuple[float, ...]


def some(pick: random.Random, few: bool = False, on_globe: bool = False, points: bool = False) -> bytes:
    """Returns a random shape's bytes. On a globe x and y are degrees, and some shapes cross the 180th meridian."""
    shape = made(pick, few, on_globe, points)
    return wkb(shape, big=pick.random() < 0.1)


def made(pick: random.Random, few: bool, on_globe: bool, points: bool) -> Shape:
    with_z = pick.random() < 0.15
    across = on_globe and pick.random() < 0.4

    def point(near: Point | None = None) -> Point:
        if near is None:
            wide = 5 if few else pick.choice([5, 20, 80])
            x, y = pick.randrange(-2 * wide, 2 * wide + 1) / 2, pick.randrange(-2 * wide, 2 * wide + 1) / 2
            x = (180 - abs(x) if pick.random() < 0.5 else -180 + abs(x)) if across else x
        else:
            x, y = near[0] + pick.randrange(-6, 7) / 2, near[1] + pick.randrange(-6, 7) / 2
        if on_globe:
            x, y = min(180.0, max(-180.0, x)), min(90.0, max(-90.0, y))
        return (x, y, pick.randrange(-9, 10) / 2) if with_z else (x, y)

    def line() -> list[Point]:
        found = [point()]
        while len(found) < pick.choice([2, 2, 3, 5]) or len({p[:2] for p in found}) < 2:
            found.append(point(found[-1]))
        if across:
            found.append((-found[0][0], *found[0][1:]))
        return found

    def ring() -> list[Point]:
        """Returns the ring of a rectangle or triangle, counterclockwise."""
        x, y = point()[:2]
        w, h = pick.randrange(1, 12) / 2, pick.randrange(1, 12) / 2
        if on_globe:
            x, y = min(x, 180 - w), min(y, 90 - h)
        corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
        corners = corners if pick.random() < 0.6 else corners[:3]
        return [(*c, 1.5) if with_z else c for c in [*corners, corners[0]]]

    def polygon() -> list[list[Point]]:
        rings = [ring()]
        if len(rings[0]) == 5 and pick.random() < 0.3:
            (x, y), (v, w) = rings[0][0][:2], rings[0][2][:2]
            low, high = (x + (v - x) / 4, y + (w - y) / 4), (x + (v - x) / 2, y + (w - y) / 2)
            hole = [low, (low[0], high[1]), high, (high[0], low[1]), low]
            rings.append([(*c, 1.5) if with_z else c for c in hole])
        return rings

    makers = {
        "POINT": point, "LINESTRING": line, "POLYGON": polygon,
        "MULTIPOINT": lambda: [point() for _ in range(pick.randrange(1, 4))],
        "MULTILINESTRING": lambda: [line() for _ in range(pick.randrange(1, 3))],
        "MULTIPOLYGON": lambda: [polygon()],
    }  # fmt: skip
    if points:
        return ("POINT", with_z, None if pick.random() < 0.05 else point())
    kind = pick.choices(KINDS, [6, 3, 4, 1, 1, 1, 1])[0]
    if pick.random() < 0.08:
        return (kind, with_z, None if kind == "POINT" else [])
    if kind == "GEOMETRYCOLLECTION":
        parts = [pick.choice(["POINT", "LINESTRING", "POLYGON"]) for _ in range(pick.randrange(1, 3))]
        return (kind, with_z, [(part, with_z, makers[part]()) for part in parts])
    return (kind, with_z, makers[kind]())


def rectangle(x: float, y: float, w: float, h: float) -> Shape:
    return ("POLYGON", False, [[(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]])


# Bytes and text.


def wkb(shape: Shape, big: bool = False) -> bytes:
    kind, with_z, of = shape
    order = ">" if big else "<"
    head = struct.pack(f"{order}BI", 0 if big else 1, KINDS.index(kind) + 1 + 1000 * with_z)
    n = 3 if with_z else 2

    def count(items: list) -> bytes:
        return struct.pack(f"{order}I", len(items))

    def points(items: list[Point]) -> bytes:
        return count(items) + b"".join(struct.pack(f"{order}{n}d", *p) for p in items)

    match kind:
        case "POINT":
            return head + struct.pack(f"{order}{n}d", *(of or (math.nan,) * n))
        case "LINESTRING":
            return head + points(of)
        case "POLYGON":
            return head + count(of) + b"".join(points(ring) for ring in of)
        case "GEOMETRYCOLLECTION":
            return head + count(of) + b"".join(wkb(part, big) for part in of)
    return head + count(of) + b"".join(wkb((kind.removeprefix("MULTI"), with_z, part), big) for part in of)


def read(data: bytes) -> Shape:
    shape, end = parsed(data, 0)
    assert end == len(data), "bytes behind a shape"
    return shape


def parsed(data: bytes, at: int) -> tuple[Shape, int]:
    order = "<" if data[at] == 1 else ">"
    (code,) = struct.unpack_from(f"{order}I", data, at + 1)
    kind, with_z = KINDS[code % 1000 - 1], code // 1000 == 1
    n, at = (3 if with_z else 2), at + 5

    def point() -> Point:
        nonlocal at
        found = struct.unpack_from(f"{order}{n}d", data, at)
        at += 8 * n
        return found

    def count() -> int:
        nonlocal at
        (found,) = struct.unpack_from(f"{order}I", data, at)
        at += 4
        return found

    def inner() -> Shape:
        nonlocal at
        found, at = parsed(data, at)
        return found

    match kind:
        case "POINT":
            of = point()
            return (kind, with_z, None if of[0] != of[0] else of), at
        case "LINESTRING":
            return (kind, with_z, [point() for _ in range(count())]), at
        case "POLYGON":
            return (kind, with_z, [[point() for _ in range(count())] for _ in range(count())]), at
        case "GEOMETRYCOLLECTION":
            return (kind, with_z, [inner() for _ in range(count())]), at
    return (kind, with_z, [inner()[2] for _ in range(count())]), at


def wkt(shape: Shape) -> str:
    kind, with_z, of = shape
    head = f"{kind} Z" if with_z else kind

    def point(p: Point) -> str:
        return " ".join(f"{c:g}" if float(f"{c:g}") == c else repr(c) for c in p)

    def nested(found: Any, depth: int) -> str:
        if depth == 0:
            return point(found)
        return "(" + ", ".join(nested(item, depth - 1) for item in found) + ")"

    if not of:
        return f"{head} EMPTY"
    if kind == "GEOMETRYCOLLECTION":
        return f"{head} (" + ", ".join(wkt(part) for part in of) + ")"
    if kind == "POINT":
        return f"{head} ({point(of)})"
    if kind == "MULTIPOINT":
        return f"{head} (" + ", ".join(f"({point(p)})" for p in of) + ")"
    return f"{head} {nested(of, DEPTH[kind])}"


# Spatial relations.


def coordinates(shape: Shape) -> Iterator[Point]:
    kind, _, of = shape
    if kind == "GEOMETRYCOLLECTION":
        for part in of:
            yield from coordinates(part)
        return

    def points(found: Any, depth: int) -> Iterator[Point]:
        if depth == 0:
            yield found
        else:
            for item in found:
                yield from points(item, depth - 1)

    if of:
        yield from points(of, DEPTH[kind])


def parts(shape: Shape) -> Iterator[tuple[str, Any]]:
    """Yields the points, lines and polygons of a shape that are not empty."""
    kind, with_z, of = shape
    if kind == "GEOMETRYCOLLECTION":
        for part in of:
            yield from parts(part)
    elif kind.startswith("MULTI"):
        for part in of:
            if part:
                yield (kind.removeprefix("MULTI"), part)
    elif of:
        yield (kind, of)


def exact(p: Point) -> tuple[Fraction, Fraction]:
    return (Fraction(p[0]), Fraction(p[1]))


def segments(kind: str, of: Any) -> list[tuple]:
    lines = [of] if kind == "LINESTRING" else of if kind == "POLYGON" else []
    return [(exact(a), exact(b)) for line in lines for a, b in zip(line, line[1:], strict=False)]


def turn(a: tuple, b: tuple, c: tuple) -> Fraction:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def on(p: tuple, s: tuple) -> bool:
    a, b = s
    within = all(min(a[i], b[i]) <= p[i] <= max(a[i], b[i]) for i in (0, 1))
    return within and turn(a, b, p) == 0


def cross(s: tuple, t: tuple) -> bool:
    (a, b), (c, d) = s, t
    if on(a, t) or on(b, t) or on(c, s) or on(d, s):
        return True
    return turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0


def side(p: tuple, polygon: list) -> int:
    """Returns 1 for a point within a polygon, 0 on its boundary, -1 outside."""
    edges = segments("POLYGON", polygon)
    if any(on(p, edge) for edge in edges):
        return 0
    odd = False
    for a, b in edges:
        if (a[1] > p[1]) != (b[1] > p[1]):
            x = a[0] + (p[1] - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
            odd ^= x > p[0]
    return 1 if odd else -1


def meet(a: tuple[str, Any], b: tuple[str, Any]) -> bool:
    (kind_a, of_a), (kind_b, of_b) = a, b
    if kind_a == "POINT" and kind_b == "POINT":
        return exact(of_a) == exact(of_b)
    if kind_b == "POINT":
        return meet(b, a)
    if kind_a == "POINT":
        p = exact(of_a)
        return side(p, of_b) >= 0 if kind_b == "POLYGON" else any(on(p, s) for s in segments(kind_b, of_b))
    if any(cross(s, t) for s in segments(kind_a, of_a) for t in segments(kind_b, of_b)):
        return True
    first = lambda kind, of: exact(of[0] if kind == "LINESTRING" else of[0][0])  # noqa: E731
    return (kind_b == "POLYGON" and side(first(kind_a, of_a), of_b) > 0) or (
        kind_a == "POLYGON" and side(first(kind_b, of_b), of_a) > 0
    )


def intersects(a: Shape, b: Shape) -> bool:
    return any(meet(p, q) for p in parts(a) for q in parts(b))


def within(a: Shape, b: Shape) -> bool:
    """Returns True if a shape is within a rectangle, and not only on its boundary."""
    polygon = b[2]
    every = [exact(p) for p in coordinates(a)]
    if not every or any(side(p, polygon) < 0 for p in every):
        return False
    edges = segments("POLYGON", polygon)

    def inside(kind: str, of: Any) -> bool:
        if kind == "POINT":
            return side(exact(of), polygon) > 0
        if kind == "POLYGON":
            return True
        return any(not any(on(s[0], e) and on(s[1], e) for e in edges) for s in segments(kind, of))

    return any(inside(kind, of) for kind, of in parts(a))


def distance(a: Shape, to: Point) -> float | None:
    """Returns the distance to a point on the plane, or None for an empty shape."""
    found = [apart(kind, of, to) for kind, of in parts(a)]
    return min(found) if found else None


def apart(kind: str, of: Any, to: Point) -> float:
    if kind == "POINT":
        return math.dist(of[:2], to[:2])
    if kind == "POLYGON" and side(exact(to), of) >= 0:
        return 0.0
    best = math.inf
    for (ax, ay), (bx, by) in segments(kind, of):
        px, py = exact(to)
        length = (bx - ax) ** 2 + (by - ay) ** 2
        share = 0 if length == 0 else max(0, min(1, ((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / length))
        best = min(best, math.hypot(float(ax + share * (bx - ax) - px), float(ay + share * (by - ay) - py)))
    return best


def metres(a: Point, b: Point) -> float:
    """Returns the distance along a sphere, which is within 1 % of that on the globe."""
    lon, lat = math.radians(b[0] - a[0]), math.radians(b[1] - a[1])
    of = math.sin(lat / 2) ** 2 + math.cos(math.radians(a[1])) * math.cos(math.radians(b[1])) * math.sin(lon / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(min(1.0, of)))


def box(shapes: list[bytes], on_globe: bool, pick: random.Random) -> tuple[bytes, bytes] | None:
    """Returns the bounds in manifests: x, y and z. On a globe they may cross the 180th meridian."""
    found = [read(data) for data in shapes]
    every = [p for shape in found for p in coordinates(shape)]
    if not every:
        return None
    low, high = ([f(p[i] for p in every) for i in (0, 1)] for f in (min, max))
    if on_globe:
        if any(kind != "POINT" for shape in found for kind, _ in parts(shape)):
            # The course of edges on a globe is not computed, so the bounds are those of the whole globe.
            low, high = [-180.0, -90.0], [180.0, 90.0]
        else:
            west, east = [p[0] for p in every if p[0] < 0], [p[0] for p in every if p[0] >= 0]
            if west and east and (min(east) - max(west) > 180 or pick.random() < 0.1):
                low[0], high[0] = min(east), max(west)
    heights = [p[2] for p in every if len(p) > 2]
    if heights:
        low, high = [*low, min(heights)], [*high, max(heights)]
    return struct.pack(f"<{len(low)}d", *low), struct.pack(f"<{len(high)}d", *high)
