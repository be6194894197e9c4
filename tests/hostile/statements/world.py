"""The tables of statements, in Esker, and with the same rows in a separate DuckDB."""

from __future__ import annotations

import random
from dataclasses import dataclass

import duckdb
from pyiceberg.types import IcebergType, NestedField, PrimitiveType, StructType

from .. import arrow, literals
from ..engines import Rows, Stage
from ..names import quoted
from ..tables import history, schemas, steps
from ..tables.state import State
from .text import Text

# The fixed columns of every table: a key, and columns that join with other tables.
FIXED = [("rid", "long"), ("i", "int"), ("x", "double"), ("s", "string"), ("d", "decimal(10,2)"), ("ts", "timestamp")]
# The columns on which tables can be joined.
SHARED = ["i", "x", "s", "d", "ts", "rid"]


@dataclass
class Column:
    text: Text
    kind: IcebergType


@dataclass
class Known:
    """A table, with its name in Esker and in DuckDB."""

    state: State
    name: str
    # The snapshot before the last insert. DuckDB has its rows too.
    older: int = 0
    # The last number of a row. Numbers are unique, because windows over ties have several right answers.
    last: int = 10_000

    def fresh(self) -> int:
        self.last += 1
        return self.last

    @property
    def esker(self) -> str:
        return self.state.stage.esker.table(self.state.name)

    def columns(self, alias: str) -> list[Column]:
        return [
            Column(Text(f"{alias}.{e}", f"{alias}.{d}", features=frozenset({"nested"} if "[" in d else ())), kind)
            for e, d, kind in leaves(self.state.schema.fields)
        ]


def leaves(fields: tuple[NestedField, ...]) -> list[tuple[str, str, IcebergType]]:
    """Returns the primitive columns and nested fields, in both dialects."""
    found = []
    for f in fields:
        name = quoted(f.name)
        if isinstance(f.field_type, PrimitiveType):
            found.append((name, name, f.field_type))
        elif isinstance(f.field_type, StructType):
            for inner in f.field_type.fields:
                if isinstance(inner.field_type, PrimitiveType):
                    nested = f"{name}[{literals.string(inner.name)}]"
                    found.append((f"{name}.{quoted(inner.name)}", nested, inner.field_type))
    return found


class World:
    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.pick = stage, random.Random(f"world {seed}")
        self.duckdb = duckdb.connect()
        self.duckdb.execute("SET TimeZone = 'UTC'")
        self.tables = [self.table(seed, n) for n in range(2)]

    def table(self, seed: int, n: int) -> Known:
        pick, ids = self.pick, schemas.Ids(for_duckdb=True)
        version = pick.choice([2, 2, 3])
        columns = schemas.columns(pick, version, list(FIXED), 5, ids, 0.6)
        by = pick.choice(
            [
                [],
                [("i", "identity")],
                [("s", "identity")],
                [("ts", "month")],
                [("s", "truncate[4]"), ("i", "bucket[3]")],
            ]
        )
        script = {"namespace": "statements", "columns": columns, "by": by, "version": version}
        state = history.create(self.stage, script, f"w{seed}_{n}")
        known = Known(state, f"w{n}")
        for k, by_whom in enumerate(["craft", "esker", "craft"]):
            step = steps.insert(
                pick, state, by_whom, frozenset(["i", "x", "s", "d"]), **{"without ids": False, "hive": False}
            )
            self.number(state, step["rows"], 100 * k)
            known.older = state.table.current_snapshot().snapshot_id if k else 0
            self.load(known, f"{known.name}_older")
            self.insert(state, step)
            state.refresh()
        self.load(known, known.name)
        return known

    def insert(self, state: State, step: dict) -> None:
        before = list(state.rows)
        try:
            history.APPLY["insert"](state, step)
        except Exception:
            # The campaign of tables reports rows that Esker can't insert.
            state.rows = before
            history.APPLY["insert"](state, step | {"by": "craft"})

    def number(self, state: State, rows: Rows, start: int) -> None:
        rid = next(f.field_id for f in state.schema.fields if f.name == "rid")
        for i, row in enumerate(rows):
            row[rid] = start + i

    def load(self, known: Known, name: str) -> None:
        """Loads the model's rows into a table in DuckDB."""
        rows = arrow.table(known.state.live(), known.state.schema, with_ids=False)
        self.duckdb.register("loading", rows)
        self.duckdb.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM loading")
        self.duckdb.unregister("loading")
        for field in known.state.schema.fields:
            if field.required:
                self.duckdb.execute(f"ALTER TABLE {name} ALTER COLUMN {quoted(field.name)} SET NOT NULL")

    def close(self) -> None:
        self.duckdb.close()
        for known in self.tables:
            self.stage.pyiceberg.catalog.drop_table(known.state.name)
