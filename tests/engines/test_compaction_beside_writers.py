"""Compactions in a loop while writers never stop.

Flink's upserts commute with a compaction. It leaves the partitions alone that Spark's MERGE changes. No writer fails,
every group is committed, and at the end the table has the rows that the writers wrote.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from pyspark.sql import SparkSession
from stack.esker import Server
from stack.flink import Flink

SECONDS = int(os.environ.get("ESKER_BESIDE_SECONDS", "60"))
RATE = 400


class Compactions(threading.Thread):
    """Compacts a table again and again until it is stopped."""

    def __init__(self, server: Server, table: str, options: dict) -> None:
        super().__init__()
        self.server, self.table, self.options = server, table, options
        self.ended, self.outcomes, self.error = threading.Event(), [], None
        self.start()

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                self.outcomes.append(self.server.maintain(self.table, "compact", self.options))
                time.sleep(0.5)
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.ended.set()
        self.join()
        if self.error:
            raise self.error

    def sum(self, key: str) -> int:
        return sum(outcome[key] for outcome in self.outcomes)


def test_flink_upserts_go_on_and_every_group_lands(server: Server, tmp_path: Path) -> None:
    flink = Flink(server, tmp_path)
    table = "`default`.beside.upserts"
    flink.run(
        f"CREATE DATABASE `default`.beside;\nCREATE TABLE {table} (id BIGINT NOT NULL, n BIGINT, "
        "PRIMARY KEY (id) NOT ENFORCED) WITH ('format-version'='2', 'write.upsert.enabled'='true');\n"
    )
    last = SECONDS * RATE - 1
    compactions = Compactions(server, "beside.upserts", {"min-input-files": 2})
    try:
        flink.run(
            "CREATE TEMPORARY TABLE default_catalog.default_database.src (n BIGINT) WITH ('connector'='datagen', "
            f"'rows-per-second'='{RATE}', 'fields.n.kind'='sequence', 'fields.n.start'='0', 'fields.n.end'='{last}');\n"
            f"INSERT INTO {table} SELECT MOD(n, 500), n FROM default_catalog.default_database.src;\n"
        )
    finally:
        compactions.stop()
    assert compactions.sum("groups") > 3 and compactions.sum("deleted_records") > 0
    assert [outcome["refused"] for outcome in compactions.outcomes if outcome["refused"]] == [], "every group lands"
    # The last number of each of 500 keys.
    numbers = range(last - 499, last + 1)
    expected = [(500, 500, min(numbers), sum(numbers))]
    query = "SELECT count(*), count(DISTINCT id), min(n), sum(n) FROM beside.upserts"
    assert server.sql(query) == expected
    found, _ = flink.run(f"SELECT COUNT(*), COUNT(DISTINCT id), MIN(n), SUM(n) FROM {table};\n", "batch")
    assert found == [f"+I[{', '.join(map(str, expected[0]))}]"]
    print(f"{len(compactions.outcomes)} compactions of {compactions.sum('files_in')} files")


def merges(spark: SparkSession, name: str, seconds: int) -> tuple[int, int, dict[int, int]]:
    """Runs MERGE on two partitions and appends to others for some seconds. Returns tries, successes and rows."""
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.beside")
    spark.sql(
        f"CREATE TABLE default.beside.{name} (id bigint, p int, n bigint) USING iceberg PARTITIONED BY (p) "
        "TBLPROPERTIES ('format-version'='2', 'write.merge.mode'='merge-on-read', 'commit.retry.num-retries'='4')"
    )
    spark.sql(f"INSERT INTO default.beside.{name} SELECT id, cast(id % 6 AS int), 0 FROM range(3000)")
    model = dict.fromkeys(range(3000), 0)
    tries = done = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        tries += 1
        partition, rest = tries % 2, tries % 50
        new = 10_000 + tries * 6 + partition
        try:
            spark.sql(
                f"MERGE INTO default.beside.{name} t USING (SELECT id, {tries} AS n FROM range(3000) "
                f"WHERE id % 6 = {partition} AND id % 50 = {rest} UNION ALL SELECT {new}, {tries}) s "
                f"ON t.id = s.id AND t.p = {partition} WHEN MATCHED THEN UPDATE SET n = s.n "
                f"WHEN NOT MATCHED THEN INSERT (id, p, n) VALUES (s.id, {partition}, s.n)"
            )
        except Exception as error:
            print(f"MERGE {tries}: {str(error)[:300]}")
            continue
        done += 1
        model |= {i: tries for i in range(3000) if i % 6 == partition and i % 50 == rest}
        model[new] = tries
        start = 1_000_000 + tries * 60
        spark.sql(
            f"INSERT INTO default.beside.{name} SELECT id, cast(2 + id % 4 AS int), 1 FROM range({start}, {start + 20})"
        )
        model |= dict.fromkeys(range(start, start + 20), 1)
    return tries, done, model


def test_merges_succeed_as_often_as_alone(server: Server, spark: SparkSession) -> None:
    tries, done, _ = merges(spark, "alone", SECONDS // 2)
    alone = done / tries
    compactions = None

    def begin() -> None:
        nonlocal compactions
        time.sleep(5)
        compactions = Compactions(server, "beside.together", {"min-input-files": 3, "courtesy-seconds": 5})

    beginning = threading.Thread(target=begin)
    beginning.start()
    tries, done, model = merges(spark, "together", SECONDS)
    beginning.join()
    compactions.stop()
    print(f"MERGE alone {alone:.1%}; beside {len(compactions.outcomes)} compactions {done} of {tries}")
    assert compactions.sum("groups") > 3, "partitions at rest were compacted"
    assert done / tries >= alone - 0.05
    assert dict(server.sql("SELECT id, n FROM beside.together")) == model
    assert {row[0]: row[1] for row in spark.sql("SELECT id, n FROM default.beside.together").collect()} == model
