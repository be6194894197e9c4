"""Generates SELECT statements from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pyiceberg.types import DecimalType, IcebergType, IntegerType, LongType

from . import layers
from .expressions import DOUBLE, LONG, STRING, Expressions, family
from .text import Text, joined, put, same, spaced
from .world import SHARED, Known, World


@dataclass
class Query:
    text: Text
    # True if the order of the rows is part of the answer.
    ordered: bool = False


def some(pick: random.Random, world: World) -> Query:
    kinds = [
        plain,
        plain,
        plain,
        ordered,
        grouped,
        aggregated,
        joining,
        joining,
        window,
        sets,
        subquery,
        listed_subquery,
        long,
        grouping,
        nested_query,
        common,
        odd,
        in_layers,
        in_layers,
    ]
    return pick.choice(kinds)(pick, world)


def source(pick: random.Random, known: Known, alias: str, parameters: bool = True) -> tuple[Text, Expressions]:
    table = Text(f"{known.esker} AS {alias}", f"{known.name} AS {alias}")
    if pick.random() < 0.1:
        form = pick.choice(["FOR VERSION AS OF", "VERSION AS OF", "FOR SYSTEM_VERSION AS OF"])
        table = Text(f"{known.esker} {form} {known.older} AS {alias}", f"{known.name}_older AS {alias}").tagged(
            "time travel"
        )
    return table, Expressions(pick, known.columns(alias), parameters)


def one(pick: random.Random, world: World, alias: str = "a") -> tuple[Known, Text, Expressions]:
    known = pick.choice(world.tables)
    table, e = source(pick, known, alias, pick.random() < 0.3)
    e.tables, e.outer = world.tables, same(alias)
    return known, table, e


def selected(pick: random.Random, e: Expressions) -> Text:
    items = []
    for n in range(pick.randrange(1, 4)):
        column = pick.choice(e.columns)
        item = (
            column.text
            if pick.random() < 0.6
            else e.made(family(column.kind), 1)
            if column.kind in SIMPLE
            else column.text
        )
        items.append(put(f"{{}} AS c{n}", item) if pick.random() < 0.5 else item)
    return joined(", ", items)


SIMPLE = [LONG, DOUBLE, STRING]


def where(pick: random.Random, e: Expressions) -> Text | None:
    return put("WHERE {}", e.condition()) if pick.random() < 0.85 else None


def plain(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    return Query(spaced(pick, "SELECT", selected(pick, e), "FROM", table, where(pick, e)))


def ordered(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    key, column = same("a.rid"), pick.choice(e.columns).text
    order = put(f"ORDER BY {{}} {pick.choice(['ASC', 'DESC'])} NULLS {pick.choice(['FIRST', 'LAST'])}, a.rid", column)
    limit = f"LIMIT {pick.randrange(12)}" if pick.random() < 0.6 else None
    offset = f"OFFSET {pick.randrange(5)}" if limit and pick.random() < 0.4 else None
    what = joined(", ", [key, column])
    return Query(
        spaced(pick, "SELECT", what, "FROM", table, where(pick, e), order, limit, offset).tagged("order by"), True
    )


def aggregate(pick: random.Random, e: Expressions) -> Text:
    column = pick.choice(e.columns)
    forms = ["count({})", "min({})", "max({})", "count(DISTINCT {})", "count(*) FILTER (WHERE {} IS NULL)"]
    if isinstance(column.kind, (IntegerType, LongType)):
        forms += ["sum({} % 1000)", "avg({} % 100)"]
    elif isinstance(column.kind, DecimalType) and column.kind.precision <= 18:
        forms += ["sum({})"]
    chosen = pick.choice(forms)
    return put(chosen, column.text).tagged(f"aggregate {chosen.split('(')[0]}")


def grouped(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    key = pick.choice(e.columns).text
    having = put("HAVING count(*) > {}", str(pick.randrange(3))) if pick.random() < 0.4 else None
    what = joined(", ", [key, same("count(*)"), aggregate(pick, e), aggregate(pick, e)])
    return Query(
        spaced(pick, "SELECT", what, "FROM", table, where(pick, e), put("GROUP BY {}", key), having).tagged("group by")
    )


def aggregated(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    what = joined(", ", [same("count(*)"), aggregate(pick, e), aggregate(pick, e)])
    return Query(spaced(pick, "SELECT", what, "FROM", table, where(pick, e)).tagged("aggregate"))


def joining(pick: random.Random, world: World) -> Query:
    a, b = pick.choice(world.tables), pick.choice(world.tables)
    left, e = source(pick, a, "a", False)
    right, f = source(pick, b, "b", False)
    kind, key = pick.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]), pick.choice(SHARED)
    if pick.random() < 0.15:
        what = joined(", ", [same("a.rid"), same("b.rid"), same(key)])
        return Query(
            spaced(pick, "SELECT", what, "FROM", left, kind, right, f"USING ({key})").tagged(
                kind.lower(), f"using {key}"
            )
        )
    on = put("ON {}", f"a.{key} {pick.choice(['=', '=', '=', 'IS NOT DISTINCT FROM'])} b.{key}")
    if pick.random() < 0.2:
        other = pick.choice(SHARED)
        on = put("{} AND {}", on, f"a.{other} {pick.choice(['=', '<', '>=', '<>'])} b.{other}").tagged("two keys")
    if pick.random() < 0.4 and kind in ("JOIN", "LEFT JOIN"):
        on = put("{} AND {}", on, f.condition(1))
    what = joined(", ", [same("a.rid"), same("b.rid"), pick.choice(e.columns + f.columns).text])
    both = Expressions(pick, e.columns + f.columns, False)
    return Query(
        spaced(pick, "SELECT", what, "FROM", left, kind, right, on, where(pick, both)).tagged(
            kind.lower(), f"join by {key}"
        )
    )


FRAMES = [
    "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    "ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
    "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
]


def window(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    by, order = pick.choice(e.columns).text, pick.choice(e.columns).text
    over = put("OVER (PARTITION BY {} ORDER BY {} NULLS LAST, a.rid)", by, order)
    number = put("{} % 1000", e.column(LONG))
    frame = pick.choice(FRAMES)
    framed = put("OVER (PARTITION BY {} ORDER BY {}, a.rid {})", by, order, frame).tagged(frame)
    peers = put("OVER (ORDER BY {} DESC NULLS LAST)", order).tagged("peers")
    if pick.random() < 0.5:
        call = pick.choice([put("sum({})", number), same("count(*)"), put("min({})", order), put("max({})", order)])
        over = pick.choice([framed, peers])
        made = put("{} {}", call, over)
        dense = put("dense_rank() {}", peers)
        return Query(
            spaced(pick, "SELECT", put("a.rid, {}, {}", made, dense), "FROM", table, where(pick, e)).tagged("window")
        )
    calls = [
        same("row_number()"),
        same("1 - row_number()"),
        put("lag({})", by),
        put("lead({}, 2)", order),
        put("sum({})", number),
        same("count(*)"),
        put("first_value({})", order),
    ]
    what = joined(", ", [same("a.rid"), put("{} {}", pick.choice(calls), over)])
    rank = put("rank() OVER (ORDER BY {} NULLS FIRST)", order)
    return Query(spaced(pick, "SELECT", put("{}, {}", what, rank), "FROM", table, where(pick, e)).tagged("window"))


def sets(pick: random.Random, world: World) -> Query:
    column = pick.choice(SHARED)
    parts = []
    for alias in ("a", "b", "c") if pick.random() < 0.3 else ("a", "b"):
        _, table, e = one(pick, world, alias)
        parts.append(spaced(pick, "SELECT", f"{alias}.{column}", "FROM", table, where(pick, e)))
    made = parts[0]
    for part in parts[1:]:
        operator = pick.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
        made = spaced(pick, made, operator, part).tagged(operator.lower())
    return Query(made)


def subquery(pick: random.Random, world: World) -> Query:
    _, left, e = one(pick, world)
    form = pick.randrange(5)
    # Both tables may have the same alias if the inner query does not name the outer table.
    alias = pick.choice("ab") if form in (0, 3) else "b"
    _, right, f = one(pick, world, alias)
    key = pick.choice(SHARED)
    inner = spaced(pick, "SELECT", f"{alias}.{key}", "FROM", right, put("WHERE {}", f.condition(1)))
    match form:
        case 0:
            test = put(pick.choice(["{} IN ({})", "{} NOT IN ({})"]), f"a.{key}", inner)
        case 1:
            test = put(pick.choice(["EXISTS ({} AND {})", "NOT EXISTS ({} AND {})"]), inner, f"a.{key} = b.{key}")
        case 4:
            # Two inner tables; a column of the same name of each is compared with the outer one.
            more, _ = source(pick, pick.choice(world.tables), "c", False)
            other, op = pick.choice(SHARED), pick.choice(["=", "=", "<>"])
            tables = put(f"{{}} JOIN {{}} ON b.{other} = c.{other}", right, more)
            both = f"WHERE b.{key} = a.{key} AND c.{key} {op} a.{key}"
            kind = pick.choice([f"EXISTS (SELECT b.{key} FROM {{}})", f"NOT EXISTS (SELECT 1 AS {key} FROM {{}})"])
            test = put(kind, spaced(pick, tables, both))
        case 2:
            test = put(
                "a.rid >= ({})", spaced(pick, "SELECT min(b.rid) FROM", right, put("WHERE {}", f"a.{key} = b.{key}"))
            )
        case _:
            test = put("a.rid > ({})", spaced(pick, f"SELECT avg({alias}.rid) FROM", right))
    return Query(spaced(pick, "SELECT a.rid FROM", left, "WHERE", test).tagged("subquery"))


def listed_subquery(pick: random.Random, world: World) -> Query:
    """Returns a query with scalar subqueries in the select list."""
    _, left, e = one(pick, world)
    known, key, other = pick.choice(world.tables), pick.choice(SHARED), pick.choice(SHARED)
    right, f = source(pick, known, "b", False)
    inner = f.condition(2)
    own, g = source(pick, known, "a", False)
    conditions = [
        put(f"a.{key} IN (SELECT b.{key} FROM {{}} WHERE {{}})", right, inner),
        put(f"a.{key} NOT IN (SELECT a.{key} FROM {{}} WHERE {{}})", own, g.condition(2)),
        put(f"a.{key} < ANY (SELECT a.{key} FROM {{}} WHERE {{}})", own, g.condition(2)),
        put(f"a.{key} NOT IN (SELECT b.{key} FROM {{}} WHERE {{}} AND b.{other} = a.{other})", right, inner),
        put(f"EXISTS (SELECT 1 FROM {{}} WHERE {{}} AND b.{key} = a.{key})", right, inner),
        put(f"a.{key} >= ALL (SELECT b.{key} FROM {{}} WHERE {{}})", right, inner),
    ]
    values = [
        put(f"(SELECT count(b.{other}) FROM {{}} WHERE {{}} AND b.{key} = a.{key})", right, inner),
        put("(SELECT max(b.rid) FROM {} WHERE {})", right, inner),
    ]
    test, asked = pick.choice(conditions), pick.choice(conditions + values)
    match pick.randrange(5):
        case 0:
            made = spaced(pick, "SELECT", put("count(*) FILTER (WHERE {}), count({})", test, asked), "FROM", left)
            return Query(spaced(pick, made, where(pick, e)).tagged("subquery in an aggregate"))
        case 1:
            made = spaced(pick, "SELECT a.rid FROM", left, where(pick, e), "ORDER BY", asked, "NULLS LAST, a.rid")
            return Query(made.tagged("subquery in an order"), True)
    return Query(spaced(pick, "SELECT a.rid,", asked, "FROM", left, where(pick, e)).tagged("subquery in a list"))


def long(pick: random.Random, world: World) -> Query:
    """Returns a query with more terms than a person would write."""
    _, table, e = one(pick, world)
    terms = [put("({})", e.condition(3)) for _ in range(pick.choice([40, 100, 300]))]
    operator = pick.choice([" OR ", " AND ", " OR "])
    if operator == " AND ":
        terms = [put("({} OR a.rid % 2 = 0)", term) for term in terms]
    return Query(put("SELECT a.rid FROM {} WHERE {}", table, joined(operator, terms)).tagged("long"))


def grouping(pick: random.Random, world: World) -> Query:
    """Returns a query that groups by several keys or by grouping sets."""
    _, table, e = one(pick, world)
    first = pick.choice(e.columns).text
    # A grouping set with a column twice is refused.
    second = pick.choice([c.text for c in e.columns if c.text != first])
    form = pick.choice(["{}, {}", "ROLLUP ({}, {})", "CUBE ({}, {})", "GROUPING SETS (({}), ({}), ())"])
    by = put(form, first, second).tagged(form.split(" ")[0].lower())
    what = joined(", ", [first, second, same("count(*)"), aggregate(pick, e)])
    return Query(spaced(pick, "SELECT", what, "FROM", table, where(pick, e), "GROUP BY", by).tagged("group by"))


def nested_query(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    inner = spaced(pick, "SELECT DISTINCT", pick.choice(e.columns).text, "AS v FROM", table, where(pick, e))
    return Query(spaced(pick, "SELECT count(*), count(v), min(v), max(v) FROM (", inner, ") AS q").tagged("distinct"))


def in_layers(pick: random.Random, world: World) -> Query:
    made = layers.layered(pick, world)
    return Query(made.text, made.ordered)


def common(pick: random.Random, world: World) -> Query:
    _, table, e = one(pick, world)
    inner = spaced(pick, "SELECT a.rid, a.s,", pick.choice(e.columns).text, "AS v FROM", table, where(pick, e))
    return Query(
        spaced(pick, "WITH q AS (", inner, ") SELECT x.rid, y.v FROM q AS x JOIN q AS y ON x.s = y.s").tagged("with")
    )


def odd(pick: random.Random, world: World) -> Query:
    """Returns a query without a table, or with duplicate items in the select list."""
    _, table, e = one(pick, world)
    kind: IcebergType = pick.choice(e.columns).kind
    value = e.literal(kind)
    twice = joined(", ", [same("1"), same("1"), same("NULL"), same("NULL")])
    return Query(pick.choice([
        put("SELECT {}", value),
        put("SELECT {}", twice).tagged("said twice"),
        spaced(pick, "SELECT a.rid, a.rid,", value, ",", value, "FROM", table).tagged("said twice"),
        spaced(pick, "SELECT now() IS NULL, current_date IS NULL, current_timestamp = now()").tagged("now"),
        spaced(pick, "SELECT count(*) FROM", table, "WHERE", value, "IS NOT NULL"),
    ]))  # fmt: skip
