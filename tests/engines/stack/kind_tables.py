"""Tables with a column of one type: created over REST, filled by hand or SQL, and read by Esker and other engines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql

from . import by_hand
from .esker import Server
from .kinds import ID, KEY_ID, Kind, Value, optional

NAMESPACE = "types"
KEY = optional(KEY_ID, "id", "long")
WHOLE = {"rewrite-all": True, "courtesy-seconds": 0}


def canonical(array: pa.ChunkedArray) -> list[Any]:
    """Returns an answer's values: nanoseconds as numbers, extension types as their storage."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = pa.chunked_array([chunk.storage for chunk in array.chunks], array.type.storage_type)
    return (array.cast(pa.int64()) if str(array.type).startswith("timestamp[ns") else array).to_pylist()


class Tables:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.held: dict[str, str] = {}

    @cached_property
    def connection(self) -> flight_sql.Connection:
        options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {self.server.token}"}
        return flight_sql.connect(self.server.flight, db_kwargs=options, autocommit=True)

    def post(self, path: str, body: dict) -> requests.Response:
        headers = {"authorization": f"Bearer {self.server.token}"}
        return requests.post(self.server.rest + path, headers=headers, json=body, timeout=60)

    def path(self, name: str = "") -> str:
        return f"/v1/default/namespaces/{NAMESPACE}/tables" + (f"/{name.split('.')[1]}" if name else "")

    # Tables and their schemas.

    def body(self, kind: Kind, step: str, fields: list[dict] | None = None, **more: Any) -> dict:
        fields = [KEY, optional(ID, "v", kind.type)] if fields is None else fields
        schema = {"type": "struct", "schema-id": 0, "fields": fields}
        properties = {"format-version": "3"}
        return {"name": f"{step}_{kind.table}", "schema": schema, "properties": properties, **more}

    def create(self, kind: Kind, step: str, fields: list[dict] | None = None, **more: Any) -> str:
        body = self.body(kind, step, fields, **more)
        self.server.api("POST", self.path(), body)
        return f"{NAMESPACE}.{body['name']}"

    def metadata(self, name: str) -> dict:
        return self.server.api("GET", self.path(name))["metadata"]

    def directory(self, name: str) -> Path:
        return Path(self.metadata(name)["location"].removeprefix("file://"))

    def with_schema(self, fields: list[dict]) -> dict:
        schema = {"type": "struct", "schema-id": 0, "fields": fields}
        add = {"action": "add-schema", "schema": schema, "last-column-id": 9}
        return {"requirements": [], "updates": [add, {"action": "set-current-schema", "schema-id": -1}]}

    def evolve(self, name: str, *columns: dict) -> None:
        self.server.api("POST", self.path(name), self.with_schema([KEY, *columns]))

    def refused(self, path: str, body: dict, *words: str) -> None:
        """Checks that a request is refused as invalid, and that the error contains some words."""
        answer = self.post(path, body)
        assert 400 <= answer.status_code < 500, f"{answer.status_code} {answer.text}"
        message = answer.json()["error"]["message"]
        assert all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message) for word in words), message

    # Rows.

    def insert(self, name: str, rows: Iterable[tuple[int, Value]]) -> None:
        self.sql(f"INSERT INTO {name} VALUES " + ", ".join(f"({i}, {value.sql})" for i, value in rows))

    def add(self, kind: Kind, name: str, *files: dict[int, Any]) -> None:
        """Commits data files that Esker did not write, all in one snapshot."""
        directory = self.directory(name)
        self.commit(name, [by_hand.data(kind, directory, list(rows), list(rows.values())) for rows in files])

    def commit(self, name: str, files: list[by_hand.Added]) -> None:
        self.server.api("POST", self.path(name), by_hand.commit(self.metadata(name), files))

    def filled(self, kind: Kind, step: str) -> str:
        """Creates a table of two files; the second has only a null. Returns its name."""
        name = self.create(kind, step)
        rows = expected(kind)
        self.add(kind, name, {i: v for i, v in rows.items() if i < len(rows)}, {len(rows): None})
        return name

    def shared(self, kind: Kind) -> str:
        """Returns a table that no test changes."""
        if kind.name not in self.held:
            self.held[kind.name] = self.filled(kind, "held")
        return self.held[kind.name]

    # Readers.

    def arrow(self, statement: str, parameters: Any = None) -> pa.Table:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetch_arrow_table()

    def sql(self, statement: str) -> None:
        self.arrow(statement)

    def ids(self, name: str, where: str) -> list[int]:
        return self.arrow(f"SELECT id FROM {name} WHERE {where} ORDER BY id")["id"].to_pylist()

    def rows(self, kind: Kind, name: str, column: str = "v") -> dict[int, Any]:
        found = self.arrow(f"SELECT id, {column} FROM {name} ORDER BY id")
        return {i: kind.decode(v) for i, v in zip(found["id"].to_pylist(), canonical(found[column]), strict=True)}

    def files_opened(self) -> int:
        """Returns the number of files that the last query opened."""
        return self.server.api("GET", "/api/v1/queries?limit=1")[0]["files_opened"]

    def plan(self, name: str, filter: Any = None, statistics: list[str] | None = None) -> dict:
        asked = {"filter": filter, "stats-fields": statistics}
        body = {key: of for key, of in asked.items() if of is not None}
        plan = self.server.api("POST", self.path(name) + "/plan", body)
        assert plan["status"] == "completed", plan
        return plan

    def data_files(self, name: str, filter: Any = None) -> list[Path]:
        tasks = self.plan(name, filter).get("file-scan-tasks", [])
        return [Path(task["data-file"]["file-path"].removeprefix("file://")) for task in tasks]

    def outside(self, kind: Kind, name: str, path: Path | None = None) -> dict[int, Any]:
        """Returns the values in the data files, read by pyarrow or DuckDB, in the order of the rows."""
        found: dict[int, Any] = {}
        for file in [path] if path else self.data_files(name):
            if kind.duck is not None and "v" in pq.ParquetFile(file).schema_arrow.names:
                table = duckdb.sql(f"SELECT id, {kind.duck_read} AS v FROM read_parquet('{file}')").to_arrow_table()
            else:
                table = pq.read_table(file, partitioning=None)
            values = canonical(table["v"]) if "v" in table.column_names else [None] * table.num_rows
            for i, v in zip(table["id"].to_pylist(), values, strict=True):
                found[i] = kind.decode(v)
        return found


def expected(kind: Kind) -> dict[int, Any]:
    """Returns the expected rows by key: all values and a null."""
    return dict(enumerate([*kind.held, None], start=1))
