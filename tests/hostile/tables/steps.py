"""Generates steps of a history from a seed and the table's present state."""

from __future__ import annotations

import random

from pyiceberg.types import (
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    StructType,
    UnknownType,
)

from .. import names, predicates, values
from ..opaque import OPAQUE, VariantType, comparable, holds
from . import foreign, schemas, statistics
from .schemas import Ids
from .state import State


def rows(pick: random.Random, s: State, n: int, few: frozenset[str] = frozenset()) -> list[dict]:
    """Returns rows. Partition columns, and those in `few`, get values from a small set."""
    sources = {f.source_id for f in s.spec.fields}
    made = []
    for _ in range(n):
        made.append({
            f.field_id: values.of_field(pick, f, f.field_id in sources or f.name in few or pick.random() < 0.3)
            for f in s.schema.fields
        })  # fmt: skip
    return made


def insert(
    pick: random.Random, s: State, by: str | None = None, few: frozenset[str] = frozenset(), **more: object
) -> dict:
    by = by or pick.choice(writers(pick, s))
    step = {"do": "insert", "by": by, "rows": rows(pick, s, pick.randrange(2, 9), few), "style": pick.randrange(3)}
    if by == "craft":
        step |= {
            "statistics": pick.choice(statistics.KINDS), "seed": pick.randrange(1000),
            "without ids": pick.random() < 0.25,
            "hive": pick.random() < 0.15, "parquet": layout(pick),
        }  # fmt: skip
        if any(holds(f.field_type, VariantType) for f in s.schema.fields) and pick.random() < 0.8:
            step["shredding"] = pick.randrange(10**6)
    if by == "esker" and s.version == 3 and pick.random() < 0.4:
        step["omit"] = [f.field_id for f in s.schema.fields if pick.random() < 0.3]
    return step | more


def layout(pick: random.Random) -> dict:
    return {
        "compression": pick.choice(["zstd", "snappy", "none", "gzip"]), "row_group_size": pick.choice([2, 3, 1000]),
        "data_page_version": pick.choice(["1.0", "2.0"]), "use_dictionary": pick.random() < 0.5,
        "write_statistics": pick.random() < 0.7, "write_page_index": pick.random() < 0.3,
    }  # fmt: skip


def writers(pick: random.Random, s: State) -> list[str]:
    found = ["esker", "craft", "craft"] + (["pyiceberg"] * 2 if s.version < 3 else [])
    found += ["spark", "spark"] if s.with_spark and s.stage.spark.reads(s.schema) else []
    return found + (["duckdb"] if s.version > 1 and len(s.name) == 2 and for_duckdb(s) else [])


def for_duckdb(s: State) -> bool:
    """Returns True if DuckDB can insert into the table: it supports all types, and no new type is nested."""
    kinds = [f.field_type for f in s.schema.fields]
    known = s.stage.duckdb.reads(s.schema) is not None
    return known and all(isinstance(k, OPAQUE) or not holds(k, *OPAQUE) for k in kinds)


def delete(pick: random.Random, s: State, by: str | None = None) -> dict:
    by = by or pick.choice(["esker", *(["pyiceberg"] if s.version < 3 else []), *(["duckdb"] if s.version > 1 else [])])
    return {"do": "delete", "by": by, "where": predicates.some(pick, s.schema, s.live(), plain=by != "esker")}


def update(pick: random.Random, s: State) -> dict | None:
    plain = [f for f in s.schema.fields if isinstance(f.field_type, PrimitiveType)]
    plain = [f for f in plain if not isinstance(f.field_type, UnknownType)]
    if not plain or s.version == 1:
        return None
    f = pick.choice(plain)
    by = "esker" if isinstance(f.field_type, OPAQUE) else pick.choice(["esker", "esker", "duckdb"])
    where = predicates.some(pick, s.schema, s.live(), plain=by != "esker")
    return {"do": "update", "by": by, "where": where, "field": f.field_id, "value": values.of_field(pick, f)}


def overwrite(pick: random.Random, s: State) -> dict | None:
    if s.version == 3:
        return None
    return {"do": "overwrite", "where": predicates.some(pick, s.schema, s.live(), plain=True), "rows": rows(pick, s, 3)}


def equality(pick: random.Random, s: State, field: str | None = None, scope: str | None = None) -> dict | None:
    """Returns a step of equality deletes, mostly of existing rows."""
    paths = predicates.paths(s.schema.fields)
    if pick.random() < 0.7:
        paths = [p for p in paths if not isinstance(predicates.kind_of(s.schema, p), (FloatType, DoubleType))]
    if s.version == 1 or not paths or not s.rows:
        return None
    named = [p for p in paths if s.schema.find_field(p[-1]).name == field]
    chosen = named or pick.sample(paths, min(len(paths), pick.choice([1, 1, 2])))
    live, keys = s.live(), []
    for _ in range(pick.randrange(1, 4)):
        # DuckDB fails on NULL keys, so they are rare.
        whole = [row for row in live if None not in [predicates.lookup(row, p) for p in chosen]]
        whole = whole if pick.random() < 0.9 else live
        keys.append(pick.choice(whole or live) if pick.random() < 0.8 else rows(pick, s, 1)[0])
    return {
        "do": "equality", "fields": [path[-1] for path in chosen], "keys": keys,
        "scope": scope or pick.choice(["table", "partition", "partition"]),
        "statistics": pick.choice(["full", "none", "counts"]),
    }  # fmt: skip


def positions(pick: random.Random, s: State) -> dict | None:
    return (
        {"do": "positions", "seed": pick.randrange(10**6), "scope": pick.choice(["file", "partition"])}
        if s.version == 2
        else None
    )


def compact(pick: random.Random, s: State, **fixed: object) -> dict:
    options: dict = {"courtesy-seconds": 0, "min-input-files": 2, "rewrite-all": pick.random() < 0.5}
    sortable = [f for f in s.schema.fields if isinstance(f.field_type, (IntegerType, LongType, StringType, DoubleType))]
    match 5 if "strategy" in fixed else pick.randrange(6):
        case 0 if s.version > 1:
            options["strategy"] = "convert-deletes"
        case 1 if any(names.plain(f.name) for f in sortable):
            order = ", ".join(f"{f.name} {pick.choice(['asc', 'desc'])}" for f in sortable if names.plain(f.name))
            options |= {"strategy": "sort", "sort-order": order}
        case 2 if sortable:
            options |= {"strategy": "zorder", "zorder-columns": [f.name for f in sortable[:2]]}
    if pick.random() < 0.3:
        options["verify"] = "full"
    if pick.random() < 0.3:
        options["target-file-size-bytes"] = 2500
    if pick.random() < 0.2:
        options["partial-progress.enabled"] = False
    if pick.random() < 0.2:
        options["remove-dangling-deletes"] = False
    if pick.random() < 0.3:
        options["max-files-to-rewrite"] = 2
    return {"do": "maintain", "kind": "compact", "options": options | fixed}


def erase(pick: random.Random, s: State) -> dict | None:
    """Returns an erasure of rows that are deleted already. It removes files and snapshots that still have them."""
    if not predicates.paths(s.schema.fields):
        return None
    for _ in range(20):
        where = predicates.some(pick, s.schema, s.live(), plain=True)
        if s.version > 1 and not any(predicates.holds(where, row) for row in s.live()):
            # Branches and tags may still have the rows, so they are dropped too.
            refs = sorted(name for name in s.table.refresh().refs() if name != "main")
            options = {"where": predicates.sql(where, s.schema, "filter")} | ({"drop-refs": refs} if refs else {})
            return {"do": "maintain", "kind": "erase", "options": options}
    return None


def maintenance(pick: random.Random, s: State) -> dict | None:
    match pick.randrange(11):
        case 0:
            return {"do": "maintain", "kind": "manifests", "options": {"rewrite-all": pick.random() < 0.7}}
        case 1:
            return {"do": "maintain", "kind": "statistics", "options": {}}
        case 2:
            return {"do": "maintain", "kind": "expire", "options": {"retain-last": pick.randrange(1, 4)}}
        case 3:
            return {"do": "maintain", "kind": "orphans", "options": {}}
        case 4 | 5:
            return {"do": "undo", "job": -1 - pick.randrange(3)}
        case 6:
            return erase(pick, s)
    return compact(pick, s)


def sort_order(pick: random.Random, s: State) -> dict:
    fields = [f for f in s.schema.fields if comparable(f.field_type)]
    chosen = pick.sample(fields, min(len(fields), 2))
    return {"do": "sort", "fields": [[f.field_id, pick.random() < 0.5] for f in chosen]}


def anything(pick: random.Random, s: State, ids: Ids) -> dict | None:
    match pick.choices(range(12), [6, 2, 1, 1, 2, 1, 2, 1, 0.5, 0.5, 1, 4])[0]:
        case 0:
            return insert(pick, s)
        case 1:
            return delete(pick, s)
        case 2:
            return update(pick, s)
        case 3:
            return overwrite(pick, s)
        case 4:
            return equality(pick, s)
        case 5:
            return positions(pick, s)
        case 6:
            return schemas.evolution(pick, s, ids)
        case 7:
            return schemas.repartition(pick, s)
        case 8:
            return sort_order(pick, s)
        case 9 if s.version < 3:
            return {"do": "upgrade", "to": s.version + 1}
        case 10:
            return foreign.step(pick, s)
    return maintenance(pick, s)


def structs(s: State) -> list:
    return [f for f in s.schema.fields if isinstance(f.field_type, StructType)]
