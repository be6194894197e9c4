"""Real writers of format version 3, and Esker's jobs on their tables.

Each engine writes the types that it supports, and Esker runs every kind of job. After each job Esker and the writer
read the rows that were inserted, with unchanged row ids. The tests with Spark 4 run with ESKER_SPARK=4, the others
without.
"""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.types import IntegerType, TimestampNanoType, TimestamptzNanoType, UnknownType
from stack.duck import extension
from stack.esker import Server
from stack.flink import Flink
from stack.readers import of_arrow
from stack.spark import SPARK_4

pytestmark = pytest.mark.timeout(1200)
# `make test-engines` runs this file twice, the second time with Spark 4 and `ESKER_SPARK=4`.
ONE_SPARK = "PySpark 3.5 and 4 can't be installed together; the other run of this file has it"
with_spark_4 = pytest.mark.skipif(not SPARK_4, reason=ONE_SPARK)
without_spark_4 = pytest.mark.skipif(SPARK_4, reason=ONE_SPARK)

NAMESPACE = "version3"
# Prefixes of table names by engine, and the syntax of time travel.
PLACES = {"esker": "", "duckdb": "lake.", "spark": "default.", "flink": "`default`.", "pyiceberg": ""}
TRAVEL = {"esker": " FOR VERSION AS OF {}", "duckdb": " AT (VERSION => {})", "spark": " VERSION AS OF {}"}
# Expressions for columns whose values engines answer in different forms.
ASKED = {
    ("duckdb", "variant"): "{}::JSON::VARCHAR",
    ("spark", "variant"): "to_json({})",
    ("duckdb", "shape"): "ST_AsWKB({})",
}
SOME_NANOS = [1_767_225_600_123_456_789, -1, 0, 1_767_225_600_123_456_788, None]


@dataclass
class Filter:
    """A condition, the rows that it holds for, and the engines that are asked."""

    where: str
    holds: Callable[[dict], bool]
    engines: str = "esker"


@dataclass
class Table:
    """A table of one writer, with its expected rows and its readers."""

    server: Server
    name: str
    # The columns with their kinds. Engines answer some kinds differently: `variant`, `shape`, `ns`.
    columns: dict[str, str]
    # The readers by name. Each takes columns, a table expression and a condition.
    ask: dict[str, Callable[[list[str], str, str], list]]
    filters: list[Filter] = field(default_factory=list)
    # The engines that are asked for row ids, separated by blanks.
    lineage_of: str = ""
    # Names of columns that differ in an engine, by engine and column.
    calls: dict[tuple[str, str], str] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    # Row id and last updated sequence number, by key.
    lineage: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/v1/default/namespaces/{NAMESPACE}/tables/{self.name.split('.')[1]}"

    @property
    def metadata(self) -> dict:
        return self.server.api("GET", self.path)["metadata"]

    def update(self, *updates: dict) -> None:
        self.server.api("POST", self.path, {"requirements": [], "updates": list(updates)})

    def add_column(self, name: str, type: str, **more: Any) -> None:
        """Adds an optional column over REST."""
        schema, last = self.metadata["schemas"][-1], self.metadata["last-column-id"]
        added = {"id": last + 1, "name": name, "required": False, "type": type} | more
        schema |= {"fields": [*schema["fields"], added]}
        self.update(
            {"action": "add-schema", "schema": schema, "last-column-id": last + 1},
            {"action": "set-current-schema", "schema-id": -1},
        )

    def snapshots(self) -> set[int]:
        return {snapshot["snapshot-id"] for snapshot in self.metadata["snapshots"]}

    def expected(self, engine: str, holds: Callable[[dict], bool] = lambda row: True) -> list[list]:
        found = [row for _, row in sorted(self.rows.items()) if holds(row)]
        return [[plain(row[name], kind, engine) for name, kind in self.columns.items()] for row in found]

    def read(self, engine: str, where: str = "", version: str = "") -> list[list]:
        names = {name: self.calls.get((engine, name), name) for name in self.columns}
        what = [ASKED.get((engine, kind), "{}").format(names[name]) for name, kind in self.columns.items()]
        found = self.ask[engine](what, PLACES[engine] + self.name + version, where)
        rows = [[plain(v, k, engine) for v, k in zip(row, self.columns.values(), strict=True)] for row in found]
        return sorted(rows, key=lambda row: row[0])

    def check(self, after: str, engines: str = "") -> None:
        for engine in engines.split() or self.ask:
            assert self.read(engine) == self.expected(engine), f"{engine} reads {self.name} after {after}"
            for one in self.filters:
                if engine in one.engines.split():
                    found = self.read(engine, f" WHERE {one.where}")
                    assert found == self.expected(engine, one.holds), f"{engine} after {after} where {one.where}"
        if self.lineage_of:
            assert self.lineage_now() == self.lineage, f"row ids of {self.name} after {after}"

    def lineage_now(self) -> dict[int, tuple[int, int]]:
        of, columns = self.lineage_of, ["id", "_row_id", "_last_updated_sequence_number"]
        return {id: (row, number) for id, row, number in self.ask[of](columns, PLACES[of] + self.name, "")}

    def wrote(self, inserted: Iterable[int] = (), updated: Iterable[int] = ()) -> None:
        """Checks the row ids of the writer's last commit, and remembers them for later checks."""
        if not self.lineage_of:
            return
        found, number = self.lineage_now(), self.metadata["last-sequence-number"]
        assert found.keys() == self.rows.keys()
        for id, (row, changed) in found.items():
            if id in inserted:
                assert row not in {of for of, _ in self.lineage.values()} and changed == number, f"inserted {id}"
            elif id in updated:
                assert (row, changed) == (self.lineage[id][0], number), f"updated {id}"
            else:
                assert (row, changed) == self.lineage[id], f"untouched {id}"
        assert len({row for row, _ in found.values()}) == len(found)
        self.lineage = found


def plain(value: Any, kind: str, engine: str) -> Any:
    """Converts a value to the common form of all engines' answers."""
    match kind:
        # DuckDB returns a variant's null as NULL.
        case "variant" if value is None:
            return "null" if engine == "duckdb" else None
        case "variant":
            return json.dumps(leaves(json.loads(value, parse_int=Decimal, parse_float=Decimal)), sort_keys=True)
        case "shape":
            return None if value is None else bytes(value)
        case "ns" if isinstance(value, str):
            return nanoseconds(value)
        case "ns":
            return value if value is None or isinstance(value, int) else value.as_unit("ns").value
    return value


def leaves(tree: Any) -> Any:
    """Normalizes the leaves of a tree: numbers of any width by their value, times in one form."""
    match tree:
        case dict():
            return {name: leaves(v) for name, v in tree.items()}
        case list():
            return [leaves(v) for v in tree]
        case Decimal():
            return f"number {tree.normalize():f}"
        case str():
            at = re.fullmatch(r"(\d{4}-\d\d-\d\d)?[T ]?(\d\d:\d\d:\d\d)(?:\.(\d*?)0*)?(\+00:00|\+00|Z)?", tree)
            return f"{at[1]} {at[2]}.{at[3] or ''}{at[4] and 'Z'}" if at else tree
    return tree


def nanoseconds(text: str) -> int:
    """Returns the nanoseconds of a timestamp that Flink printed."""
    seconds, _, rest = text.removesuffix("Z").partition(".")
    at = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
    return int(at.timestamp()) * 10**9 + int(rest.ljust(9, "0"))


def timestamp(n: int) -> str:
    """Formats nanoseconds as a timestamp."""
    seconds, rest = divmod(n, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09}"


def now() -> int:
    return int(time.time() * 1000) + 1000


@dataclass
class Writer:
    """A table, with functions that insert rows of given ids, and that change and delete earlier ones."""

    table: Table
    insert: Callable[[Iterable[int]], None]
    change: Callable[[list[int]], None]
    # Columns whose distinct values are counted, and those that are skipped by name.
    counted: list[str]
    left_out: list[str] = field(default_factory=list)
    # The readers after each job. All engines read after some jobs.
    often: str = ""


def life(writer: Writer) -> None:
    """Runs every kind of job, undoes those that can be undone, and lets the writer commit in between."""
    table, server = writer.table, writer.table.server
    # By default, snapshots with the state of streaming writers are kept for a while too.
    kept = {"esker.expire.min-age-ms": "0", "esker.expire.writer-state-ms": "0"}
    table.update({"action": "set-properties", "updates": kept})
    table.check("its writer")
    first, then = table.metadata["current-snapshot-id"], {e: table.expected(e) for e in table.ask}

    def do(kind: str, **options: object) -> dict:
        named = {key.replace("_", "-"): value for key, value in options.items()}
        job = server.job(table.name, kind, named)
        assert not (job["outcome"] or {}).get("refused"), job["outcome"]
        table.check(f"{kind} {named}", writer.often)
        return job

    def statistics() -> None:
        job = do("statistics")
        assert job["outcome"]["records"] == len(table.rows)
        for column in writer.counted:
            values = {row[column] for row in table.rows.values() if row[column] is not None}
            assert job["outcome"]["distinct"][column] == len(values), column
        for column in writer.left_out:
            assert column in job["plan"]["left_out"] and column not in job["outcome"]["distinct"], job["plan"]

    whole = {"rewrite_all": True, "courtesy_seconds": 0, "verify": "full"}
    assert do("check", files=True)["outcome"]["findings"] == []
    statistics()
    do("compact", strategy="convert-deletes", courtesy_seconds=0)
    do("manifests", rewrite_all=True)
    packed = do("compact", **whole)
    assert packed["outcome"]["files_out"] == 1 < packed["outcome"]["files_in"], packed["outcome"]
    table.check("compaction")
    server.undo(packed)
    table.check("undo of a compaction", writer.often)
    do("compact", strategy="sort", sort_order="id desc", **whole)
    table.check("sort")
    writer.insert(range(100, 106))
    table.check("an insert")
    do("compact", where="id >= 100", min_input_files=1, **whole)

    before = table.snapshots()
    expired = do("expire", older_than_ms=now(), retain_last=1)
    assert table.snapshots() < before, expired["outcome"]
    server.undo(expired)
    table.check("undo of an expiry", writer.often)
    assert table.snapshots() == before
    for engine in table.ask.keys() & TRAVEL.keys():
        assert table.read(engine, version=TRAVEL[engine].format(first)) == then[engine], f"{engine} of then"

    writer.change([101, 102, 103])
    table.check("changes")
    do("compact", strategy="convert-deletes", courtesy_seconds=0)
    writer.insert(range(200, 209))
    do("compact", **whole)
    statistics()
    do("expire", older_than_ms=now(), retain_last=1)
    do("manifests", rewrite_all=True)
    assert do("check", files=True)["outcome"]["findings"] == []
    table.check("all of it")


# Values.


def tree(i: int) -> Any:
    """Returns a variant's value. Its structure varies, so that files of ten rows are shredded differently."""
    match i // 10 % 3, i % 9:
        case 0, _:
            return {"a": {"b": i, "c": f"c{i % 2}"}, "tags": [i, i + 1]}
        case 1, _:
            return {"a": {"b": f"text {i}"}, "n": i / 4, "tags": ["x", None, {"y": i}]}
        case _, 0:
            return {"a": {"b": i}, "it's": {"": True, "é€😀": [[], {}, [[i]]]}}
        case _, 1:
            return {"a": {"b": f"text {i}", "c": None}, "big": 2**63 - 1}
        case _, 2:
            return {"a": [i, {"b": i}], "n": "none"}
        case _, 3:
            return {"a": {"b": {"b": i}}, "n": -i / 8}
        case _, 4:
            return [i, "two", None, {"a": {"b": i}}]
        case _, 5:
            return i
        case _, 6:
            return "a text " * 9
        case _, 7:
            return i % 2 == 0
    return {}


def at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def whole_number(row: dict) -> int | None:
    """Returns the value at $.a.b of a row, if it is an `int`."""
    found = at(row["v"] and json.loads(row["v"]), "a", "b")
    return found if isinstance(found, int) else None


# Filters on shredded fields, and on the same fields where they are not shredded.
OF_VARIANTS = [
    ("try_variant_get(v, '$.a.b', 'int') = 3", lambda row: whole_number(row) == 3),
    ("try_variant_get(v, '$.a.b', 'int') > 19", lambda row: (whole_number(row) or 0) > 19),
    (
        "try_variant_get(v, '$.a.b', 'string') = 'text 11'",
        lambda row: at(row["v"] and json.loads(row["v"]), "a", "b") == "text 11",
    ),
    ("try_variant_get(v, '$[1]', 'string') = 'two'", lambda row: '"two"' in (row["v"] or "")),
]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def escaped(text: str) -> str:
    """Escapes text for Spark, which reads two adjacent literals as one."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def shape(i: int) -> tuple[str, bytes] | None:
    """Returns a geometry as text and as well-known binary."""
    x, y = (i * 37 % 360 - 180, i * 23 % 180 - 90)
    match i % 4:
        case 0:
            return None
        case 1:
            return f"POINT ({x} {y})", struct.pack("<BI2d", 1, 1, x, y)
        case 2:
            return f"LINESTRING ({x} {y}, 0.5 0.25)", struct.pack("<BII4d", 1, 2, 2, x, y, 0.5, 0.25)
    ring = [(x, y), (x + 1, y), (x + 1, y + 1), (x, y)]
    text = ", ".join(f"{a} {b}" for a, b in ring)
    return f"POLYGON (({text}))", struct.pack("<BIII8d", 1, 3, 1, 4, *(c for point in ring for c in point))


# Readers.


def esker(server: Server) -> Callable[[list[str], str, str], list]:
    options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {server.token}"}

    def ask(what: list[str], table: str, where: str) -> list:
        with (
            flight_sql.connect(server.flight, db_kwargs=options, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"SELECT {', '.join(what)} FROM {table}{where}")
            return of_arrow(cursor.fetch_arrow_table())

    return ask


def with_duck(connection: duckdb.DuckDBPyConnection) -> Callable[[list[str], str, str], list]:
    def ask(what: list[str], table: str, where: str) -> list:
        return of_arrow(connection.execute(f"SELECT {', '.join(what)} FROM {table}{where}").to_arrow_table())

    return ask


# DuckDB


def typed(i: int) -> tuple[str, Any]:
    """Returns a variant of a type that JSON lacks, in DuckDB's SQL, and its JSON."""
    return [
        ("DATE '2026-01-31'", "2026-01-31"),
        ("TIMESTAMP '2026-01-31 10:00:00.5'", "2026-01-31T10:00:00.5"),
        ("12.50::DECIMAL(9, 2)", 12.5),
        ("12345678901234567890.125::DECIMAL(38, 3)", Decimal("12345678901234567890.125")),
        ("UUID 'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "f79c3e09-677c-4bbd-a479-3f349cb785e7"),
        ("TIME '10:00:01'", "10:00:01"),
        ("0.375::FLOAT", 0.375),
        ("200::UTINYINT", 200),
    ][i]


@without_spark_4
@pytest.mark.slice
def test_duckdb_writes_variants_shapes_nanoseconds_and_defaults(server: Server, duck) -> None:
    duck.load_extension(extension("spatial"))
    square = "ST_GeomFromText('POLYGON ((-60 -60, 60 -60, 60 60, -60 60, -60 -60))')"
    table = Table(
        server, f"{NAMESPACE}.duck", {"id": "", "v": "variant", "g": "shape", "t": "ns", "s": ""},
        {"esker": esker(server), "duckdb": with_duck(duck)}, lineage_of="duckdb",
        filters=[Filter(where, holds) for where, holds in OF_VARIANTS] + [
            Filter(f"t = '{timestamp(SOME_NANOS[0])}'", lambda row: row["t"] == SOME_NANOS[0], "esker duckdb"),
            Filter("t < '1970-01-01 00:00:00'", lambda row: row["t"] == -1, "esker duckdb"),
            # All lines end inside the square.
            Filter(f"ST_Intersects(g, {square})", lambda row: in_square(row["g"]), "esker duckdb"),
        ],
    )  # fmt: skip
    name = f"lake.{table.name}"
    duck.execute(
        f"CREATE TABLE {name} (id BIGINT, v VARIANT, g GEOMETRY, t TIMESTAMP_NS, s VARCHAR) WITH ('format-version'='3')"
    )

    def insert(ids: Iterable[int]) -> None:
        values = []
        for i in ids:
            # DuckDB has only the variant null, and writes it as a value.
            text = "null" if i % 7 == 6 else json.dumps(tree(i))
            variant = f"{quoted(text)}::JSON::VARIANT"
            if i >= 300:
                of, json_of = typed(i - 300)
                text, variant = json.dumps(json_of, default=float), f"({of})::VARIANT"
                text = str(json_of) if isinstance(json_of, Decimal) else text
            of_shape, n = shape(i), SOME_NANOS[i % 5]
            table.rows[i] = {"id": i, "v": text, "g": of_shape and of_shape[1], "t": n, "s": f"s{i % 3}", "d": 7}
            literals = [
                str(i), variant, f"{quoted(of_shape[0])}::GEOMETRY" if of_shape else "NULL",
                "NULL" if n is None else f"make_timestamp_ns({n})", f"'s{i % 3}'",
            ]  # fmt: skip
            values.append(f"({', '.join(literals)})")
        duck.execute(f"INSERT INTO {name} (id, v, g, t, s) VALUES {', '.join(values)}")
        table.wrote(inserted=ids)

    def change(ids: list[int]) -> None:
        gone, renamed, remade = ids
        del table.rows[gone]
        duck.execute(f"DELETE FROM {name} WHERE id = {gone}")
        table.wrote()
        table.rows[renamed]["s"] = "updated"
        duck.execute(f"UPDATE {name} SET s = 'updated' WHERE id = {renamed}")
        table.wrote(updated=[renamed])
        table.rows[remade] |= {"v": '[{"a":1}]', "s": "merged"}
        duck.execute(
            f"MERGE INTO {name} t USING (SELECT {remade} AS id) m ON t.id = m.id "
            "WHEN MATCHED THEN UPDATE SET v = '[{\"a\":1}]'::JSON::VARIANT, s = 'merged'"
        )
        table.wrote(updated=[remade])

    for ids in (range(9), range(10, 19), range(20, 29)):
        insert(ids)
    change([4, 5, 21])
    duck.execute(f"ALTER TABLE {name} ADD COLUMN d INTEGER DEFAULT 7")
    table.columns["d"] = ""
    table.filters.append(Filter("d = 7", lambda row: True, "esker duckdb"))
    insert(range(300, 308))
    assert len({tuple(parts(path)) for path in files(table, "parquet")}) > 2, "files have different parts apart"
    assert files(table, "puffin"), "deletes are vectors"
    life(Writer(table, insert, change, ["id", "t", "s", "d"], ["v", "g"]))


def files(table: Table, kind: str) -> list[Path]:
    return list(Path(table.metadata["location"].removeprefix("file://")).rglob(f"*.{kind}"))


def parts(path: Path) -> list[str]:
    """Returns the names of a file's shredded columns."""
    columns = duckdb.sql(f"SELECT name, type FROM parquet_schema('{path}')").fetchall()
    return [f"{name} {type}" for name, type in columns if name not in ("metadata", "value")]


def in_square(wkb: bytes | None) -> bool:
    """Returns True if a geometry intersects the central square. Points and polygons' corners decide."""
    if wkb is None:
        return False
    corners = {1: 5, 2: 9, 3: 13}
    kind = struct.unpack_from("<I", wkb, 1)[0]
    numbers = struct.unpack_from(f"<{(len(wkb) - corners[kind]) // 8}d", wkb, corners[kind])
    if kind == 3:
        x, y = numbers[:2]
        return -61 <= x <= 60 and -61 <= y <= 60 and (x >= -60 or x + 1 >= -60)
    return any(abs(x) <= 60 and abs(y) <= 60 for x, y in zip(numbers[::2], numbers[1::2], strict=True))


# Spark 4


@with_spark_4
def test_spark_4_writes_variants_vectors_and_lineage(server: Server, duck, request: pytest.FixtureRequest) -> None:
    """Spark 4 reads defaults but can't set them, and refuses tables with nanoseconds."""
    spark = request.getfixturevalue("spark")

    def ask(what: list[str], table: str, where: str) -> list:
        return [list(row) for row in spark.sql(f"SELECT {', '.join(what)} FROM {table}{where}").collect()]

    calls = {("esker", "x"): "st.x", ("esker", "e"): "l[2]", ("duckdb", "x"): "(st.x)", ("duckdb", "e"): "l[2]"}
    table = Table(
        server, f"{NAMESPACE}.spark", {"id": "", "v": "variant", "x": "variant", "e": "variant", "s": ""},
        {"esker": esker(server), "spark": ask, "duckdb": with_duck(duck)}, lineage_of="spark",
        calls=calls | {("spark", "x"): "st.x", ("spark", "e"): "l[1]"},
        filters=[Filter(where, holds, "esker spark") for where, holds in OF_VARIANTS],
    )  # fmt: skip
    name = f"default.{table.name}"
    modes = ", ".join(f"'write.{what}.mode'='merge-on-read'" for what in ("delete", "update", "merge"))
    spark.sql(
        f"CREATE TABLE {name} (id bigint, v variant, st struct<x: variant>, l array<variant>, s string) USING iceberg "
        f"TBLPROPERTIES ('format-version'='3', 'write.parquet.shred-variants'='true', {modes})"
    )

    def literals(i: int, with_default: bool) -> str:
        text = None if i % 7 == 6 else "null" if i % 7 == 5 else json.dumps(tree(i))
        table.rows[i] = {"id": i, "v": text, "x": str(i), "e": f'"e{i}"', "s": f"s{i % 3}"}
        table.rows[i]["d"] = i if with_default else 7
        variant = "NULL" if text is None else f"parse_json({escaped(text)})"
        st, items = f"named_struct('x', parse_json('{i}'))", f"array(NULL, parse_json('\"e{i}\"'))"
        return ", ".join([str(i), variant, st, items, f"'s{i % 3}'"] + ([str(i)] if with_default else []))

    def insert(ids: Iterable[int]) -> None:
        rows = ", ".join(f"({literals(i, 'd' in table.columns)})" for i in ids)
        # One task writes all rows into one file.
        spark.sql(f"INSERT INTO {name} SELECT /*+ COALESCE(1) */ * FROM VALUES {rows}")
        table.wrote(inserted=ids)

    def change(ids: list[int]) -> None:
        gone, remade, merged = ids
        del table.rows[gone]
        spark.sql(f"DELETE FROM {name} WHERE id = {gone}")
        table.wrote()
        table.rows[remade] |= {"v": '[{"a":1}]', "s": "updated"}
        spark.sql(f"UPDATE {name} SET v = parse_json('[{{\"a\":1}}]'), s = 'updated' WHERE id = {remade}")
        table.wrote(updated=[remade])
        table.rows[merged]["s"] = "merged"
        new = literals(gone + 30, "d" in table.columns)
        spark.sql(
            f"MERGE INTO {name} t USING (SELECT {merged}L AS id UNION ALL SELECT {gone + 30}L) m ON t.id = m.id "
            f"WHEN MATCHED THEN UPDATE SET s = 'merged' WHEN NOT MATCHED THEN INSERT * VALUES ({new})".replace(
                "INSERT *", f"INSERT (id, v, st, l, s{', d' if 'd' in table.columns else ''})"
            )
        )
        table.wrote(inserted=[gone + 30], updated=[merged])

    for ids in (range(9), range(10, 19)):
        insert(ids)
    change([4, 3, 11])
    table.add_column("d", "int", **{"initial-default": 7, "write-default": 7})
    table.columns["d"] = ""
    # Spark prunes row groups without the column, as if its values were null, and misses the default.
    table.filters.append(Filter("d = 7", lambda row: row["d"] == 7, "esker duckdb"))
    insert(range(20, 29))
    assert len({tuple(parts(path)) for path in files(table, "parquet")}) > 2, "files have different parts apart"
    assert files(table, "puffin"), "deletes are vectors"
    life(Writer(table, insert, change, ["id", "s", "d"], ["v"]))


# Flink


@without_spark_4
def test_flink_upserts_nanoseconds(server: Server, tmp_path: Path) -> None:
    """Flink creates variant columns, but its planner can't insert into them."""
    server.catalog().create_namespace_if_not_exists(NAMESPACE)
    flink = Flink(server, tmp_path)

    def ask(what: list[str], table: str, where: str) -> list:
        found, _ = flink.run(f"SELECT {', '.join(what)} FROM {table}{where};\n", "batch")
        rows = [line.removeprefix("+I[").removesuffix("]").split(", ") for line in found]
        return [[None if v == "null" else int(v) if v.isdigit() else v for v in row] for row in rows]

    table = Table(
        server, f"{NAMESPACE}.flink", {"id": "", "t": "ns", "z": "ns", "s": ""},
        {"esker": esker(server), "flink": ask},
        filters=[
            Filter(f"t = '{timestamp(SOME_NANOS[0])}'", lambda row: row["t"] == SOME_NANOS[0]),
            Filter(f"z >= '{timestamp(SOME_NANOS[3])}+00'", lambda row: (row["z"] or 0) >= SOME_NANOS[3]),
        ],
    )  # fmt: skip
    flink.run(
        f"CREATE TABLE `default`.{table.name} (id BIGINT NOT NULL, t TIMESTAMP(9), z TIMESTAMP_LTZ(9), s STRING, "
        "PRIMARY KEY (id) NOT ENFORCED) WITH ('format-version'='3', 'write.upsert.enabled'='true');\n"
    )

    def upsert(*batches: Iterable[tuple[int, str]]) -> None:
        script = ""
        for batch in batches:
            rows = []
            for i, s in batch:
                t, z = SOME_NANOS[i % 5], SOME_NANOS[(i + 1) % 5]
                table.rows[i] = {"id": i, "t": t, "z": z, "s": s}
                of = [f"CAST({'NULL' if n is None else quoted(timestamp(n))} AS {kind}(9))"
                      for n, kind in ((t, "TIMESTAMP"), (z, "TIMESTAMP_LTZ"))]  # fmt: skip
                rows.append(f"({i}, {of[0]}, {of[1]}, '{s}')")
            script += f"INSERT INTO `default`.{table.name} VALUES {', '.join(rows)};\n"
        flink.run(script)

    def insert(ids: Iterable[int]) -> None:
        upsert([(i, f"s{i % 3}") for i in ids])

    def change(ids: list[int]) -> None:
        upsert([(i, "changed") for i in ids])
        server.sql(f"DELETE FROM {table.name} WHERE id = {ids[0]}")
        del table.rows[ids[0]]

    upsert([(i, f"s{i % 3}") for i in range(9)], [(i, "again") for i in (1, 2, 5, 20)], [(i, "more") for i in (2, 21)])
    facts = server.api("GET", server.table(table.name, "/health"))["facts"]
    assert facts["equality_deletes"]["files"] > 0
    types = {column["name"]: column["type"] for column in table.metadata["schemas"][0]["fields"]}
    assert (types["t"], types["z"]) == ("timestamp_ns", "timestamptz_ns")
    life(Writer(table, insert, change, ["id", "t", "z", "s"], often="esker"))


# PyIceberg


@without_spark_4
def test_pyiceberg_adds_columns_of_version_3(server: Server) -> None:
    """PyIceberg writes schemas of version 3 but no manifests, so Esker writes the rows after the upgrade."""
    catalog = server.catalog()
    catalog.create_namespace_if_not_exists(NAMESPACE)

    def ask(what: list[str], name: str, where: str) -> list:
        filters = {"row_filter": where.removeprefix(" WHERE ")} if where else {}
        return of_arrow(catalog.load_table(name).scan(**filters).to_arrow().select(what))

    table = Table(
        server, f"{NAMESPACE}.pyiceberg", {"id": "", "s": ""},
        {"esker": esker(server), "pyiceberg": ask},
        filters=[
            Filter(f"t = '{timestamp(SOME_NANOS[0])}'", lambda row: row["t"] == SOME_NANOS[0]),
            Filter("d = 7", lambda row: row["d"] == 7, "esker pyiceberg"),
            Filter("t IS NULL", lambda row: row["t"] is None, "esker pyiceberg"),
        ],
    )  # fmt: skip
    loaded = catalog.create_table(table.name, pa.schema([("id", pa.int64()), ("s", pa.string())]))
    for ids in (range(9), range(10, 19)):
        loaded.append(pa.table({"id": pa.array(ids, pa.int64()), "s": [f"s{i % 3}" for i in ids]}))
        table.rows |= {i: {"id": i, "s": f"s{i % 3}", "d": 7} | dict.fromkeys("tzu") for i in ids}
    loaded.delete("id = 4")
    del table.rows[4]
    table.update({"action": "upgrade-format-version", "format-version": 3})
    loaded = catalog.load_table(table.name)
    with loaded.update_schema() as schema:
        schema.add_column("d", IntegerType(), default_value=7)
        schema.add_column("t", TimestampNanoType())
        schema.add_column("z", TimestamptzNanoType())
        schema.add_column("u", UnknownType())
    table.columns |= {"d": "", "t": "ns", "z": "ns", "u": ""}

    def insert(ids: Iterable[int]) -> None:
        for i in ids:
            t, z = SOME_NANOS[i % 5], SOME_NANOS[(i + 1) % 5]
            table.rows[i] = {"id": i, "s": f"s{i % 3}", "d": 7, "t": t, "z": z, "u": None}
        literals = [
            [str(i), f"'s{i % 3}'"]
            + ["NULL" if n is None else quoted(timestamp(n) + zone) for n, zone in ((t, ""), (z, "+00"))]
            for i, (t, z) in ((i, (table.rows[i]["t"], table.rows[i]["z"])) for i in ids)
        ]
        values = ", ".join(f"({', '.join(row)})" for row in literals)
        server.sql(f"INSERT INTO {table.name} (id, s, t, z) VALUES {values}")

    def change(ids: list[int]) -> None:
        gone, changed, also = ids
        del table.rows[gone]
        server.sql(f"DELETE FROM {table.name} WHERE id = {gone}")
        for i in (changed, also):
            table.rows[i] |= {"d": 8, "s": "updated"}
        server.sql(f"UPDATE {table.name} SET d = 8, s = 'updated' WHERE id IN ({changed}, {also})")

    insert(range(20, 29))
    change([20, 3, 11])
    assert files(table, "puffin"), "deletes are vectors"
    life(Writer(table, insert, change, ["id", "s", "d", "t", "z"]))
