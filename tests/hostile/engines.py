"""The engines that read and write. Each stays open for many tables."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import requests
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    IcebergType,
    ListType,
    MapType,
    NestedField,
    StructType,
    TimestamptzNanoType,
    UnknownType,
)
from stack.esker import Server, running

from . import arrow, literals, predicates, shapes, variants
from .names import quoted
from .opaque import OPAQUE, ShapeType, VariantType, holds, within
from .predicates import NoOpinion
from .variants import Variant

Rows = list[dict[int, Any]]


# The kinds of statistics that PyIceberg supports.
BLOBS = ("apache-datasketches-theta-v1", "deletion-vector-v1")


def readable(answer: requests.Response, lists: dict[int, str]) -> None:
    """Changes metadata in an answer so that PyIceberg 0.12.0 can read it.

    It refuses snapshots without a manifest list, transforms of several columns, and statistics of unknown kinds.
    """
    if not re.search(rb'"(manifests|source-ids|statistics)"\s*:\s*\[', answer.content):
        return
    body = answer.json()
    for statistics in body.get("metadata", {}).get("statistics", []):
        statistics["blob-metadata"] = [blob for blob in statistics["blob-metadata"] if blob["type"] in BLOBS]
    for snapshot in body.get("metadata", {}).get("snapshots", []):
        if "manifest-list" not in snapshot:
            snapshot["manifest-list"] = lists[snapshot["snapshot-id"]]
    for kind in ("partition-specs", "sort-orders"):
        for one in body.get("metadata", {}).get(kind, []):
            for field in one["fields"]:
                if "source-ids" in field:
                    field["source-id"] = field.pop("source-ids")[0]
    answer._content = json.dumps(body).encode()


def select(schema: Schema, table: str, where: list | None, dialect: str) -> str:
    columns = ", ".join(column(schema, f, dialect) for f in schema.fields)
    return f"SELECT {columns} FROM {table}" + (f" WHERE {predicates.sql(where, schema, dialect)}" if where else "")


def column(schema: Schema, f: NestedField, dialect: str) -> str:
    """Returns the expression that selects a column: variants as JSON, and DuckDB's geometries as bytes."""
    name = predicates.name_in(schema, [f.field_id], dialect)
    if dialect == "spark" and isinstance(f.field_type, VariantType):
        return f"to_json({name})"
    return duckdb_column(name, f.field_type) if dialect == "duckdb" and holds(f.field_type, *OPAQUE) else name


def duckdb_column(at: str, kind: IcebergType, depth: int = 0) -> str:
    if not holds(kind, *OPAQUE):
        return at
    match kind:
        case VariantType():
            return f"({at})::JSON::VARCHAR"
        case ShapeType():
            return f"ST_AsWKB({at})"
        case StructType():
            inner = [(literals.string(f.name), f.field_type) for f in kind.fields]
            fields = ", ".join(f"{name}: {duckdb_column(f'{at}[{name}]', of, depth)}" for name, of in inner)
            return f"CASE WHEN {at} IS NOT NULL THEN {{{fields}}} END"
        case ListType():
            return f"list_transform({at}, lambda x{depth}: {duckdb_column(f'x{depth}', kind.element_type, depth + 1)})"
        case MapType():
            value = duckdb_column(f"x{depth}.value", kind.value_type, depth + 1)
            pairs = f"list_transform(map_entries({at}), lambda x{depth}: {{'key': x{depth}.key, 'value': {value}}})"
            return f"map_from_entries({pairs})"
    raise TypeError(str(kind))


# DuckDB 1.5.5 prints numbers without a digit before the point.
BARE = re.compile(r'"(?:[^"\\]|\\.)*"|(-?)(?<!\d)\.(\d)')


def with_digits(text: str) -> str:
    return BARE.sub(lambda found: found[0] if found[0][0] == '"' else f"{found[1]}0.{found[2]}", text)


def of_duckdb(value: Any) -> Any:
    """Converts a value to DuckDB's view: a variant null is NULL, and geometries have one byte order."""
    match value:
        case Variant(None):
            return None
        case bytes() if value.startswith(b"\0\0\0"):
            with suppress(IndexError, struct.error):
                return shapes.wkb(shapes.read(value))
            return value
        case dict():
            return {k: of_duckdb(v) for k, v in value.items()}
        case list():
            return [of_duckdb(v) for v in value]
    return value


def is_geography(kind: IcebergType) -> bool:
    return isinstance(kind, ShapeType) and kind.on_globe


def left_over(schema: Schema, *sorts: type) -> Schema | None:
    """Returns the columns without some types, or None if none are left."""
    fields = [f for f in schema.fields if not holds(f.field_type, *sorts)]
    return Schema(*fields) if fields else None


class Esker:
    name = "esker"

    def reads(self, schema: Schema) -> Schema | None:
        return schema

    def __init__(self, server: Server) -> None:
        self.server = server
        options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {server.token}"}
        self.connection = flight_sql.connect(server.flight, db_kwargs=options, autocommit=True)

    def close(self) -> None:
        self.connection.close()

    def query(self, sql: str, parameters: list | None = None) -> pa.Table:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def change(self, sql: str, parameters: list | None = None) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchone()[0]

    def table(self, name: tuple[str, ...]) -> str:
        return ".".join(quoted(part) for part in (".".join(name[:-1]), name[-1]))

    def read(
        self, table: Table, name: tuple[str, ...], schema: Schema, snapshot: int | None, where: list | None
    ) -> Rows:
        at = f" FOR VERSION AS OF {snapshot}" if snapshot else ""
        return arrow.rows(self.query(select(schema, self.table(name) + at, where, "esker")), schema)


def into_duckdb(f: NestedField) -> str:
    match f.field_type:
        case VariantType():
            return f"{quoted(f.name)}::JSON::VARIANT"
        case ShapeType():
            return f"ST_GeomFromWKB({quoted(f.name)})"
    return quoted(f.name)


def as_json(found: list[Variant | None]) -> pa.Array:
    return pa.array([None if v is None else variants.json_text(v.tree) for v in found], pa.string())


class DuckDB:
    name = "duckdb"

    def reads(self, schema: Schema) -> Schema | None:
        # DuckDB can't read a table with a column of an unsupported type.
        kinds = [kind for f in schema.fields for kind in within(f.field_type)]
        unknown = any(isinstance(k, (UnknownType, TimestamptzNanoType)) or is_geography(k) for k in kinds)
        return None if unknown else schema

    def __init__(self, server: Server, home: Path) -> None:
        self.server, self.home = server, home
        self.open()

    def open(self) -> None:
        server = self.server
        self.connection = duckdb.connect(config={"home_directory": str(self.home)})
        for extension in ("avro", "httpfs", "iceberg"):
            module = __import__(f"duckdb_extension_{extension}")
            found = Path(module.__file__).parent.rglob(f"{extension}.duckdb_extension")
            self.connection.load_extension(str(next(found)))
        self.connection.execute("SET TimeZone = 'UTC'")
        # Otherwise DuckDB refuses inserts into tables with a row group size in bytes.
        self.connection.execute("SET preserve_insertion_order = false")
        self.connection.execute(f"CREATE SECRET esker (TYPE iceberg, TOKEN '{server.token}')")
        self.connection.execute(
            f"ATTACH 'default' AS lake (TYPE iceberg, SECRET esker, ENDPOINT '{server.rest}', "
            "ACCESS_DELEGATION_MODE 'none')"
        )

    def close(self) -> None:
        self.connection.close()

    def execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            return self.connection.execute(sql)
        except (duckdb.FatalException, duckdb.InternalException):
            # After a fatal error the database answers nothing.
            self.open()
            raise

    def query(self, sql: str) -> pa.Table:
        return self.execute(sql).to_arrow_table()

    def insert(self, name: tuple[str, ...], rows: pa.Table, schema: Schema) -> None:
        self.connection.register("hostile_rows", rows)
        columns, fields = ", ".join(quoted(c) for c in rows.column_names), {f.name: f for f in schema.fields}
        made = ", ".join(into_duckdb(fields[c]) for c in rows.column_names)
        self.execute(f"INSERT INTO {self.table(name)} ({columns}) SELECT {made} FROM hostile_rows")
        self.connection.unregister("hostile_rows")

    def table(self, name: tuple[str, ...]) -> str:
        if len(name) > 2:
            raise NoOpinion("DuckDB knows no nested namespaces")
        return "lake." + ".".join(quoted(part) for part in name)

    def read(
        self, table: Table, name: tuple[str, ...], schema: Schema, snapshot: int | None, where: list | None
    ) -> Rows:
        at = f" AT (VERSION => {snapshot})" if snapshot else ""
        found = self.query(select(schema, self.table(name) + at, where, "duckdb"))
        return [of_duckdb(row) for row in arrow.rows(found, schema, with_digits)]


class PyIceberg:
    """PyIceberg, with its own or the server's planning. A filter is PyIceberg's, which prunes, or this package's."""

    def __init__(self, server: Server, planned: bool, lists: dict[int, str]) -> None:
        self.name = "planned" if planned else "pyiceberg"
        self.catalog = server.catalog(**({"scan-planning-mode": "server"} if planned else {}))
        # Otherwise each request searches the environment for a proxy.
        self.catalog._session.trust_env = False
        self.catalog._session.hooks["response"].append(lambda answer, *_, **__: readable(answer, lists))
        self.loaded: Table | None = None

    def close(self) -> None:
        pass

    def reads(self, schema: Schema) -> Schema | None:
        # PyIceberg treats files with variants as files without field ids.
        return schema if left_over(schema, VariantType) == schema else None

    def read(
        self, table: Table, name: tuple[str, ...], schema: Schema, snapshot: int | None, where: list | None
    ) -> Rows:
        if self.name == "planned":
            if self.loaded is None or self.loaded.metadata_location != table.metadata_location:
                self.loaded = self.catalog.load_table(name)
            table = self.loaded
        filters = {"row_filter": predicates.pyiceberg(where, schema)} if where else {}
        return arrow.rows(table.scan(snapshot_id=snapshot, **filters).to_arrow(), schema)


class Spark:
    name = "spark"

    def __init__(self, server: Server) -> None:
        from stack.spark import SPARK_4, spark_session

        self.variants = SPARK_4

        self.session = spark_session(server, "http://127.0.0.1:1")
        self.session.conf.set("spark.sql.session.timeZone", "UTC")
        self.session.sparkContext.setLogLevel("OFF")

    def expr(self, sql: str) -> Any:
        from pyspark.sql.functions import expr

        return expr(sql)

    def close(self) -> None:
        self.session.stop()

    def reads(self, schema: Schema) -> Schema | None:
        """Returns the schema if Spark can load it: 3.5 no types of version 3, 4 only variants that are not nested."""
        if self.variants and left_over(schema, ShapeType, UnknownType) == schema:
            fields = [
                f for f in schema.fields if isinstance(f.field_type, VariantType) or not holds(f.field_type, *OPAQUE)
            ]
            return Schema(*fields) if fields else None
        return schema if left_over(schema, *OPAQUE, UnknownType) == schema else None

    def table(self, name: tuple[str, ...]) -> str:
        return "default." + ".".join("`" + part.replace("`", "``") + "`" for part in name)

    def read(
        self, table: Table, name: tuple[str, ...], schema: Schema, snapshot: int | None, where: list | None
    ) -> Rows:
        if where:
            raise NoOpinion("Spark is slow: it is asked for content")
        at = f" VERSION AS OF {snapshot}" if snapshot else ""
        found = self.session.sql(select(schema, self.table(name) + at, None, "spark"))
        return arrow.rows(found.toArrow() if hasattr(found, "toArrow") else of_spark(found), schema)


def of_spark(frame: Any) -> pa.Table:
    return pa.Table.from_batches(frame._collect_as_arrow())


class Stage:
    """A server and the engines that use it."""

    def __init__(self, server: Server, home: Path, spark: bool) -> None:
        self.server, self.home = server, home
        self.esker, self.duckdb = Esker(server), DuckDB(server, home)
        # Manifest lists for snapshots without one, by snapshot, because PyIceberg needs one.
        self.lists: dict[int, str] = {}
        self.pyiceberg, self.planned = (PyIceberg(server, planned, self.lists) for planned in (False, True))
        self.spark = Spark(server) if spark else None
        self.others = [self.pyiceberg, self.duckdb, self.planned]
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["authorization"] = f"Bearer {server.token}"

    def api(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.session.request(method, self.server.rest + path, json=body, timeout=60)

    def close(self) -> None:
        for engine in (self.esker, *self.others, *([self.spark] if self.spark else [])):
            engine.close()


@contextmanager
def stage(home: Path, spark: bool = False, cached: bool = True) -> Iterator[Stage]:
    home.mkdir(parents=True, exist_ok=True)
    settings = {"ESKER__MAINTENANCE__GRACE_SECONDS": "0"}
    if not cached:
        settings |= {"ESKER__CACHE__BYTES": "0", "ESKER__CACHE__BLOCK_BYTES": "0"}
    with running(home, **settings) as server:
        opened = Stage(server, home, spark)
        try:
            yield opened
        finally:
            opened.close()
