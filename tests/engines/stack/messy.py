"""Tables of every format version with deletes of every kind, partitioned or not, evolved or not.

A compaction must not change their rows, and queries must give Spark's answers.
"""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from .esker import Server, rows

DELETES = {1: ["none"], 2: ["none", "position", "equality", "all"], 3: ["none", "vectors", "equality", "all"]}
LAYOUTS = ["unpartitioned", "partitioned", "evolved"]
CASES = [(v, d, layout) for v in DELETES for d, layout in itertools.product(DELETES[v], LAYOUTS)]
SLICE = [(1, "none", "unpartitioned"), (2, "all", "evolved"), (3, "all", "partitioned")]


def cases(chosen: list) -> list:
    name = "v{}-{}-{}".format
    return [pytest.param(*case, id=name(*case), marks=[pytest.mark.slice] if case in SLICE else []) for case in chosen]


class Table:
    """A local table that Spark writes. Iceberg's own library writes equality deletes, as Flink does."""

    def __init__(self, server: Server, spark: SparkSession, name: str, version: int, deletes: str, layout: str) -> None:
        self.server, self.spark, self.name, self.version, self.layout = server, spark, name, version, layout
        self.next, self.measure = 0, "x"
        partitioned = "" if layout == "unpartitioned" else "PARTITIONED BY (p)"
        # A table of version 3 with all kinds of deletes is created as version 2, to get position delete files.
        begin = 2 if (version, deletes) == (3, "all") else version
        self.ask(
            f"CREATE TABLE {name} (id bigint, s string, p int, x double, t struct<a: int, b: array<string>>) "
            "USING iceberg "
            f"{partitioned} TBLPROPERTIES ('format-version'='{begin}', 'write.delete.mode'='merge-on-read')"
        )

    def ask(self, sql: str) -> list[tuple]:
        self.spark.sql("USE default")
        return [tuple(row) for row in self.spark.sql(sql).collect()]

    def insert(self, n: int = 60) -> None:
        start, self.next = self.next, self.next + n
        extra = ("", "") if self.measure == "x" else (", extra", ", cast(id AS int)")
        self.ask(
            f"INSERT INTO {self.name} (id, s, p, {self.measure}, t{extra[0]}) "
            "SELECT id, concat('s', id % 11), cast(id % 3 AS int), if(id % 5 = 0, double('NaN'), id / 7), "
            f"named_struct('a', cast(id AS int), 'b', array('y', null)){extra[1]} FROM range({start}, {start + n})"
        )

    def delete_by_position(self, rest: int) -> None:
        self.ask(f"DELETE FROM {self.name} WHERE id % 13 = {rest}")

    def delete_by_equality(self, ids: list[int]) -> None:
        jvm, gateway = self.spark._jvm, self.spark.sparkContext._gateway
        table = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(
            self.spark._jsparkSession, f"default.{self.name}"
        )
        spec, delta = table.spec(), table.newRowDelta()
        partitions = [None] if spec.isUnpartitioned() else sorted({i % 3 for i in ids})
        ints = gateway.new_array(gateway.jvm.int, 1)
        ints[0] = table.schema().findField("id").fieldId()
        for p in partitions:
            keys = [i for i in ids if p is None or i % 3 == p]
            path = Path(table.location().removeprefix("file://")) / "data" / f"{uuid.uuid4()}-eq.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            field = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": str(ints[0])})
            pq.write_table(pa.table({"id": keys}, schema=pa.schema([field])), path)
            builder = jvm.org.apache.iceberg.FileMetadata.deleteFileBuilder(spec).ofEqualityDeletes(ints)
            builder = builder.withPath(f"file://{path}").withFormat("parquet").withRecordCount(len(keys))
            builder = builder.withFileSizeInBytes(path.stat().st_size)
            if p is not None:
                builder = builder.withPartitionPath(f"p={p}")
            delta.addDeletes(builder.build())
        delta.commit()

    def evolve(self, step: int) -> None:
        if self.layout != "evolved":
            return
        if step == 0:
            self.ask(f"ALTER TABLE {self.name} ADD COLUMN extra int")
            self.ask(f"ALTER TABLE {self.name} RENAME COLUMN x TO measure")
            self.measure = "measure"
        elif step == 1 and self.version > 1:
            self.ask(f"ALTER TABLE {self.name} ADD PARTITION FIELD bucket(2, id)")
            self.ask(f"ALTER TABLE {self.name} DROP PARTITION FIELD p")

    def mess(self, deletes: str, step: int) -> None:
        for _ in range(2):
            self.insert()
        last = self.next - 120
        if deletes in ("position", "vectors", "all"):
            self.delete_by_position(step)
        if step == 0 and (self.version, deletes) == (3, "all"):
            self.ask(f"ALTER TABLE {self.name} SET TBLPROPERTIES ('format-version'='3')")
        # With a bucket partition, equality deletes would need the bucket. So they come before the new spec.
        if deletes in ("equality", "all") and not (self.layout == "evolved" and step >= 2):
            self.delete_by_equality([last + i for i in (1, 2, 3, 50)] + [last - 1])
        self.insert(5)
        self.evolve(step)

    def content(self) -> dict[int, str]:
        """Returns the rows that Spark reads, at present and at snapshots."""
        snapshots = [row[0] for row in self.ask(f"SELECT snapshot_id FROM {self.name}.snapshots ORDER BY committed_at")]
        content = {0: rows(self.ask(f"SELECT * FROM {self.name} ORDER BY id"))}
        # Only the first and the newest snapshots, because reading all thirty takes minutes each time.
        for snapshot in {*snapshots[:1], *snapshots[-7:]}:
            found = self.ask(f"SELECT * FROM {self.name} VERSION AS OF {snapshot} ORDER BY id")
            content[snapshot] = rows(found)
        return content

    def lineage(self) -> list[tuple]:
        sql = f"SELECT id, _row_id, _last_updated_sequence_number FROM {self.name} ORDER BY id"
        return self.ask(sql) if self.version == 3 else []

    def delete_files(self) -> dict[str, int]:
        health = self.server.api("GET", self.server.table(self.name, "/health"))["facts"]
        return {kind: health[kind]["files"] for kind in ("position_deletes", "equality_deletes", "deletion_vectors")}
