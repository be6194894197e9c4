"""A client of DuckLake, whose catalog is a SQLite database that its processes share. There is no server.

Like a client of `benches/appenders.py`, it reads its settings, says that it is ready, and appends once it is told for
how long. With `create` it makes a table, with `rows` it counts one's rows, and with `many` it measures many tables.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import duckdb


def extension(name: str) -> str:
    """Returns the file of a DuckDB extension in a Python package."""
    module = __import__(f"duckdb_extension_{name}")
    return str(next(Path(module.__file__).parent.rglob(f"{name}.duckdb_extension")))


def attached(settings: dict) -> duckdb.DuckDBPyConnection:
    """Returns a connection in which the catalog is the database `lake`. Every append writes a Parquet file."""
    connection = duckdb.connect(config={"home_directory": settings["home"]})
    for name in ("httpfs", "sqlite_scanner", "ducklake"):
        connection.load_extension(extension(name))
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{settings['key']}', SECRET '{settings['secret']}', REGION 'us-east-1', "
        f"ENDPOINT '{settings['endpoint']}', URL_STYLE 'path', USE_SSL false)"
    )
    if not settings["retries"]:
        connection.execute("SET ducklake_max_retry_count = 0")
    connection.execute(
        f"ATTACH 'ducklake:sqlite:{settings['database']}' AS lake "
        f"(DATA_PATH '{settings['data']}', DATA_INLINING_ROW_LIMIT 0)"
    )
    return connection


def append(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Appends rows until the time is over that it is told. Prints what it counted."""
    print("ready", flush=True)
    seconds = float(sys.stdin.readline())
    succeeded, failed, slowest = 0, 0, 0.0
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        try:
            connection.execute(f"INSERT INTO lake.{table} VALUES (1)")
            succeeded += 1
            slowest = max(slowest, time.monotonic() - begun)
        except duckdb.Error:
            failed += 1
    print(json.dumps({"succeeded": succeeded, "failed": failed, "slowest": slowest}), flush=True)


def many(connection: duckdb.DuckDBPyConnection, tables: int) -> None:
    """Creates tables, and appends a row to each. Prints the medians in milliseconds."""

    def timed(statement: str) -> float:
        begun = time.perf_counter()
        connection.execute(statement)
        return (time.perf_counter() - begun) * 1000

    create = [timed(f"CREATE TABLE lake.many{n} (id BIGINT)") for n in range(tables)]
    commit = [timed(f"INSERT INTO lake.many{n} VALUES (1)") for n in range(tables)]
    print(json.dumps({"create_ms": statistics.median(create), "commit_ms": statistics.median(commit)}), flush=True)


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    connection = attached(settings)
    match sys.argv[1:]:
        case ["create"]:
            connection.execute(f"CREATE TABLE lake.{settings['table']} (id BIGINT)")
        case ["rows"]:
            print(connection.execute(f"SELECT count(*) FROM lake.{settings['table']}").fetchone()[0], flush=True)
        case ["many", tables]:
            many(connection, int(tables))
        case _:
            append(connection, settings["table"])


if __name__ == "__main__":
    main()
