"""Generates DELETE, UPDATE and INSERT from a seed. Both engines must refuse values that do not fit their column."""

from __future__ import annotations

import random

from pyiceberg.types import PrimitiveType

from ..names import quoted
from .expressions import STRING, Expressions, family
from .text import Text, joined, put, same, spaced
from .world import SHARED, Known, World


def some(pick: random.Random, world: World, known: Known) -> Text:
    return pick.choice([delete, delete, delete, update, update, update, misfit, insert, insert_select])(
        pick, world, known
    )


def target(known: Known) -> Text:
    return Text(known.esker, known.name)


def bare(pick: random.Random, world: World, known: Known) -> Expressions:
    """Returns columns without an alias, because DELETE has none. Some are qualified by the table's name."""
    columns, whole = known.columns("a"), Text(known.esker, known.name)
    last = Text(quoted(known.state.name[-1]), known.name)
    for column in columns:
        text = column.text
        column.text = Text(text.esker[2:], text.duckdb[2:], features=text.features)
        if pick.random() < 0.1 and "nested" not in text.features:
            column.text = put("{}.{}", pick.choice([whole, last]), column.text).tagged("whole name")
    return Expressions(pick, columns, pick.random() < 0.3, world.tables, pick.choice([whole, last]))


def delete(pick: random.Random, world: World, known: Known) -> Text:
    e = bare(pick, world, known)
    if pick.random() < 0.15:
        other = pick.choice(world.tables)
        inner = put("SELECT max(b.rid) FROM {} AS b GROUP BY b.i", Text(other.esker, other.name))
        return spaced(pick, "DELETE FROM", target(known), "WHERE rid IN (", inner, ")").tagged("delete")
    return spaced(pick, "DELETE FROM", target(known), "WHERE rid % 3 = 1 AND (", e.condition(), ")").tagged("delete")


def plain_columns(known: Known) -> list:
    return [f for f in known.state.schema.fields if isinstance(f.field_type, PrimitiveType) and f.name != "rid"]


def update(pick: random.Random, world: World, known: Known) -> Text:
    e, field = bare(pick, world, known), pick.choice(plain_columns(known))
    kind = field.field_type
    # An expression of exactly the column's type, or a literal, so that both dialects agree on what fits.
    there = [c.text for c in e.columns if c.kind == kind]
    value = pick.choice(there) if there and pick.random() < 0.5 else e.literal(kind, True)
    if family(kind) == STRING and pick.random() < 0.3:
        value = put("{} || '!'", value)
    if field.name in SHARED and pick.random() < 0.15:
        other = pick.choice(world.tables)
        value = put(f"(SELECT max(q.{field.name}) FROM {{}} AS q)", Text(other.esker, other.name)).tagged("subquery")
    where = put("WHERE {}", e.condition()) if pick.random() < 0.9 else None
    more = [f for f in plain_columns(known) if f.name != field.name]
    if more and pick.random() < 0.2:
        # Each assignment sees the old row, whatever the assignments before it set.
        other = pick.choice(more)
        value = put("{}, {} = {}", value, quoted(other.name), e.literal(other.field_type, True)).tagged("two columns")
    return spaced(pick, "UPDATE", target(known), "SET", quoted(field.name), "=", value, where).tagged("update")


MISFITS = {
    "int": ["3000000000", "-3000000000", "'abc'", "1e12"],
    "date": ["'2026-13-45'", "'no day'"],
    "timestamp": ["'2026-02-31 00:00:00'", "'never'"],
    "decimal(10, 2)": ["1e12", "123456789.00", "'abc'"],
    "long": ["'abc'", "1e30", "99999999999999999999"],
    "boolean": ["'maybe'"],
    "double": ["'abc'"],
}


def misfit(pick: random.Random, world: World, known: Known) -> Text:
    """Returns a value that does not fit any column of the type."""
    found = [f for f in plain_columns(known) if str(f.field_type) in MISFITS]
    field = pick.choice(found)
    value = pick.choice(MISFITS[str(field.field_type)])
    if pick.random() < 0.5:
        return spaced(pick, "UPDATE", target(known), "SET", quoted(field.name), "=", value).tagged("misfit", "update")
    columns = f"({quoted('rid')}, {quoted(field.name)})"
    return spaced(pick, "INSERT INTO", target(known), columns, "VALUES", f"(7, {value})").tagged("misfit", "insert")


def insert(pick: random.Random, world: World, known: Known) -> Text:
    e, fields = bare(pick, world, known), plain_columns(known)
    fields = pick.sample(fields, min(len(fields), pick.randrange(1, 4)))
    names = ", ".join(quoted(f.name) for f in fields)
    tuples = []
    for _ in range(pick.randrange(1, 3)):
        values = [same(str(known.fresh())), *(e.literal(f.field_type, True) for f in fields)]
        tuples.append(put("({})", joined(", ", values)))
    return spaced(pick, "INSERT INTO", target(known), f"(rid, {names})", "VALUES", joined(", ", tuples)).tagged(
        "insert"
    )


def insert_select(pick: random.Random, world: World, known: Known) -> Text:
    fields = pick.sample(plain_columns(known), 2)
    names = ", ".join(quoted(f.name) for f in fields)
    twice = pick.choice(["NULL, NULL", *(quoted(f.name) + ", NULL" for f in fields[:1])])
    into = put("{} (rid, {})", target(known), names)
    some_rows = put("{} WHERE rid % 5 = 2", target(known))
    return spaced(
        pick, "INSERT INTO", into, f"SELECT rid + {100_000 * known.fresh()},", twice, "FROM", some_rows
    ).tagged("insert select")
