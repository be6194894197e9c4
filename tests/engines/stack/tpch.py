"""TPC-H: DuckDB generates the data and has the queries and answers; PyIceberg writes the tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog

TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]


def extension(name: str) -> str:
    """Returns the file of a DuckDB extension in a Python package."""
    module = __import__(f"duckdb_extension_{name}")
    return str(next(Path(module.__file__).parent.rglob(f"{name}.duckdb_extension")))


def generated(scale: float, home: Path) -> duckdb.DuckDBPyConnection:
    """Generates the eight tables in a DuckDB file."""
    connection = duckdb.connect(home / "tpch.duckdb", config={"home_directory": str(home)})
    connection.load_extension(extension("tpch"))
    connection.execute(f"CALL dbgen(sf = {scale})")
    return connection


def queries(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    rows = connection.execute("SELECT query_nr, query FROM tpch_queries() ORDER BY 1").fetchall()
    return [(number, text.strip().removesuffix(";")) for number, text in rows]


def chunks(connection: duckdb.DuckDBPyConnection, table: str, rows: int) -> Iterator[pa.Table]:
    """Yields a table in chunks of `rows` rows, with nullable columns."""
    reader = connection.execute(f"SELECT * FROM {table}").to_arrow_reader(rows)
    for batch in reader:
        yield pa.Table.from_batches([batch])


def load(
    connection: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    namespace: str,
    rows: int = 1_000_000,
    tables: list[str] = TABLES,
) -> None:
    """Writes all tables, with one data file for each chunk of rows."""
    catalog.create_namespace_if_not_exists(namespace)
    for name in tables:
        table = None
        for chunk in chunks(connection, name, rows):
            if table is None:
                table = catalog.create_table(f"{namespace}.{name}", chunk.schema)
            table.append(chunk)


TOKENS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|[A-Za-z_][A-Za-z_0-9]*|\s+|.", re.DOTALL)
CLAUSES = {"select", "where", "group", "having", "order", "limit", "union", "intersect", "except", "window"}


def qualified(sql: str, prefix: str, tables: list[str] = TABLES) -> str:
    """Adds a prefix to table names in FROM clauses: after FROM, JOIN, a comma or a parenthesis.

    Other occurrences stay, because columns may have names such as `nation` or `web_sales`.
    """
    made, last = [], ""
    inside = [False]
    for token in TOKENS.findall(sql):
        word = token.lower()
        if word == "(":
            inside.append(inside[-1])
        elif word == ")":
            inside.pop()
        elif word in ("from", "join"):
            inside[-1] = True
        elif word in CLAUSES:
            inside[-1] = False
        elif word in tables and inside[-1] and last in ("from", "join", ",", "("):
            token = prefix + token
        made.append(token)
        last = last if word.isspace() or word.startswith("--") else word
    return "".join(made)


def same(ours: list[tuple], theirs: list[tuple]) -> bool:
    """Compares two answers. Numbers agree to nine digits or a cent, because engines round averages differently."""
    if len(ours) != len(theirs):
        return False
    return all(len(a) == len(b) and all(map(equal, a, b)) for a, b in zip(ours, theirs, strict=True))


def equal(a: object, b: object) -> bool:
    if isinstance(a, (int, float, Decimal)) and isinstance(b, (int, float, Decimal)):
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return abs(float(a) - float(b)) <= max(0.01, 1e-9 * abs(float(b)))
    return str(a).strip() == str(b).strip()
