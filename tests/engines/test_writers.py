"""Difficult tables of real writers, and Esker's jobs on them.

After every kind of job, all engines read the rows that were inserted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from functools import partial
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    IdentityTransform,
    TruncateTransform,
)
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from stack.base import ROOT
from stack.duck import attached
from stack.esker import Server, running
from stack.flink import Flink
from stack.iceberg_rust import VERSION, IcebergRust, built
from stack.minio import Minio
from stack.readers import Held, Readers, Where

sys.path.insert(0, str(ROOT / "jobs" / "spark"))
import esker_spark

pytestmark = pytest.mark.timeout(1200)

NAMESPACE = "writers"
# Characters of two to four bytes, at which a bound of 16 bytes is cut.
WIDE = ["é", "€", "😀"]
EPOCH = datetime(1970, 1, 1)


@pytest.fixture(scope="module")
def readers(server: Server, duck, request: pytest.FixtureRequest) -> Readers:
    return Readers(server, duck, **{name: partial(request.getfixturevalue, name) for name in ("spark", "trino")})


@dataclass
class Writer:
    """A table, with functions that insert rows of given ids and delete one."""

    table: Held
    insert: Callable[[Iterable[int]], None]
    delete: Callable[[int], None]
    # The sort order for jobs that sort.
    order: str
    curve: list[str]


def life(readers: Readers, writer: Writer, engines: str, spark_rewrites: bool = False) -> None:
    """Runs every kind of job, undoes those that can be undone, and lets the writer commit in between."""
    server, table = readers.server, writer.table
    with readers.catalog.load_table(table.name).transaction() as transaction:
        # By default, snapshots with the state of streaming writers are kept for a while too.
        transaction.set_properties({"esker.expire.min-age-ms": "0", "esker.expire.writer-state-ms": "0"})
    readers.check(table, engines, "its writer")
    first, then = readers.catalog.load_table(table.name).current_snapshot().snapshot_id, table.expected()

    def do(kind: str, **options: object) -> dict:
        named = {key.replace("_", "-"): value for key, value in options.items()}
        job = server.job(table.name, kind, named)
        assert not (job["outcome"] or {}).get("refused"), job["outcome"]
        readers.check(table, engines, f"{kind} {named}")
        return job

    def statistics() -> None:
        found = do("statistics")["outcome"]
        assert found["records"] == len(table.rows) and found["partitions_path"]
        for column, count in found["distinct"].items():
            if column in table.columns:
                values = {repr(row[column]) for row in table.rows.values() if row[column] is not None}
                assert count == len(values), column

    assert do("check", files=True)["outcome"]["findings"] == []
    statistics()
    do("compact", strategy="convert-deletes", courtesy_seconds=0)
    do("manifests", rewrite_all=True)
    whole = {"rewrite_all": True, "courtesy_seconds": 0}
    packed = do("compact", verify="full", **whole)
    server.undo(packed)
    readers.check(table, engines, "undo of a compaction")
    do("compact", strategy="sort", sort_order=writer.order, **whole)
    do("compact", strategy="zorder", zorder_columns=writer.curve, **whole)
    if spark_rewrites:
        spark_compacts(readers, table, engines)
    writer.insert(range(100, 106))
    do("compact", where="id >= 100", min_input_files=1, **whole)

    def snapshots() -> set[int]:
        return {snapshot.snapshot_id for snapshot in readers.catalog.load_table(table.name).snapshots()}

    before = snapshots()
    expired = do("expire", older_than_ms=now(), retain_last=1)
    assert snapshots() < before, expired["outcome"]
    server.undo(expired)
    readers.check(table, engines, "undo of an expiry")
    assert snapshots() == before
    old = server.sql(f"SELECT id FROM {table.name} FOR VERSION AS OF {first} ORDER BY id")
    assert old == [(row[0],) for row in then]

    writer.delete(101)
    readers.check(table, engines, "a delete")
    # Equality delete files contain values of the deleted rows.
    do("compact", strategy="convert-deletes", courtesy_seconds=0)
    gone = {"where": "id = 101"}
    erased = do("erase", **gone)["outcome"]
    assert erased["complete"], f"{erased}"
    server.api("POST", "/api/v1/quarantine/sweep", {})
    assert server.api("POST", server.table(table.name, "/erase?dry-run=true"), gone)["holders"] == []
    writer.insert(range(200, 206))
    do("compact", verify="full", **whole)
    statistics()
    do("expire", older_than_ms=now(), retain_last=1)
    do("manifests", rewrite_all=True)
    look_for_orphans(readers, table)
    assert do("check", files=True)["outcome"]["findings"] == []
    readers.check(table, engines, "all of it")


def now() -> int:
    return int(time.time() * 1000) + 1000


def spark_compacts(readers: Readers, table: Held, engines: str) -> None:
    """Runs a compaction as an external job on Spark."""
    server = readers.server
    body = {"spark-over-bytes": 1, "rewrite-all": True, "courtesy-seconds": 0}
    job = server.api("POST", server.table(table.name, "/compact"), body)["job-id"]
    while server.api("GET", f"/api/v1/jobs/{job}")["engine"] != "spark":
        time.sleep(0.1)
    os.environ["ESKER_TOKEN"] = server.token
    assert esker_spark.main(["--url", server.rest, "--catalog", "default"], readers.spark) == 0
    done = server.api("GET", f"/api/v1/jobs/{job}")
    assert done["state"] == "succeeded" and done["outcome"]["rewritten_data_files_count"] > 0, done
    readers.check(table, engines, "Spark's rewrite")


def look_for_orphans(readers: Readers, table: Held) -> None:
    """Checks that an orphan scan finds only the one unreferenced file, though all files are made old."""
    location = Path(readers.catalog.load_table(table.name).location().removeprefix("file://"))
    planted = location / "data" / "a b=%2F é" / "nobody's.parquet"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"PAR1")
    old = time.time() - 10 * 86400
    for path in location.rglob("*"):
        os.utime(path, (old, old))
    found = readers.server.api("POST", readers.server.table(table.name, "/orphans?dry-run=true"), {})
    # Checksum files of Hadoop's file system stay when their files are deleted.
    paths = [Path(orphan["path"].removeprefix("file://")) for orphan in found["named"]]
    kept = [path for path in paths if not (path.suffix == ".crc" and not path.with_name(path.stem[1:]).exists())]
    assert kept == [planted], found
    outcome = readers.server.maintain(table.name, "orphans", {})
    assert planted.exists(), f"it was not seen before: {outcome}"


def text(value: object) -> str:
    """Returns a SQL literal that Spark and DuckDB understand."""
    match value:
        case None:
            return "NULL"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case UUID():
            return f"'{value}'"
        case datetime():
            return f"TIMESTAMP '{value}'"
    return str(value)


def values(rows: Iterable[tuple], literal: Callable[[object], str] = text) -> str:
    return ", ".join("(" + ", ".join(literal(v) for v in row) + ")" for row in rows)


def writer_of(
    table: Held,
    row: Callable[[int], tuple],
    insert: Callable[[list[tuple]], object],
    delete: Callable[[int], object],
    **jobs: object,
) -> Writer:
    """Returns a writer that changes rows with the engine, and keeps the expected rows up to date."""

    def inserts(ids: Iterable[int]) -> None:
        rows = [row(i) for i in ids]
        table.add(*rows)
        insert(rows)

    def deletes(i: int) -> None:
        del table.rows[i]
        delete(i)

    return Writer(table, inserts, deletes, **jobs)


# DuckDB

UUIDS = [None, *(UUID(f"{head}1234567-89ab-4cde-8f01-23456789abcd") for head in "0f8")]


def duck_writer(duck, table: Held, row: Callable[[int], tuple], ns: int | None = None, **jobs: object) -> Writer:
    """Returns a writer for DuckDB. `ns` is the index of the column in nanoseconds."""

    def insert(rows: list[tuple]) -> None:
        places = [[v if v is None or at != ns else f"make_timestamp_ns({v})" for at, v in enumerate(r)] for r in rows]
        literal = lambda v: v if isinstance(v, str) and v.startswith("make_") else text(v)  # noqa: E731
        duck.execute(f"INSERT INTO lake.{table.name} VALUES {values(places, literal)}")

    def delete(i: int) -> None:
        duck.execute(f"DELETE FROM lake.{table.name} WHERE id = {i}")

    writer = writer_of(table, row, insert, delete, **jobs)
    for ids in (range(9), range(9, 12), range(20, 29)):
        writer.insert(ids)
    writer.delete(4)
    duck.execute(f"UPDATE lake.{table.name} SET s = 'updated' WHERE id = 5")
    table.rows[5]["s"] = "updated"
    return writer


def wide(i: int) -> str | None:
    return None if i % 5 == 4 else "a" * 15 + WIDE[i % 3] + str(i)


# DuckDB cuts bounds inside a character, and then refuses to read its own bounds.
WIDE_ONES = Where("s", ">", "aaaaaaaaaaaaaaa€", but="duckdb")


def test_duckdb_partitions_by_uuid_and_cuts_bounds_inside_characters(readers: Readers, duck) -> None:
    table = Held(f"{NAMESPACE}.duck_uuid", {"id": "", "u": "uuid", "s": ""}, wheres=[
        WIDE_ONES,
        Where("u", "=", UUIDS[2], but="pyiceberg spark"),
        Where("u"),
    ])  # fmt: skip
    duck.execute(f"CREATE TABLE lake.{table.name} (id BIGINT, u UUID, s VARCHAR) PARTITIONED BY (u)")
    writer = duck_writer(
        duck, table, lambda i: (i, UUIDS[i % 4], wide(i)), order="u desc nulls last, s", curve=["u", "s"]
    )
    # Trino 476 fails with "Error processing metadata" on identity partitions of UUIDs.
    life(readers, writer, "esker duckdb pyiceberg spark")


def test_duckdb_partitions_by_nanoseconds(readers: Readers, duck) -> None:
    nanos = [1_700_000_000_000_000_001, -1, 0, 1_700_000_000_000_000_002, None]
    table = Held(f"{NAMESPACE}.duck_ns", {"id": "", "ts": "ns", "s": ""}, wheres=[
        WIDE_ONES,
        Where("ts", "=", nanos[0], "2023-11-14 22:13:20.000000001"),
        Where("ts", "<", 0, "1970-01-01 00:00:00"),
    ])  # fmt: skip
    duck.execute(
        f"CREATE TABLE lake.{table.name} (id BIGINT, ts TIMESTAMP_NS, s VARCHAR) PARTITIONED BY (ts) "
        "WITH ('format-version'='3')"
    )
    writer = duck_writer(duck, table, lambda i: (i, nanos[i % 5], wide(i)), ns=1, order="ts desc, s", curve=["ts", "s"])
    # PyIceberg can't read manifests with such a partition, and Spark and Trino can't read such a column.
    life(readers, writer, "esker duckdb")


def test_duckdb_partitions_by_transforms_of_nanoseconds_texts_and_decimals(readers: Readers, duck) -> None:
    def row(i: int) -> tuple:
        ts = None if i % 6 == 5 else 1_700_000_000_000_000_001 + i % 3 * 3_600_000_000_000
        return i, ts, wide(i) if i % 2 else WIDE[i % 3] * 3 + str(i), i % 5 - 2, Decimal(i % 4 - 2) / 4

    table = Held(f"{NAMESPACE}.duck_hour", {"id": "", "ts": "ns", "s": "", "k": "", "d": ""}, wheres=[
        WIDE_ONES,
        Where("ts", ">", 1_700_003_600 * 10**9, "2023-11-14 23:13:20", but="pyiceberg"),
        Where("k", "=", -2),
        Where("d", "=", Decimal("-0.25")),
    ])  # fmt: skip
    duck.execute(
        f"CREATE TABLE lake.{table.name} (id BIGINT, ts TIMESTAMP_NS, s VARCHAR, k BIGINT, d DECIMAL(9, 2)) "
        "PARTITIONED BY (hour(ts), truncate(3, s), bucket(4, k), bucket(3, d)) WITH ('format-version'='3')"
    )
    writer = duck_writer(duck, table, row, ns=1, order="ts, s desc", curve=["ts", "s", "d"])
    life(readers, writer, "esker duckdb pyiceberg")


@pytest.mark.slice
def test_what_duckdb_puts_into_wrong_partitions_is_told(server: Server, duck) -> None:
    table = f"{NAMESPACE}.duck_wrong"
    duck.execute(f"CREATE TABLE lake.{table} (id BIGINT, u UUID) PARTITIONED BY (bucket(4, u))")
    ids = [UUID(int=n) for n in range(8)]
    duck.execute(f"INSERT INTO lake.{table} VALUES {values(enumerate(ids))}")
    bucket = BucketTransform(4).transform(UUIDType())
    reported = server.maintain(table, "check", {"files": True})["findings"]
    wrong = 0
    for task in server.catalog().load_table(table).scan().plan_files():
        held = duck.execute(f"SELECT u FROM '{task.file.file_path.removeprefix('file://')}'").fetchall()
        wrong += sum(bucket(u) != task.file.partition[0] for (u,) in held)
    assert sum(finding["rows"] for finding in reported) == wrong
    assert {finding["kind"] for finding in reported} == ({"wrong-partition"} if wrong else set())


# Spark

TEXTS = [None, "", "null", "é/%=", "x.y z"]


def spark_writer(readers: Readers, table: Held, row: Callable[[int], tuple], names: str, **jobs: object) -> Writer:
    ask = readers.spark.sql

    def insert(rows: list[tuple]) -> None:
        ask(f"INSERT INTO default.{table.name} ({names}) VALUES {values(rows)}")

    def delete(i: int) -> None:
        ask(f"DELETE FROM default.{table.name} WHERE id = {i}")

    return writer_of(table, row, insert, delete, **jobs)


@pytest.mark.parametrize("final", [1, 2, 3])
def test_spark_names_partitions_oddly_and_changes_their_sources(readers: Readers, final: int) -> None:
    def row(i: int) -> tuple:
        return i, TEXTS[i % 5], f"p.{i % 2}", i % 4 - 2, WIDE[i % 3] * 2 + f"/{i}", Decimal(i % 7 * 5) / 4

    columns = dict.fromkeys(["id", "a b", "x.y", "first (1)", "€/%", "m"], "")
    table = Held(f"{NAMESPACE}.odd{final}", columns, wheres=[
        Where("a b", "=", "é/%="),
        Where("x.y", "=", "p.1", but="pyiceberg"),
        Where("first (1)", "=", -2),
        Where("€/%", ">=", "€€"),
    ])  # fmt: skip
    ask, name = readers.spark.sql, f"default.{table.name}"
    ask(
        f"CREATE TABLE {name} (id bigint, `a b` string, `x.y` string, `1st` int, `€/%` string, m decimal(9, 2)) "
        "USING iceberg PARTITIONED BY (`a b`, `x.y`, bucket(3, `1st`)) TBLPROPERTIES ('format-version'='1', "
        "'write.delete.mode'='merge-on-read', 'write.update.mode'='merge-on-read')"
    )
    ask(f"ALTER TABLE {name} ADD PARTITION FIELD truncate(2, `€/%`) AS `9 €/%.t`")
    named = "id, `a b`, `x.y`, `{}`, `€/%`, m"
    spark_writer(readers, table, row, named.format("1st"), order="", curve=[]).insert(range(12))
    if final > 1:
        ask(f"ALTER TABLE {name} SET TBLPROPERTIES ('format-version'='2')")
        ask(f"DELETE FROM {name} WHERE id = 2")
        del table.rows[2]
    ask(f"ALTER TABLE {name} RENAME COLUMN `1st` TO `first (1)`")
    ask(f"ALTER TABLE {name} ALTER COLUMN `first (1)` TYPE bigint")
    ask(f"ALTER TABLE {name} ALTER COLUMN m TYPE decimal(12, 2)")
    ask(f"ALTER TABLE {name} DROP PARTITION FIELD `x.y`")
    if final > 2:
        ask(f"ALTER TABLE {name} SET TBLPROPERTIES ('format-version'='3')")
    order = '"a b" desc nulls first, "x.y", "€/%"'
    writer = spark_writer(
        readers, table, row, named.format("first (1)"), order=order, curve=["a b", "x.y", "first (1)"]
    )
    for ids in (range(12, 20), range(20, 24)):
        writer.insert(ids)
    writer.delete(7)
    writer.delete(13)
    life(readers, writer, "esker spark duckdb pyiceberg" + (" trino" if final < 3 else ""), spark_rewrites=True)


@pytest.mark.parametrize("format_version", [2, 3])
def test_spark_partitions_by_fields_of_structs(readers: Readers, format_version: int) -> None:
    table = Held(f"{NAMESPACE}.nested{format_version}", {"id": "", "s": ""}, wheres=[
        Where(("s", "c c"), "=", "é/%="),
        Where(("s", "d.e"), "=", 1, but="pyiceberg"),
    ])  # fmt: skip
    ask, name = readers.spark.sql, f"default.{table.name}"
    ask(
        f"CREATE TABLE {name} (id bigint, s struct<c: string, t: timestamp, `d.e`: int>) USING iceberg "
        f"PARTITIONED BY (s.c, days(s.t), bucket(3, s.`d.e`)) TBLPROPERTIES ('format-version'='{format_version}', "
        "'write.delete.mode'='merge-on-read')"
    )

    def insert(ids: Iterable[int]) -> None:
        rows = []
        for i in ids:
            at = EPOCH + timedelta(days=19_000 + i % 3 * 200, microseconds=i)
            table.add((i, {"c c": TEXTS[i % 5], "t": at, "d.e": i % 4}))
            rows.append(f"({i}, struct({text(TEXTS[i % 5])}, {text(at)}, {i % 4}))")
        ask(f"INSERT INTO {name} VALUES {', '.join(rows)}")

    def delete(i: int) -> None:
        del table.rows[i]
        ask(f"DELETE FROM {name} WHERE id = {i}")

    insert(range(10))
    ask(f"ALTER TABLE {name} RENAME COLUMN s.c TO `c c`")
    insert(range(10, 20))
    insert(range(20, 24))
    delete(6)
    delete(16)
    writer = Writer(table, insert, delete, order="id desc", curve=["id"])
    life(readers, writer, "esker spark duckdb pyiceberg" + (" trino" if format_version < 3 else ""))


# Flink


@pytest.mark.parametrize("format_version", [2, 3])
def test_flink_upserts_into_partitions_with_odd_names(
    readers: Readers, server: Server, format_version: int, tmp_path: Path
) -> None:
    table = Held(f"{NAMESPACE}.upserts{format_version}", {"id": "", "a b": "", "n": ""}, wheres=[
        Where("a b", "=", "é/%="),
        Where("n", ">=", 1000),
    ])  # fmt: skip
    ask, name, flink = readers.spark.sql, f"default.{table.name}", Flink(server, tmp_path)
    ask(
        f"CREATE TABLE {name} (id bigint NOT NULL, `a b` string NOT NULL, n bigint) USING iceberg "
        f"PARTITIONED BY (`a b`, bucket(2, id)) TBLPROPERTIES ('format-version'='{format_version}', "
        "'write.delete.mode'='merge-on-read')"
    )
    # Java's Avro names keep letters of all languages. DuckDB can't read such files.
    letter = "€" if format_version < 3 else "é"
    ask(f"ALTER TABLE {name} ADD PARTITION FIELD truncate(1, `a b`) AS `1/%.{letter}`")
    ask(f"ALTER TABLE {name} SET IDENTIFIER FIELDS id, `a b`")

    def upserts(*batches: Iterable[tuple]) -> None:
        insert = f"INSERT INTO `default`.{table.name} /*+ OPTIONS('upsert-enabled'='true') */ VALUES "
        flink.run("".join(f"{insert}{values(batch)};\n" for batch in batches))
        for batch in batches:
            table.add(*batch)

    def row(i: int, n: int) -> tuple:
        return i, TEXTS[1 + i % 4], n

    def insert(ids: Iterable[int]) -> None:
        upserts([row(i, i) for i in [*ids, 3]])

    def delete(i: int) -> None:
        del table.rows[i]
        ask(f"DELETE FROM {name} WHERE id = {i}")

    changed = [row(i, i + 1000) for i in (1, 2, 5, 9)]
    upserts([row(i, i) for i in range(10)], changed, [row(i, i + 2000) for i in (2, 9, 11)])
    delete(6)
    facts = server.api("GET", server.table(table.name, "/health"))["facts"]
    assert facts["equality_deletes"]["files"] > 0
    writer = Writer(table, insert, delete, order='"a b" desc, n', curve=["a b", "n"])
    # PyIceberg does not read equality deletes.
    life(readers, writer, "esker spark" + (" duckdb trino" if format_version < 3 else ""))
    sums = [
        f"SELECT COUNT(*), SUM(id), SUM(n) FROM `default`.{table.name}{where};\n"
        for where in ("", " WHERE `a b` = 'é/%='")
    ]
    found, _ = flink.run("".join(sums), "batch")
    for line, rows in zip(
        found, [table.rows.values(), [r for r in table.rows.values() if r["a b"] == "é/%="]], strict=True
    ):
        assert line == f"+I[{len(rows)}, {sum(r['id'] for r in rows)}, {sum(r['n'] for r in rows)}]"


# PyIceberg


def pyiceberg_writer(readers: Readers, table: Held, fields: list, spec: list, row: Callable, **jobs: object) -> Writer:
    """Returns a writer for PyIceberg. Fields are name and type; partition fields are source, transform and name."""
    schema = Schema(*(NestedField(i, n, t, required=False) for i, (n, t) in enumerate(fields, 1)))
    parts = [
        PartitionField(schema.find_field(source).field_id, 1000 + at, transform, name)
        for at, (source, transform, name) in enumerate(spec)
    ]
    loaded = readers.catalog.create_table(table.name, schema, partition_spec=PartitionSpec(*parts))

    def insert(rows: list[tuple]) -> None:
        arrow = loaded.schema().as_arrow()
        columns = [
            pa.array([v.bytes if isinstance(v, UUID) else v for v in column], storage(kind))
            for column, kind in zip(zip(*rows, strict=True), arrow.types, strict=True)
        ]
        loaded.refresh()
        loaded.append(
            pa.Table.from_arrays(columns, schema=pa.schema(zip(arrow.names, map(storage, arrow.types), strict=True)))
        )

    def delete(i: int) -> None:
        loaded.refresh()
        loaded.delete(f"id == {i}")

    writer = writer_of(table, row, insert, delete, **jobs)
    for ids in (range(11), range(11, 20), range(20, 24)):
        writer.insert(ids)
    writer.delete(4)
    return writer


def storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def test_pyiceberg_partitions_by_buckets_and_prefixes_of_odd_types(readers: Readers) -> None:
    def row(i: int) -> tuple:
        fixed, binary = bytes([i % 3] * 5), bytes([255, i % 2, i])
        amount = None if i % 5 == 4 else Decimal(i * 12_345 - 99_999) / 1000
        return i, UUIDS[i % 4], fixed, amount, binary, wide(i), i % 4 - 2, i / 4

    columns = ["id", "u", "fx", "d", "b", "n.m", "1 2", "r"]
    kinds = [
        LongType(),
        UUIDType(),
        FixedType(5),
        DecimalType(20, 3),
        BinaryType(),
        StringType(),
        LongType(),
        FloatType(),
    ]
    spec = [
        ("u", BucketTransform(3), "u.b"),
        ("fx", BucketTransform(4), "f/x"),
        ("d", TruncateTransform(50_000), "1 d"),
        ("b", BucketTransform(2), "b%2F"),
        ("n.m", TruncateTransform(16), "n.m tr"),
        ("1 2", BucketTransform(2), "€"),
    ]
    table = Held(f"{NAMESPACE}.buckets", dict.fromkeys(columns, "") | {"u": "uuid"}, wheres=[
        Where("u", "=", UUIDS[1], but="pyiceberg"),
        Where("d", "<", Decimal("-50.001")),
        Where("1 2", "=", -2),
        Where("n.m", ">", "aaaaaaaaaaaaaaa€", but="pyiceberg"),
    ])  # fmt: skip
    writer = pyiceberg_writer(
        readers,
        table,
        list(zip(columns, kinds, strict=True)),
        spec,
        row,
        order='"n.m" desc, d, fx',
        curve=["n.m", "1 2", "d"],
    )
    life(readers, writer, "esker pyiceberg duckdb spark trino")


def test_pyiceberg_partitions_by_values_of_odd_types(readers: Readers) -> None:
    def row(i: int) -> tuple:
        at = None if i % 7 == 6 else time_of_day(23, 59, 59, 999_999 - i % 3)
        zoned = datetime(1969, 12, 31, 23, 59, 59, 999_999) + timedelta(days=i % 2)
        return i, bytes([0, 255, i % 3]), Decimal(i % 3 - 1) / 8, at, i % 2 == 0, UUIDS[i % 4], zoned

    columns = ["id", "fx", "d", "t.m", "ok", "u", "z"]
    kinds = [LongType(), FixedType(3), DecimalType(38, 10), TimeType(), BooleanType(), UUIDType(), TimestamptzType()]
    spec = [(name, IdentityTransform(), name) for name in ("fx", "d", "t.m", "ok", "u")]
    spec.append(("z", DayTransform(), "day of z"))
    table = Held(f"{NAMESPACE}.identities", dict.fromkeys(columns, "") | {"u": "uuid"}, wheres=[
        Where("u", "=", UUIDS[3], but="pyiceberg"),
        Where("d", "<", Decimal("0.0000000000")),
        Where("t.m", but="pyiceberg"),
    ])  # fmt: skip
    writer = pyiceberg_writer(
        readers, table, list(zip(columns, kinds, strict=True)), spec, row, order='"t.m", u desc', curve=["t.m", "d"]
    )
    # Spark 3.5 has no type for times of day, and Trino 476 no identity partitions of UUIDs.
    life(readers, writer, "esker pyiceberg duckdb")


# iceberg-rust


@pytest.mark.engine("iceberg-rust", versions=lambda: {"iceberg-rust": VERSION})
@pytest.mark.parametrize("format_version", [2, 3])
def test_iceberg_rust_inserts_into_partitions(minio: Minio, format_version: int, tmp_path: Path) -> None:
    # iceberg-rust loads all tables of a catalog first, so this server has only one.
    with running(tmp_path) as server:
        duck, rust = attached(server, "default", minio.endpoint, tmp_path), IcebergRust(server, built())
        duck.execute("SET TimeZone = 'UTC'")
        readers = Readers(server, duck, iceberg_rust=lambda: rust)
        readers.catalog.create_namespace(NAMESPACE)
        table = Held(f"{NAMESPACE}.rust{format_version}", dict.fromkeys(["id", "a b", "at", "d", "n"], ""), wheres=[
            Where("a b", "=", "é/%="),
            Where("d", "<", Decimal("-0.25")),
            Where("n"),
        ])  # fmt: skip
        kinds = [LongType(), StringType(), TimestampType(), DecimalType(12, 2), IntegerType()]
        fields = [
            NestedField(i, n, t, required=False) for i, (n, t) in enumerate(zip(table.columns, kinds, strict=True), 1)
        ]
        transforms = [BucketTransform(3), TruncateTransform(2), DayTransform(), IdentityTransform()]
        parts = [PartitionField(at, 999 + at, how, f"p_{at}") for at, how in enumerate(transforms, 1)]
        version = {"format-version": str(format_version)}
        readers.catalog.create_table(
            table.name, Schema(*fields), partition_spec=PartitionSpec(*parts), properties=version
        )

        def row(i: int) -> tuple:
            at = EPOCH + timedelta(days=i % 3 * 9000 - 1, microseconds=i)
            return i, TEXTS[i % 5], at, Decimal(i % 4 - 2) / 4, None if i % 6 == 5 else i % 7

        def insert(rows: list[tuple]) -> None:
            rust.ask(f"INSERT INTO lake.{table.name} VALUES {values(rows)}")

        def delete(i: int) -> None:
            server.sql(f"DELETE FROM {table.name} WHERE id = {i}")

        writer = writer_of(table, row, insert, delete, order='"a b" desc, n', curve=["a b", "n"])
        for ids in (range(9), range(9, 14), range(20, 27)):
            writer.insert(ids)
        life(readers, writer, "esker iceberg_rust duckdb pyiceberg")
        duck.close()
