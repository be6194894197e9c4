"""Generates queries in FROM of queries, mostly without alias. A column often has the name of what it is computed from.

Every layer has the columns `rid`, `v` and `w`. The numbers in `rid` stay unique, so a LIMIT and a window have one
answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyiceberg.types import IcebergType

from .expressions import DOUBLE, LONG, STRING, Expressions
from .text import Text, put, same, spaced
from .world import Column, World

KINDS = [LONG, LONG, STRING, DOUBLE]
# More than the greatest number of a row, so that the numbers of both sides of a union differ.
APART = 100_000


@dataclass
class Layer:
    """A query with the columns `rid`, `v` and `w`, and the types of the last two."""

    text: Text
    v: IcebergType
    w: IcebergType
    # True if the order of the rows is part of the answer.
    ordered: bool = False
    unions: int = 0


def layered(pick: random.Random, world: World) -> Layer:
    """Returns a query of two to six layers."""
    made = base(pick, world, pick.choice(KINDS), pick.choice(KINDS), 0)
    for _ in range(pick.randrange(1, 6)):
        made = pick.choices(list(LAYERS), list(LAYERS.values()))[0](pick, world, made)
    return replace(made, text=made.text.tagged("layers"))


def base(pick: random.Random, world: World, v: IcebergType, w: IcebergType, unions: int) -> Layer:
    """Returns the innermost query, over a table."""
    known = pick.choice(world.tables)
    e = Expressions(pick, known.columns("a"), False)
    number = f"a.rid + {unions * APART}" if unions else "a.rid"
    what = put(f"{number} AS rid, {{}} AS v, {{}} AS w", value(pick, e, v), value(pick, e, w))
    table = Text(f"{known.esker} AS a", f"{known.name} AS a")
    return Layer(spaced(pick, "SELECT", what, "FROM", table, where(pick, e)), v, w, unions=unions)


def value(pick: random.Random, e: Expressions, kind: IcebergType) -> Text:
    made = e.column(kind) if pick.random() < 0.4 else e.made(kind, 1)
    # Engines round a float that is computed from again and again in different ways.
    return put("CAST({} AS DOUBLE)", made) if kind == DOUBLE else made


def where(pick: random.Random, e: Expressions) -> Text | None:
    return put("WHERE {}", e.condition(2)) if pick.random() < 0.3 else None


def within(pick: random.Random, below: Layer) -> tuple[Text, str, Expressions]:
    """Returns a layer as an item of FROM, the qualifier of its columns, and expressions of them."""
    alias = pick.choice(["", "", "q"])
    table = put("({}) AS q", below.text) if alias else put("({})", below.text).tagged("no alias")
    qualifier = "q." if alias and pick.random() < 0.6 else ""
    columns = [("rid", LONG), ("v", below.v), ("w", below.w)]
    return table, qualifier, Expressions(pick, [Column(same(qualifier + c), kind) for c, kind in columns], False)


def projected(pick: random.Random, _: World, below: Layer) -> Layer:
    """Computes columns under the names of those that they are computed from."""
    table, q, e = within(pick, below)
    v, w = put("{}", f"{q}v"), put("{}", f"{q}w")
    kinds = (below.v, below.w)
    match pick.randrange(6):
        case 0:
            what, kinds = put("rid, {} AS v, {} AS w", w, v), (below.w, below.v)
        case 1:
            what = same("*")
        case 2:
            what = put("{} AS w, {} AS v, rid", w, again(pick, v, below.v))
            what = put("rid, v, w FROM (SELECT {} FROM {})", what, table)
            return replace(below, text=spaced(pick, "SELECT", what).tagged("no alias", "same name"), ordered=False)
        case 3:
            what = put("rid, {} AS v, {} AS w", again(pick, v, below.v), again(pick, w, below.w))
        case _:
            kinds = (pick.choice(KINDS), below.w)
            what = put("rid, {} AS v, {} AS w", e.made(kinds[0], 1), w)
    made = spaced(pick, "SELECT", what, "FROM", table, where(pick, e)).tagged("same name")
    return Layer(made, *kinds, unions=below.unions)


def again(pick: random.Random, column: Text, kind: IcebergType) -> Text:
    """Computes a value of the same type from a column."""
    if kind == STRING:
        return put(pick.choice(["{0} || {0}", "{0} || 'x'", "coalesce({0}, 'n') || {0}", "substr({0}, 2)"]), column)
    if kind == DOUBLE:
        return put(pick.choice(["{0} + 1.5", "{0} * 2.0", "-{0}", "coalesce({0}, 0.0) - 0.25"]), column)
    return put(
        pick.choice(["{0} % 1000 + 1", "{0} % 1000 * 2", "-({0} % 1000)", "coalesce({0}, 7) % 1000 - 1"]), column
    )


def limited(pick: random.Random, _: World, below: Layer) -> Layer:
    table, q, _ = within(pick, below)
    # The name of an output column in ORDER BY is that column, and not the one that it is computed from.
    what = put("rid, {} AS v, {} AS w", again(pick, same(f"{q}v"), below.v), f"{q}w")
    order = f"ORDER BY {pick.choice(['v', 'v DESC'])} NULLS {pick.choice(['FIRST', 'LAST'])}, rid"
    limit = f"LIMIT {pick.randrange(1, 40)}"
    offset = f"OFFSET {pick.randrange(4)}" if pick.random() < 0.3 else None
    made = spaced(pick, "SELECT", what, "FROM", table, order, limit, offset).tagged("limit below", "same name")
    return Layer(made, below.v, below.w, True, below.unions)


def grouped(pick: random.Random, _: World, below: Layer) -> Layer:
    table, q, e = within(pick, below)
    if pick.random() < 0.5:
        what, by, kinds = f"min({q}rid) AS rid, max({q}v) AS v, {q}w AS w", f"{q}w", (below.v, below.w)
    else:
        what, by, kinds = f"min({q}rid) AS rid, {q}v AS v, count({q}w) AS w", f"{q}v", (below.v, LONG)
    made = spaced(pick, "SELECT", what, "FROM", table, where(pick, e), f"GROUP BY {by}")
    return Layer(made.tagged("group by below", "same name"), *kinds, unions=below.unions)


def windowed(pick: random.Random, _: World, below: Layer) -> Layer:
    table, q, e = within(pick, below)
    over = f"OVER (ORDER BY {q}rid)"
    calls = [
        (f"lag({q}v) {over}", below.v),
        (f"first_value({q}v) {over}", below.v),
        (f"max({q}v) {over}", below.v),
        (f"row_number() OVER (ORDER BY {q}v NULLS FIRST, {q}rid)", LONG),
        (f"count({q}v) OVER (PARTITION BY {q}w)", LONG),
    ]
    call, kind = pick.choice(calls)
    made = spaced(pick, "SELECT", f"{q}rid AS rid, {call} AS v, {q}w AS w", "FROM", table, where(pick, e))
    return Layer(made.tagged("window below", "same name"), kind, below.w, unions=below.unions)


def united(pick: random.Random, world: World, below: Layer) -> Layer:
    """Adds the rows of another table, or of a projection of another table."""
    unions = below.unions + 1
    other = base(pick, world, below.v, below.w, unions)
    if pick.random() < 0.5:
        other = projected_alike(pick, other)
    operator = pick.choice(["UNION ALL", "UNION ALL", "UNION"])
    table, q, _ = within(pick, below)
    mine = spaced(pick, "SELECT", f"{q}rid AS rid, {q}v AS v, {q}w AS w", "FROM", table)
    made = spaced(pick, mine, operator, other.text).tagged("union below")
    return Layer(made, below.v, below.w, unions=unions)


def projected_alike(pick: random.Random, below: Layer) -> Layer:
    """Computes both columns again, with the types that they have."""
    table, q, _ = within(pick, below)
    v, w = again(pick, same(f"{q}v"), below.v), again(pick, same(f"{q}w"), below.w)
    made = spaced(pick, "SELECT", put("rid, {} AS v, {} AS w", v, w), "FROM", table).tagged("same name")
    return replace(below, text=made)


LAYERS: dict[Callable[[random.Random, World, Layer], Layer], float] = {
    projected: 4,
    limited: 1,
    grouped: 1,
    windowed: 1,
    united: 1,
}
