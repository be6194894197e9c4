"""Round trips of metadata files: Java's and PyIceberg's parsers read the same from the original and from Esker's copy.

Java also reads the same as Esker. Fields that no reader knows are kept.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, TruncateTransform
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)
from pyspark.sql import SparkSession
from stack.duck import attached
from stack.esker import Server
from stack.messy import CASES, Table
from stack.minio import KEY, SECRET, Minio
from stack.round_trip import KINDS, RoundTrip, Tree, java

SAMPLES = Path(__file__).parent / "round_trip"


def check(roots: list[Path], out: Path, **least: int) -> None:
    """Checks all files in some directories. `least` is the minimum number of files of each kind."""
    out.mkdir()
    round_trip = RoundTrip(Tree(roots, out))
    round_trip.run()
    print(f"\n{round_trip.report}")
    assert round_trip.faults == []
    assert all(round_trip.counts[kind] >= n for kind, n in least.items()), round_trip.counts


def directory(location: str) -> Path:
    """Returns the local directory of a namespace's tables, from the location of one table."""
    return Path(location.removeprefix("file://")).parent


def rows(start: int) -> pa.Table:
    day = datetime.datetime(2024, 1, 1)
    return pa.table(
        {
            "id": pa.array(range(start, start + 9), pa.int64()),
            "s": [None if i % 4 == 0 else f"text {i} é" for i in range(9)],
            "x": [float("nan") if i == 3 else -0.0 if i == 4 else i / 7 for i in range(9)],
            "ts": pa.array([day + datetime.timedelta(hours=i * 13) for i in range(9)], pa.timestamp("us")),
        }
    )


def by_pyiceberg(server: Server) -> None:
    """Writes tables with PyIceberg: partitions, sort orders, evolution, deletes and branches."""
    catalog = server.catalog()
    schema = Schema(
        NestedField(1, "id", LongType()), NestedField(2, "s", StringType(), doc="a text"),
        NestedField(3, "x", DoubleType()), NestedField(4, "ts", TimestampType()),
    )  # fmt: skip
    spec = PartitionSpec(
        PartitionField(4, 1000, DayTransform(), "ts_day"), PartitionField(2, 1001, TruncateTransform(3), "s 3"),
        PartitionField(1, 1002, BucketTransform(4), "id_bucket"),
    )  # fmt: skip
    order = SortOrder(
        SortField(1, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_FIRST),
        SortField(2, TruncateTransform(2), SortDirection.ASC, NullOrder.NULLS_LAST),
    )
    for number in ("1", "2"):
        for name, how in (("plain", {}), ("parted", {"partition_spec": spec, "sort_order": order})):
            table = catalog.create_table(f"rt.py{number}_{name}", schema, properties={"format-version": number}, **how)
            table.append(rows(0))
            table.append(rows(100))
            table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "kept", 10**12).commit()
            table.manage_snapshots().create_branch(
                table.current_snapshot().snapshot_id, "b", 10**12, 10**12, 3
            ).commit()
            table.delete("id < 4")
            with table.update_schema() as update:
                update.add_column("n", LongType(), doc="new")
                update.rename_column("s", "label")
            if name == "parted":
                with table.update_spec() as update:
                    update.remove_field("ts_day")
                    update.add_field("n", IdentityTransform(), "n all")
            more = rows(200).rename_columns(["id", "label", "x", "ts"])
            table.append(more.append_column("n", pa.array(range(9), pa.int64())))


def by_esker(server: Server) -> None:
    """Writes tables with Esker: deletes, deletion vectors, promotions, maintenance and views."""
    catalog = server.catalog()
    schema = Schema(
        NestedField(1, "id", IntegerType()), NestedField(2, "s", StringType()), NestedField(3, "f", FloatType()),
        NestedField(4, "d", DecimalType(9, 2)), NestedField(5, "t", TimestampType()),
    )  # fmt: skip
    whole = IdentityTransform()
    spec = PartitionSpec(PartitionField(1, 1000, whole, "id"), PartitionField(3, 1001, whole, "f"))
    for number in (1, 2, 3):
        name = f"rt.esker{number}"
        table = catalog.create_table(name, schema, partition_spec=spec, properties={"format-version": str(number)})
        for n in range(2):
            values = [f"({i}, 's{i}', {i}.5, {i}.25, TIMESTAMP '2024-01-0{n + 1} 10:00:00')" for i in range(3)]
            server.sql(f"INSERT INTO {name} VALUES {', '.join(values)}, (NULL, NULL, 'NaN', NULL, NULL)")
        with table.update_schema() as update:
            update.update_column("id", LongType())
        server.sql(f"INSERT INTO {name} VALUES (5000000000, 'x', -0.0, NULL, NULL)")
        if number == 1:
            with table.transaction() as changes:
                changes.upgrade_table_version(2)
        server.sql(f"DELETE FROM {name} WHERE s = 's1'")
        server.sql(f"UPDATE {name} SET d = 0 WHERE f > 2")
        server.maintain(name, "compact", {"courtesy-seconds": 0, "rewrite-all": True})
        server.sql(f"DELETE FROM {name} WHERE id = 2")
    text = {"type": "sql", "sql": "SELECT id FROM rt.esker2", "dialect": "ansi"}
    first = {"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {"a": "b"}, "representations": [text]}
    columns = {"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": False, "type": "long"}]}
    view = {"name": "view", "schema": columns, "view-version": {**first, "default-namespace": ["rt"]}, "properties": {}}
    server.api("POST", "/v1/default/namespaces/rt/views", view)


def by_duckdb(server: Server, minio: Minio, home: Path) -> None:
    connection = attached(server, "default", minio.endpoint, home)
    for number in (2, 3):
        name = f"lake.rt.duck{number}"
        connection.execute(
            f"CREATE TABLE {name} (id BIGINT, u UUID, s VARCHAR, t TIMESTAMP) WITH ('format-version'={number})"
        )
        for n in range(3):
            columns = f"range, uuid(), repeat('é', 20) || range, TIMESTAMP '2024-01-0{n + 1}'"
            connection.execute(f"INSERT INTO {name} SELECT {columns} FROM range(50)")
        connection.execute(f"DELETE FROM {name} WHERE id % 5 = {number}")
    connection.close()


@pytest.fixture(scope="module")
def tables(server: Server, minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the directory with tables that PyIceberg, DuckDB and Esker wrote."""
    server.catalog().create_namespace("rt")
    by_pyiceberg(server)
    by_esker(server)
    by_duckdb(server, minio, tmp_path_factory.mktemp("duck"))
    return directory(server.catalog().load_table("rt.esker2").location())


@pytest.mark.slice
def test_what_is_written_anew_says_the_same(tables: Path, tmp_path: Path) -> None:
    check([tables], tmp_path / "out", table=70, view=1, list=40, manifest=40, puffin=1)


def strewn(value: object) -> object:
    """Adds unknown fields to every JSON object, except for maps whose keys are free."""
    match value:
        case dict():
            free = ("properties", "summary", "refs")
            inner = {key: of if key in free else strewn(of) for key, of in value.items()}
            if isinstance(value.get("refs"), dict):
                inner["refs"] = {name: strewn(of) for name, of in value["refs"].items()}
            return {**inner, "unknown": {"a": [2**40, None, {"b": 1.5}], "c": "é"}, "later": None, "more": []}
        case list():
            return [strewn(item) for item in value]
    return value


@pytest.mark.slice
def test_what_nobody_knows_is_kept(tables: Path, tmp_path: Path) -> None:
    crafted = tmp_path / "crafted"
    jobs = []
    for path in [path for path in tables.rglob("*") if path.name.endswith(KINDS)]:
        place = crafted / path.relative_to(tables)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".metadata.json"):
            place.write_text(json.dumps(strewn(json.loads(path.read_bytes()))))
        elif path.name.endswith(".avro"):
            # PyIceberg can't read files with unknown fields of nested types, so only some tables get them.
            nested = "esker" in path.relative_to(tables).parts[0]
            jobs.append({"kind": "craft", "file": str(path), "out": str(place), "nested": nested})
    failed = [answer for answer in java(jobs, tmp_path) if "error" in answer]
    assert failed == []
    check([crafted], tmp_path / "out", table=70, view=1, list=40, manifest=40)


@pytest.mark.slice
def test_metadata_as_it_may_be(tmp_path: Path) -> None:
    check([SAMPLES], tmp_path / "out", table=5, view=1)


def test_what_spark_writes(server: Server, spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.rt_spark")
    for number, deletes, layout in CASES:
        name = f"rt_spark.v{number}_{deletes}_{layout}"
        table = Table(server, spark, name, number, deletes, layout)
        for step in range(2):
            table.mess(deletes, step)
        spark.sql(f"CALL default.system.compute_table_stats('{name}')")
        if layout != "unpartitioned":
            spark.sql(f"CALL default.system.compute_partition_stats('{name}')")
        server.maintain(name, "compact", {"courtesy-seconds": 0, "rewrite-all": True})
        table.insert(5)
        spark.sql(f"CALL default.system.rewrite_manifests('{name}')")
        spark.sql(f"ALTER TABLE {name} CREATE TAG kept RETAIN 30 DAYS")
    spark.sql(f"CREATE VIEW default.rt_spark.view (a COMMENT 'b') AS SELECT id FROM default.{name}")
    where = directory(server.catalog().load_table(name).location())
    check([where], tmp_path / "out", table=300, view=1, list=200, manifest=200, puffin=20)


def fetched(minio: Minio, to: Path) -> Path:
    """Copies the metadata files of the object store. Returns their directory."""
    store = boto3.client("s3", endpoint_url=minio.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET)
    for bucket in store.list_buckets()["Buckets"]:
        for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for key in [found["Key"] for found in page.get("Contents", []) if found["Key"].endswith(KINDS)]:
                place = to / bucket["Name"] / key
                place.parent.mkdir(parents=True, exist_ok=True)
                store.download_file(bucket["Name"], key, str(place))
    return to


def test_every_table_of_this_run(
    server: Server, minio: Minio, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Checks all files that earlier tests left, on disk and in the object store.

    ESKER_ROUND_TRIP may name directories of other runs, as `make soak-hostile` leaves them.
    """
    roots = [path.parent for path in tmp_path_factory.getbasetemp().rglob("esker.log")]
    roots += [Path(place) for place in os.environ.get("ESKER_ROUND_TRIP", "").split(os.pathsep) if place]
    check([*roots, fetched(minio, tmp_path / "minio")], tmp_path / "out")
