"""The themes of histories. Each makes the conditions of one kind of mistake likely, among random other steps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from .. import predicates
from . import foreign, schemas, steps
from .state import State

Steps = Iterator[dict | None]


@dataclass(frozen=True)
class Wanted:
    """The columns that a theme needs, and several partition specs to begin with."""

    columns: list[tuple[str, str]]
    by: list[list[tuple[str, str]]] = field(default_factory=lambda: [[]])
    versions: tuple[int, ...] = (1, 2, 2, 3)
    others: bool = True


IDENTITY = "identity"
WANTED = {
    "labels": Wanted(
        [("p", "string"), ("q", "string")],
        [[("p", IDENTITY)], [("p", "truncate[4]")], [("p", IDENTITY), ("q", IDENTITY)]],
    ),
    "promoted partition": Wanted(
        [("p", "int"), ("id", "int"), ("f", "float")],
        [[("p", IDENTITY)], [("p", "truncate[10]")], [("f", IDENTITY)]],
        (2, 2, 3),
    ),
    "two schemas": Wanted([("p", "int"), ("a", "int")], [[("p", IDENTITY)]], (2, 2, 3)),
    "not a number": Wanted([("x", "double"), ("y", "float")], others=False),
    "nested defaults": Wanted([("s", "struct")], versions=(3,)),
    "undone": Wanted([("id", "int"), ("p", "string")], [[], [("p", IDENTITY)]], (2, 2, 3)),
    "bounds": Wanted([("a", "long"), ("b", "string"), ("t", "timestamp")]),
    "nanoseconds": Wanted([("n", "timestamp_ns"), ("id", "int")], versions=(3,), others=False),
    "reshaped": Wanted([("s", "struct"), ("id", "int")]),
    "without ids": Wanted([("a b", "int"), ("c", "string")]),
    "transforms": Wanted(
        [("t", "timestamp"), ("d", "decimal(9,2)"), ("u", "date")],
        [[("t", "day")], [("d", "truncate[10]")], [("u", "month"), ("d", "bucket[3]")]],
    ),
    "deletes": Wanted([("id", "int"), ("p", "string")], [[], [("p", IDENTITY)]], (2,)),
    "expiry": Wanted([("id", "long")], versions=(2, 3)),
    "odd partitions": Wanted(
        [("a b", "string"), ("u", "uuid"), ("t", "timestamp"), ("s", "struct"), ("1.é", "int")],
        [
            [("a b", IDENTITY)],
            [("u", IDENTITY)],
            [("s.a", IDENTITY)],
            [("t", "day"), ("t", "hour")],
            [("1.é", IDENTITY), ("u", IDENTITY)],
            [("s.b", IDENTITY), ("1.é", "bucket[3]")],
        ],
        others=False,
    ),
    "partitions of nanoseconds": Wanted(
        [("n", "timestamp_ns"), ("id", "int")],
        [[("n", IDENTITY)], [("n", "hour")], [("n", "day"), ("n", "hour")]],
        (3,),
    ),
    "by others": Wanted([("id", "int"), ("p", "string")], [[], [("p", IDENTITY)], [("p", "truncate[1]")]]),
    "by others of old": Wanted([("id", "long"), ("a b", "string")], [[], [("a b", IDENTITY)]], (1,)),
    "variants": Wanted([("id", "int"), ("v", "variant"), ("w", "variant within")], versions=(3,), others=False),
    "shapes": Wanted([("id", "int"), ("g", "geometry"), ("h", "geography"), ("k", "shape within")], versions=(3,)),
    "defaults": Wanted([("s", "struct"), ("id", "int")], versions=(3,), others=False),
    "anything": Wanted([]),
}
THEMES = list(WANTED)


def id_of(s: State, name: str) -> int | None:
    return next((f.field_id for f in s.schema.fields if f.name == name), None)


def labels(pick: random.Random, s: State) -> Steps:
    few = frozenset(["p", "q"])
    for _ in range(3):
        rows = steps.rows(pick, s, 4, few)
        rows[0][id_of(s, "p")], rows[1][id_of(s, "p")] = None, "null"
        rows[2] |= {id_of(s, "p"): "a=1/q=2", id_of(s, "q"): "b"}
        rows[3] |= {id_of(s, "p"): "a=1", id_of(s, "q"): "2/q=b"}
        yield steps.insert(pick, s, few=few, rows=rows)
    if pick.random() < 0.5:
        yield steps.equality(pick, s, scope="partition")
    yield steps.compact(pick, s, **{"rewrite-all": True, "strategy": "binpack"})


def promoted_partition(pick: random.Random, s: State) -> Steps:
    chosen = s.spec.fields[0].source_id if s.spec.fields else id_of(s, "p")
    few = frozenset(["p", "f", "id"])
    yield steps.insert(pick, s, few=few)
    yield {
        "do": "schema",
        "change": "promote",
        "field": chosen,
        "type": "double" if chosen == id_of(s, "f") else "long",
    }
    yield steps.insert(pick, s, few=few)
    yield steps.equality(pick, s, field="id", scope="partition")
    yield {"do": "look"}
    if pick.random() < 0.5:
        yield steps.positions(pick, s)
    yield {"do": "maintain", "kind": "manifests", "options": {"rewrite-all": True}}
    yield steps.compact(pick, s, **{"rewrite-all": True})
    yield steps.insert(pick, s, few=few)
    yield steps.compact(pick, s)


def two_schemas(pick: random.Random, s: State) -> Steps:
    """Makes manifests of two schemas, rewrites the older one, and merges both."""
    for first in (1, 11):
        rows = steps.rows(pick, s, 4)
        for n, row in enumerate(rows):
            row |= {id_of(s, "p"): first + n, id_of(s, "a"): n}
        yield steps.insert(pick, s, "craft", rows=rows, statistics="full", **{"without ids": False})
        if first == 1:
            yield {"do": "schema", "change": "promote", "field": id_of(s, "a"), "type": "long"}
    yield {"do": "delete", "by": "esker", "where": ["=", [id_of(s, "p")], 1, 0]}
    yield {"do": "maintain", "kind": "manifests", "options": {"rewrite-all": True}}
    yield steps.compact(pick, s, **{"rewrite-all": True})


def not_a_number(pick: random.Random, s: State) -> Steps:
    """Copies a row group with NaN that no manifest counts into one file with encoded rows."""
    yield {"do": "properties", "set": {"write.parquet.row-group-size-bytes": "300"}}
    for n in (40, 3, 2):
        rows = steps.rows(pick, s, n)
        for i, row in enumerate(rows):
            nan = n > 10 and i % 5 == 0
            row |= {id_of(s, "x"): float("nan") if nan else i / 8, id_of(s, "y"): float("nan") if nan else i / 4}
        layout = steps.layout(pick) | {"row_group_size": 1000, "compression": "zstd" if n > 10 else "snappy"}
        whole = {"without ids": False, "in order": True}
        yield steps.insert(pick, s, "craft", rows=rows, statistics="no nan counts", parquet=layout, **whole)
    options = {
        "rewrite-all": False,
        "strategy": "binpack",
        "target-file-size-bytes": 536870912,
        "max-files-to-rewrite": 10,
    }
    # Only NaN is greater than all values.
    yield steps.compact(pick, s, **options) | {"asked": [">", [id_of(s, "x")], 5.0, 0]}
    yield steps.insert(pick, s)


def nested_defaults(pick: random.Random, s: State) -> Steps:
    yield steps.insert(pick, s)
    above = pick.choice(steps.structs(s) or [None])
    if above is None:
        return
    for name, of, default in pick.sample([("x", "int", 100), ("y", "string", "d'f"), ("z", "boolean", True)], 2):
        yield {"do": "schema", "change": "add", "in": above.field_id, "name": name, "type": of, "default": default}
    yield {"do": "schema", "change": "add", "name": "top", "type": "long", "default": -7}
    yield steps.insert(pick, s)
    yield steps.compact(pick, s, **{"rewrite-all": True})


def undone(pick: random.Random, s: State) -> Steps:
    few = frozenset(["id", "p"])
    if pick.random() < 0.5:
        yield from halves(pick, s)
    else:
        for _ in range(3):
            yield steps.insert(pick, s, "craft", few)
        big = steps.rows(pick, s, 60, few)
        yield steps.insert(pick, s, "craft", few, rows=big)
        yield steps.equality(pick, s, field="id")
        small = {"rewrite-all": False, "target-file-size-bytes": 4000, "delete-ratio-threshold": 1.0}
        yield steps.compact(pick, s, strategy="binpack", **small, **{"remove-dangling-deletes": pick.random() < 0.7})
        if pick.random() < 0.5:
            yield steps.insert(pick, s)
        strategy = pick.choice(["binpack", "convert-deletes"])
        yield steps.compact(pick, s, strategy=strategy, **{"rewrite-all": True, "remove-dangling-deletes": True})
    for _ in range(2):
        yield {"do": "undo", "job": pick.choice([0, 0, -1, -2])}


def halves(pick: random.Random, s: State) -> Steps:
    """Compacts one half of the files, which keeps an equality delete, then the other half, which drops it."""
    key = id_of(s, "id")
    for first in (0, 10, 1000):
        rows = [row | {key: first + n} for n, row in enumerate(steps.rows(pick, s, 4))]
        yield steps.insert(pick, s, "craft", rows=rows, statistics="full", **{"without ids": False})
    if step := steps.equality(pick, s, field="id", scope="table"):
        yield step | {"fields": [key], "keys": [row for row in s.live() if row[key] in (1, 11, 1001)]}
    for bound in (["<", [key], 1000, 0], [">=", [key], 1000, 0]):
        if id_of(s, "id") == key:
            where = predicates.sql(bound, s.schema, "filter")
            options = {"rewrite-all": True, "min-input-files": 1, "remove-dangling-deletes": True, "where": where}
            yield steps.compact(pick, s, strategy="binpack", **options)


def bounds(pick: random.Random, s: State) -> Steps:
    if pick.random() < 0.3:
        # No engine understands this value, so the default applies.
        yield {
            "do": "properties",
            "set": {"write.target-file-size-bytes": "200KB", "write.parquet.page-size-bytes": "?"},
        }
    for _ in range(3):
        yield steps.insert(pick, s, "craft")
    yield steps.delete(pick, s)
    yield steps.compact(pick, s)
    yield steps.insert(pick, s)
    yield steps.compact(pick, s)


def nanoseconds(pick: random.Random, s: State) -> Steps:
    for by in ("duckdb", "esker", "craft"):
        yield steps.insert(pick, s, by)
    # Lower and upper bound of each column are equal.
    yield steps.insert(pick, s, "duckdb", rows=steps.rows(pick, s, 1))
    yield steps.compact(pick, s, **{"rewrite-all": True})


def reshaped(pick: random.Random, s: State) -> Steps:
    ids = schemas.Ids(10_000, s.with_spark, new=s.new)
    for _ in range(4):
        yield steps.insert(pick, s)
        yield schemas.evolution(pick, s, ids)
    yield steps.compact(pick, s, **{"rewrite-all": True})
    yield schemas.evolution(pick, s, ids)


def without_ids(pick: random.Random, s: State) -> Steps:
    yield steps.insert(pick, s, "craft", **{"without ids": True})
    yield {"do": "schema", "change": "rename", "field": id_of(s, "c"), "name": "c2"}
    yield steps.insert(pick, s)
    yield steps.delete(pick, s)


def transforms(pick: random.Random, s: State) -> Steps:
    for _ in range(3):
        yield steps.insert(pick, s)
        yield schemas.repartition(pick, s)
    yield steps.delete(pick, s)
    yield steps.compact(pick, s)


def deletes(pick: random.Random, s: State) -> Steps:
    few = frozenset(["id", "p"])
    for _ in range(2):
        yield steps.insert(pick, s, few=few)
        yield steps.positions(pick, s)
        yield steps.equality(pick, s)
    yield steps.delete(pick, s, "esker")
    yield {"do": "upgrade", "to": 3}
    yield steps.delete(pick, s, "esker")
    yield steps.equality(pick, s)
    yield steps.compact(pick, s, strategy="convert-deletes")
    yield steps.erase(pick, s)
    yield steps.compact(pick, s)


def expiry(pick: random.Random, s: State) -> Steps:
    for _ in range(2):
        yield steps.insert(pick, s)
        yield steps.delete(pick, s)
    expire = {"do": "maintain", "kind": "expire", "options": {"retain-last": 1}}
    yield expire
    yield {"do": "undo", "job": -1}
    yield steps.insert(pick, s)
    yield expire
    yield {"do": "sweep"}
    yield {"do": "undo", "job": -2}
    yield {"do": "undo", "job": -1}
    yield {"do": "maintain", "kind": "orphans", "options": {}}
    # Snapshots before a tag that are on no branch expire by their age.
    for _ in range(2):
        yield steps.insert(pick, s)
    yield {"do": "tag", "name": "kept"}
    yield {"do": "roll back", "back": 2}
    yield {"do": "maintain", "kind": "expire", "options": {"retain-last": 1}, "young": True}


def odd_partitions(pick: random.Random, s: State) -> Steps:
    few = frozenset(["a b", "u", "1.é"])
    for _ in range(2):
        yield steps.insert(pick, s, few=few)
        yield steps.insert(pick, s, "duckdb" if s.version > 1 else "pyiceberg", few=few)
        # In version 1 a removed partition field stays in the spec, with the transform `void`.
        yield {"do": "spec", "change": "remove", "at": 0} if pick.random() < 0.4 else schemas.repartition(pick, s)
    yield steps.delete(pick, s, "esker")
    yield steps.equality(pick, s, scope="partition")
    yield {"do": "schema", "change": "rename", "field": id_of(s, "a b") or 1, "name": pick.choice(["a-b", "b a", "x"])}
    yield {"do": "maintain", "kind": "manifests", "options": {"rewrite-all": True}}
    yield steps.compact(pick, s, **{"rewrite-all": True})
    yield steps.insert(pick, s, few=few)


def partitions_of_nanoseconds(pick: random.Random, s: State) -> Steps:
    for by in ("duckdb", "esker", "craft"):
        yield steps.insert(pick, s, by)
    yield steps.delete(pick, s, "esker")
    yield schemas.repartition(pick, s)
    yield steps.insert(pick, s)
    yield steps.compact(pick, s, **{"rewrite-all": True})


def taken_over(pick: random.Random, s: State) -> Steps:
    """Registers tables of other writers and runs Esker's jobs on them."""
    for _ in range(2):
        yield steps.insert(pick, s)
        yield steps.delete(pick, s, "esker")
        yield steps.insert(pick, s, "craft")
        if pick.random() < 0.5:
            yield steps.equality(pick, s)
        yield foreign.step(pick, s, ("manifests", "unknown fields"))
        yield {"do": "look"}
        yield pick.choice([steps.maintenance(pick, s), steps.insert(pick, s, "esker"), schemas.repartition(pick, s)])
        yield {"do": "maintain", "kind": "manifests", "options": {"rewrite-all": pick.random() < 0.8}}


def by_others(pick: random.Random, s: State) -> Steps:
    yield from taken_over(pick, s)
    yield steps.compact(pick, s)
    yield {"do": "undo", "job": -1}
    yield {"do": "maintain", "kind": "expire", "options": {"retain-last": 1}}
    yield {"do": "maintain", "kind": "orphans", "options": {}}


def by_others_of_old(pick: random.Random, s: State) -> Steps:
    """Makes tables of version 1, with details that later versions lack, and upgrades them."""
    for _ in range(2):
        yield steps.insert(pick, s)
    old = [("no counts",), ("inline manifests",), ("no uuid", "bare snapshots"), ("no counts", "no uuid")]
    yield foreign.step(pick, s, pick.choice(old))
    yield {"do": "look"}
    yield pick.choice([steps.insert(pick, s), steps.insert(pick, s, "esker"), steps.delete(pick, s, "esker")])
    for to in (2, 3):
        if pick.random() < 0.7:
            yield {"do": "upgrade", "to": to}
            yield steps.delete(pick, s, "esker")
            yield steps.insert(pick, s)
    yield from taken_over(pick, s)
    yield steps.compact(pick, s, **{"rewrite-all": True})


def variants(pick: random.Random, s: State) -> Steps:
    """Compacts files that shred variants in different ways, some without the fields that filters use."""
    for by in ("craft", "craft", "esker", "craft"):
        yield steps.insert(pick, s, by)
    if pick.random() < 0.5:
        yield {"do": "properties", "set": {"write.parquet.row-group-size-bytes": "300"}}
    yield steps.delete(pick, s, "esker")
    yield steps.compact(pick, s, **{"rewrite-all": pick.random() < 0.7})
    yield steps.insert(pick, s)
    yield steps.update(pick, s)
    yield steps.equality(pick, s, field="id")
    yield steps.compact(pick, s)
    yield {"do": "undo", "job": pick.choice([0, -1])}


def shapes(pick: random.Random, s: State) -> Steps:
    for by in ("craft", "esker", "craft"):
        yield steps.insert(pick, s, by, frozenset(["g", "h"]) if pick.random() < 0.5 else frozenset())
    yield steps.delete(pick, s, "esker")
    yield steps.compact(pick, s, **{"rewrite-all": pick.random() < 0.7})
    yield steps.update(pick, s)
    yield steps.insert(pick, s)
    yield steps.delete(pick, s, "esker")
    yield steps.compact(pick, s, **{"rewrite-all": True})


def defaults(pick: random.Random, s: State) -> Steps:
    ids = schemas.Ids(10_000, s.with_spark, new=max(s.new, 0.2))
    for _ in range(3):
        yield steps.insert(pick, s)
        yield schemas.defaulted(pick, s, ids)
        yield schemas.defaulted(pick, s, ids)
        yield steps.insert(pick, s, "esker", omit=[f.field_id for f in s.schema.fields if pick.random() < 0.6])
        yield steps.equality(pick, s)
    yield steps.delete(pick, s, "esker")
    yield steps.compact(pick, s, **{"rewrite-all": True})


def anything(pick: random.Random, s: State) -> Steps:
    yield steps.insert(pick, s)
    yield steps.insert(pick, s)


def history(pick: random.Random, s: State, theme: str, ids: schemas.Ids) -> Steps:
    """Yields the theme's steps with other steps between them, then maintenance."""
    for step in globals()[theme.replace(" ", "_")](pick, s):
        yield step
        if pick.random() < 0.15:
            yield steps.anything(pick, s, ids)
        if pick.random() < 0.07:
            yield foreign.step(pick, s)
    for _ in range(5 if theme == "anything" else 1):
        yield steps.anything(pick, s, ids)
    yield steps.maintenance(pick, s)
    yield {"do": "look"}
