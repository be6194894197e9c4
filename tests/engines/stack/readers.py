"""Reads a table with each engine, brings the answers into one form, and compares them with the inserted rows."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.expressions import (
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    IsNull,
    LessThan,
)

from .esker import Server

MICROSECOND = timedelta(microseconds=1)
OPERATORS = {
    "=": (operator.eq, EqualTo),
    "<": (operator.lt, LessThan),
    ">": (operator.gt, GreaterThan),
    ">=": (operator.ge, GreaterThanOrEqual),
}


@dataclass
class Where:
    """A predicate on a column or a struct's field: name or path, operator and value.

    Nanoseconds need the literal's text too. Without an operator, the predicate is IS NULL.
    """

    path: str | tuple[str, ...]
    op: str = ""
    value: Any = None
    literal: str = ""
    # Engines that can't evaluate it.
    but: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    def holds(self, row: dict) -> bool:
        found: Any = row
        for part in self.parts:
            found = found and found[part]
        return found is None if not self.op else found is not None and OPERATORS[self.op][0](found, self.value)

    def sql(self, quote: str, typed: bool) -> str:
        """Returns the predicate in SQL. Trino needs types before literals (`typed`)."""
        column = ".".join(f"{quote}{part}{quote}" for part in self.parts)
        if not self.op:
            return f"{column} IS NULL"
        match self.value:
            case UUID():
                literal = f"{'UUID ' if typed else ''}'{self.value}'"
            case date():
                literal = f"DATE '{self.value}'"
            case str():
                literal = f"'{self.value}'"
            case _:
                literal = f"'{self.literal}'" if self.literal else str(self.value)
        return f"{column} {self.op} {literal}"

    def pyiceberg(self) -> BooleanExpression:
        name = ".".join(self.parts)
        return OPERATORS[self.op][1](name, self.value) if self.op else IsNull(name)


@dataclass
class Held:
    """A table with its expected rows by id, and its columns with the types that engines answer differently."""

    name: str
    columns: dict[str, str]
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    wheres: list[Where] = field(default_factory=list)

    def add(self, *rows: tuple) -> None:
        for row in rows:
            self.rows[row[0]] = dict(zip(self.columns, row, strict=True))

    def expected(self, where: Where | None = None) -> list[list]:
        found = [row for _, row in sorted(self.rows.items()) if where is None or where.holds(row)]
        return [[plain(row[name], kind) for name, kind in self.columns.items()] for row in found]


def plain(value: Any, kind: str = "") -> Any:
    """Converts a value to the common form of all engines' answers."""
    if value is None:
        return None
    if kind == "uuid":
        return str(UUID(bytes=bytes(value))) if isinstance(value, (bytes, bytearray)) else str(value)
    if kind == "ns":
        return value if isinstance(value, int) else value.as_unit("ns").value
    if isinstance(value, datetime):
        return (value.replace(tzinfo=None) - (value.utcoffset() or timedelta()) - datetime.min) // MICROSECOND
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, dict):
        return [plain(v) for v in value.values()]
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


class Readers:
    """The reading engines by name. Slow ones are started at their first use."""

    def __init__(self, server: Server, duck: duckdb.DuckDBPyConnection, **started: Callable[[], Any]) -> None:
        self.server, self.duck, self.started = server, duck, started
        self.catalog = server.catalog()

    @property
    def spark(self) -> Any:
        return self.started["spark"]()

    @property
    def trino(self) -> Any:
        return self.started["trino"]()

    def check(self, table: Held, engines: str, after: str) -> None:
        """Checks that each engine reads the expected rows. `engines` has their names, separated by blanks."""
        for engine in engines.split():
            for where in [None, *table.wheres]:
                if where is None or engine not in where.but.split():
                    found = sorted(self.read(engine, table, where), key=lambda row: row[0])
                    rows = [[plain(v, k) for v, k in zip(row, table.columns.values(), strict=True)] for row in found]
                    asked = f"{engine} reads {table.name} after {after}" + (f" where {where}" if where else "")
                    assert rows == table.expected(where), asked

    def read(self, engine: str, table: Held, where: Where | None) -> list:
        return getattr(self, f"of_{engine}")(table, where)

    def of_esker(self, table: Held, where: Where | None) -> list:
        options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {self.server.token}"}
        with (
            flight_sql.connect(self.server.flight, db_kwargs=options, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(select(table, table.name, where, '"'))
            return of_arrow(cursor.fetch_arrow_table())

    def of_duckdb(self, table: Held, where: Where | None) -> list:
        return of_arrow(self.duck.execute(select(table, f"lake.{table.name}", where, '"')).to_arrow_table())

    def of_iceberg_rust(self, table: Held, where: Where | None) -> list:
        return of_arrow(self.started["iceberg_rust"]().ask(select(table, f"lake.{table.name}", where, '"')))

    def of_pyiceberg(self, table: Held, where: Where | None) -> list:
        filters = {"row_filter": where.pyiceberg()} if where else {}
        return of_arrow(self.catalog.load_table(table.name).scan(**filters).to_arrow().select(list(table.columns)))

    def of_spark(self, table: Held, where: Where | None) -> list:
        self.spark.sql(f"REFRESH TABLE default.{table.name}")
        frame = self.spark.sql(select(table, f"default.{table.name}", where, "`"))
        batches = frame._collect_as_arrow()
        return of_arrow(pa.Table.from_batches(batches)) if batches else []

    def of_trino(self, table: Held, where: Where | None) -> list:
        return self.trino.ask(select(table, table.name, where, '"', typed=True))


def select(table: Held, name: str, where: Where | None, quote: str, typed: bool = False) -> str:
    columns = ", ".join(f"{quote}{column}{quote}" for column in table.columns)
    return f"SELECT {columns} FROM {name}" + (f" WHERE {where.sql(quote, typed)}" if where else "")


def of_arrow(table: pa.Table) -> list[list]:
    return [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
