"""Spark 3.5 reads what PyIceberg wrote and Esker compacted, and Esker what Spark wrote and deleted, row for row."""

import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from conftest import Server, jar
from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def spark(server: Server):
    runtime = jar("org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.12.0")
    settings = {
        "spark.jars": str(runtime),
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.esker": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.esker.type": "rest",
        "spark.sql.catalog.esker.uri": server.rest,
        "spark.sql.catalog.esker.token": server.token,
        "spark.sql.catalog.esker.token-refresh-enabled": "false",
        "spark.sql.catalog.esker.cache-enabled": "false",
        "spark.sql.defaultCatalog": "esker",
    }
    builder = SparkSession.builder.master("local[2]").appName("esker")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def esker_rows(server: Server, sql: str) -> list[tuple]:
    options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {server.token}"}
    with (
        flight_sql.connect(server.flight, db_kwargs=options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        return cursor.fetchall()


def spark_rows(spark: SparkSession, sql: str) -> list[tuple]:
    return [tuple(row) for row in spark.sql(sql).collect()]


def test_spark_reads_what_pyiceberg_wrote_and_esker_compacted(server: Server, spark: SparkSession) -> None:
    catalog = server.catalog()
    catalog.create_namespace("both")
    data = pa.table(
        {
            "id": pa.array(range(500), pa.int64()),
            "x": [i / 4 for i in range(500)],
            "s": [str(i % 9) for i in range(500)],
        }
    )
    table = catalog.create_table("both.t", data.schema)
    for i in range(8):
        table.append(data.slice(i * 60, 60))
    before = spark_rows(spark, "SELECT * FROM both.t ORDER BY id")
    assert len(before) == 480
    old = catalog.load_table("both.t").current_snapshot().snapshot_id
    assert server.maintain("both.t", "compact")["files_out"] == 1
    assert spark_rows(spark, "SELECT * FROM both.t ORDER BY id") == before
    assert spark_rows(spark, f"SELECT * FROM both.t VERSION AS OF {old} ORDER BY id") == before
    assert esker_rows(server, "SELECT * FROM both.t ORDER BY id") == before
    assert spark_rows(spark, "SELECT count(*) FROM both.t.files") == [(1,)]
    assert spark_rows(spark, "SELECT operation FROM both.t.snapshots ORDER BY committed_at DESC LIMIT 1") == [
        ("replace",)
    ]


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_create_insert_delete_and_time_travel(server: Server, spark: SparkSession, mode: str) -> None:
    name = f"sp.{mode.replace('-', '_')}"
    spark.sql("CREATE NAMESPACE IF NOT EXISTS sp")
    spark.sql(
        f"CREATE TABLE {name} (id bigint, cust string, amount decimal(10,2), ts timestamp) USING iceberg "
        f"PARTITIONED BY (days(ts), bucket(4, cust)) TBLPROPERTIES ('format-version'='2', 'write.delete.mode'='{mode}')"
    )
    for n in range(3):
        spark.sql(
            f"INSERT INTO {name} SELECT id + {n * 1000}, concat('c', id % 7), cast(id AS decimal(10,2)), "
            "timestamp '2026-01-01 00:00:00' + make_interval(0, 0, 0, cast(id % 3 AS int)) FROM range(200)"
        )
    whole = spark_rows(spark, f"SELECT id, cust, amount FROM {name} ORDER BY id")
    snapshot = spark_rows(spark, f"SELECT snapshot_id FROM {name}.snapshots ORDER BY committed_at DESC LIMIT 1")[0][0]
    spark.sql(f"DELETE FROM {name} WHERE id % 10 = 3")
    left = spark_rows(spark, f"SELECT id, cust, amount FROM {name} ORDER BY id")
    assert len(whole) == 600 and len(left) == 540
    assert spark_rows(spark, f"SELECT id, cust, amount FROM {name} VERSION AS OF {snapshot} ORDER BY id") == whole
    assert esker_rows(server, f"SELECT id, cust, amount FROM {name} ORDER BY id") == left

    deletes = server.api("GET", f"/api/v1/namespaces/sp/tables/{name[3:]}/health")["facts"]["position_deletes"]
    assert (deletes["files"] > 0) == (mode == "merge-on-read")
    plan = server.api("POST", f"/api/v1/namespaces/sp/tables/{name[3:]}/compact?dry-run=true", {"min-input-files": 2})
    left_alone = [left["reason"] for left in plan["left_alone"]]
    assert any("deletes apply" in reason for reason in left_alone) == (mode == "merge-on-read")
    server.maintain(name, "compact", {"min-input-files": 2})
    assert spark_rows(spark, f"SELECT id, cust, amount FROM {name} ORDER BY id") == left
    assert esker_rows(server, f"SELECT id, cust, amount FROM {name} ORDER BY id") == left
    reports = server.api("GET", f"/api/v1/namespaces/sp/tables/{name[3:]}/reports")
    assert {"scan-report", "commit-report"} <= {r["report-type"] for r in reports}
