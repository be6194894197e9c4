"""Spark 3.5, and Spark 4 with ESKER_SPARK=4: reads, writes, deletes, branches, views, streaming, server planning."""

import threading
from pathlib import Path

import pyarrow as pa
import pytest
import requests
from pyspark.sql import SparkSession
from stack.esker import Server
from stack.spark import versions

pytestmark = pytest.mark.engine("Spark", versions=versions)


@pytest.fixture
def ask(spark: SparkSession, warehouse: str):
    """Runs a statement in the warehouse. Returns its rows."""

    def run(sql: str) -> list[tuple]:
        spark.sql(f"USE {warehouse}")
        return [tuple(row) for row in spark.sql(sql).collect()]

    return run


@pytest.mark.slice
def test_spark_reads_what_pyiceberg_wrote_and_esker_compacted(server: Server, warehouse: str, ask) -> None:
    catalog = server.catalog(warehouse)
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
    before = ask("SELECT * FROM both.t ORDER BY id")
    assert len(before) == 480
    old = catalog.load_table("both.t").current_snapshot().snapshot_id
    assert server.maintain("both.t", "compact", warehouse=warehouse)["files_out"] == 1
    assert ask("SELECT * FROM both.t ORDER BY id") == before
    assert ask(f"SELECT * FROM both.t VERSION AS OF {old} ORDER BY id") == before
    assert server.sql(f"SELECT * FROM {warehouse}.both.t ORDER BY id") == before
    assert ask("SELECT count(*) FROM both.t.files") == [(1,)]
    assert ask("SELECT operation FROM both.t.snapshots ORDER BY committed_at DESC LIMIT 1") == [("replace",)]


@pytest.mark.slice
@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_create_insert_delete_and_time_travel(server: Server, warehouse: str, ask, mode: str) -> None:
    name = f"sp.{mode.replace('-', '_')}"
    ask("CREATE NAMESPACE IF NOT EXISTS sp")
    ask(
        f"CREATE TABLE {name} (id bigint, cust string, amount decimal(10,2), ts timestamp) USING iceberg "
        f"PARTITIONED BY (days(ts), bucket(4, cust)) TBLPROPERTIES ('format-version'='2', 'write.delete.mode'='{mode}')"
    )
    for n in range(3):
        ask(
            f"INSERT INTO {name} SELECT id + {n * 1000}, concat('c', id % 7), cast(id AS decimal(10,2)), "
            "timestamp '2026-01-01 00:00:00' + make_interval(0, 0, 0, cast(id % 3 AS int)) FROM range(200)"
        )
    whole = ask(f"SELECT id, cust, amount FROM {name} ORDER BY id")
    snapshot = ask(f"SELECT snapshot_id FROM {name}.snapshots ORDER BY committed_at DESC LIMIT 1")[0][0]
    ask(f"DELETE FROM {name} WHERE id % 10 = 3")
    left = ask(f"SELECT id, cust, amount FROM {name} ORDER BY id")
    assert len(whole) == 600 and len(left) == 540
    assert ask(f"SELECT id, cust, amount FROM {name} VERSION AS OF {snapshot} ORDER BY id") == whole
    assert server.sql(f"SELECT id, cust, amount FROM {warehouse}.{name} ORDER BY id") == left

    deletes = server.api("GET", server.table(name, "/health", warehouse))["facts"]["position_deletes"]
    assert (deletes["files"] > 0) == (mode == "merge-on-read")
    plan = server.api("POST", server.table(name, "/compact?dry-run=true", warehouse), {"min-input-files": 2})
    left_alone = [left["reason"] for left in plan["left_alone"]]
    assert plan["groups"] == [] and all("rows were changed" in reason for reason in left_alone), "a DELETE just ended"
    done = server.maintain(name, "compact", {"min-input-files": 2, "courtesy-seconds": 0}, warehouse)
    assert (done["deleted_records"] > 0) == (mode == "merge-on-read")
    assert ask(f"SELECT id, cust, amount FROM {name} ORDER BY id") == left
    assert server.sql(f"SELECT id, cust, amount FROM {warehouse}.{name} ORDER BY id") == left
    reports = server.api("GET", server.table(name, "/reports", warehouse))
    assert {"scan-report", "commit-report"} <= {r["report-type"] for r in reports}


@pytest.mark.slice
def test_the_server_plans_the_scan(server: Server, spark: SparkSession, warehouse: str, ask) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS planned_s")
    ask(
        "CREATE TABLE planned_s.t (id bigint, day date) USING iceberg PARTITIONED BY (day) "
        "TBLPROPERTIES ('format-version'='2', 'write.delete.mode'='merge-on-read')"
    )
    for day in range(1, 4):
        ask(f"INSERT INTO planned_s.t SELECT id, date '2026-01-0{day}' FROM range({day * 100}, {day * 100 + 50})")
    ask("DELETE FROM planned_s.t WHERE id = 210")
    expected = ask("SELECT * FROM planned_s.t WHERE day = date '2026-01-02' AND id < 230 ORDER BY id")
    count = plan_calls(server)
    name = f"{warehouse}_planned"
    for key, value in spark.sparkContext.getConf().getAll():
        if key == f"spark.sql.catalog.{warehouse}" or key.startswith(f"spark.sql.catalog.{warehouse}."):
            spark.conf.set(key.replace(f".{warehouse}", f".{name}", 1), value)
    spark.conf.set(f"spark.sql.catalog.{name}.scan-planning-mode", "server")
    sql = f"SELECT * FROM {name}.planned_s.t WHERE day = date '2026-01-02' AND id < 230 ORDER BY id"
    assert [tuple(row) for row in spark.sql(sql).collect()] == expected
    assert len(expected) == 29, "one of thirty is deleted"
    assert plan_calls(server) > count, "the plan came from the server"


def plan_calls(server: Server) -> float:
    headers = {"authorization": f"Bearer {server.token}"}
    lines = requests.get(f"{server.rest}/metrics", headers=headers, timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if "_count" in line and '/plan"' in line)


@pytest.mark.slice
def test_views_names_and_nested_namespaces(server: Server, warehouse: str, ask) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS outer_s")
    ask("CREATE NAMESPACE outer_s.`in ner`")
    ask("CREATE TABLE outer_s.`in ner`.`t+1 é` (id bigint) USING iceberg")
    ask("INSERT INTO outer_s.`in ner`.`t+1 é` VALUES (1), (2)")
    assert ask("SHOW NAMESPACES IN outer_s") == [("outer_s.`in ner`",)]
    assert ask("SHOW TABLES IN outer_s.`in ner`")[0][1] == "t+1 é"
    ask("CREATE VIEW outer_s.v AS SELECT id * 2 AS twice FROM outer_s.`in ner`.`t+1 é`")
    assert sorted(ask("SELECT * FROM outer_s.v")) == [(2,), (4,)]
    ask("CREATE OR REPLACE VIEW outer_s.v AS SELECT id * 3 AS thrice FROM outer_s.`in ner`.`t+1 é`")
    assert sorted(ask("SELECT thrice FROM outer_s.v")) == [(3,), (6,)]
    ask("DROP VIEW outer_s.v")
    assert server.catalog(warehouse).list_views("outer_s") == []


def test_branches_tags_and_write_audit_publish(server: Server, spark: SparkSession, warehouse: str, ask) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS wap_s")
    ask("CREATE TABLE wap_s.t (id bigint) USING iceberg TBLPROPERTIES ('write.wap.enabled'='true')")
    ask("INSERT INTO wap_s.t VALUES (1)")
    ask("ALTER TABLE wap_s.t CREATE BRANCH audit")
    ask("INSERT INTO wap_s.t.branch_audit VALUES (2)")
    assert ask("SELECT * FROM wap_s.t") == [(1,)]
    refs = server.table("wap_s.t", "/refs", warehouse)
    server.api("POST", refs, {"action": "create-tag", "name": "before"})
    server.api("POST", refs, {"action": "fast-forward", "branch": "main", "to": "audit"})
    assert sorted(ask("SELECT * FROM wap_s.t")) == [(1,), (2,)]
    assert ask("SELECT * FROM wap_s.t VERSION AS OF 'before'") == [(1,)]

    for wap_id, value in [("load-1", 3), ("load-2", 4)]:
        spark.conf.set("spark.wap.id", wap_id)
        ask(f"INSERT INTO wap_s.t VALUES ({value})")
    spark.conf.unset("spark.wap.id")
    assert sorted(ask("SELECT * FROM wap_s.t")) == [(1,), (2,)], "staged, not published"
    # The first publish is a fast-forward. Then main has moved, so the second is repeated as a new append.
    server.api("POST", refs, {"action": "publish", "wap-id": "load-1"})
    server.api("POST", refs, {"action": "publish", "wap-id": "load-2"})
    assert sorted(ask("SELECT * FROM wap_s.t")) == [(1,), (2,), (3,), (4,)]
    headers = {"authorization": f"Bearer {server.token}"}
    again = {"action": "publish", "wap-id": "load-2"}
    assert requests.post(server.rest + refs, headers=headers, json=again, timeout=10).status_code == 422
    snapshot = server.api("GET", refs)["refs"]["before"]["snapshot-id"]
    server.api("POST", refs, {"action": "rollback", "snapshot-id": snapshot})
    assert ask("SELECT * FROM wap_s.t") == [(1,)]


def test_structured_streaming_goes_on_after_a_restart(spark: SparkSession, warehouse: str, ask, tmp_path: Path) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS stream_s")
    ask("CREATE TABLE stream_s.source (id bigint) USING iceberg")
    ask("CREATE TABLE stream_s.sink (id bigint) USING iceberg")

    def run() -> None:
        stream = spark.readStream.format("iceberg").load(f"{warehouse}.stream_s.source")
        query = (
            stream.writeStream.format("iceberg")
            .outputMode("append")
            .option("checkpointLocation", str(tmp_path))
            .trigger(availableNow=True)
            .toTable(f"{warehouse}.stream_s.sink")
        )
        query.awaitTermination(120)

    ask("INSERT INTO stream_s.source SELECT id FROM range(100)")
    run()
    assert ask("SELECT count(*), sum(id) FROM stream_s.sink") == [(100, 4950)]
    ask("INSERT INTO stream_s.source SELECT id FROM range(100, 150)")
    run()
    assert ask("SELECT count(*), count(DISTINCT id) FROM stream_s.sink") == [(150, 150)], "each row once"


def test_two_engines_write_one_table_at_once(server: Server, warehouse: str, ask) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS two_s")
    ask("CREATE TABLE two_s.t (id bigint) USING iceberg TBLPROPERTIES ('commit.retry.num-retries'='20')")
    failures = []

    def pyiceberg() -> None:
        try:
            for i in range(8):
                for attempt in range(30):
                    try:
                        table = server.catalog(warehouse).load_table("two_s.t")
                        table.append(pa.table({"id": pa.array([1000 + i], pa.int64())}))
                        break
                    except Exception:
                        if attempt == 29:
                            raise
        except Exception as e:
            failures.append(e)

    other = threading.Thread(target=pyiceberg)
    other.start()
    for i in range(8):
        ask(f"INSERT INTO two_s.t VALUES ({i})")
    other.join()
    assert failures == []
    assert sorted(ask("SELECT id FROM two_s.t")) == [(i,) for i in [*range(8), *range(1000, 1008)]]


def test_a_dropped_table_comes_back(server: Server, warehouse: str, ask) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS back_s")
    ask("CREATE TABLE back_s.t (id bigint) USING iceberg")
    ask("INSERT INTO back_s.t VALUES (7)")
    ask("DROP TABLE back_s.t")
    assert ask("SHOW TABLES IN back_s") == []
    dropped = server.api("GET", f"/api/v1/warehouses/{warehouse}/dropped")
    table_id = next(d["table-id"] for d in dropped if d["table"] == "back_s.t")
    server.api("POST", f"/api/v1/warehouses/{warehouse}/dropped/{table_id}/undrop", {})
    assert ask("SELECT * FROM back_s.t") == [(7,)]


@pytest.mark.slice
def test_distinct_values_that_esker_counted_reach_the_planner(
    server: Server, spark: SparkSession, warehouse: str, ask
) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS stats_s")
    ask("CREATE TABLE stats_s.t (k bigint, s string) USING iceberg TBLPROPERTIES ('format-version'='2')")
    ask("INSERT INTO stats_s.t SELECT id, concat('x', id % 1000) FROM range(50000)")
    ask("DELETE FROM stats_s.t WHERE s = 'x7'")
    spark.conf.set("spark.sql.cbo.enabled", "true")
    try:

        def plan() -> str:
            return ask("EXPLAIN COST SELECT * FROM stats_s.t WHERE s = 'x5'")[0][0]

        before = plan()
        outcome = server.maintain("stats_s.t", "statistics", warehouse=warehouse)
        assert outcome["records"] == 49_950
        assert outcome["distinct"]["s"] == 999
        ask("REFRESH TABLE stats_s.t")
        after = plan()
        # 49,950 rows have 999 values, 50 rows each. Iceberg's other statistics for Spark (no count of nulls, no bounds
        # of numbers) are not enough to estimate a GROUP BY.
        assert "rowCount=51)" in after or "rowCount=50)" in after, after
        assert "rowCount=51)" not in before and "rowCount=50)" not in before, before
    finally:
        spark.conf.unset("spark.sql.cbo.enabled")


@pytest.mark.slice
def test_partition_statistics_that_esker_wrote_are_read_by_iceberg(
    server: Server, spark: SparkSession, warehouse: str, ask
) -> None:
    ask("CREATE NAMESPACE IF NOT EXISTS stats_s")
    ask(
        "CREATE TABLE stats_s.p (k bigint, d date) USING iceberg PARTITIONED BY (months(d)) "
        "TBLPROPERTIES ('format-version'='2', 'write.delete.mode'='merge-on-read')"
    )
    ask("INSERT INTO stats_s.p SELECT id, date_add(DATE '2024-01-01', cast(id % 59 AS int)) FROM range(590)")
    ask("ALTER TABLE stats_s.p ADD PARTITION FIELD bucket(4, k)")
    ask("INSERT INTO stats_s.p SELECT id, DATE '2024-03-05' FROM range(1000, 1100)")
    ask("DELETE FROM stats_s.p WHERE k < 10")
    assert server.maintain("stats_s.p", "statistics", warehouse=warehouse)["partitions_path"]
    jvm, catalog = spark._jvm, ask("SELECT current_catalog()")[0][0]
    ask("REFRESH TABLE stats_s.p")
    table = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, f"{catalog}.stats_s.p")
    found = table.newPartitionStatisticsScan().scan().iterator()
    rows = []
    while found.hasNext():
        row = found.next()
        assert row.lastUpdatedAt() is not None
        rows.append((row.specId(), row.dataRecordCount(), row.positionDeleteRecordCount()))
    theirs = ask("SELECT spec_id, record_count, position_delete_record_count FROM stats_s.p.partitions")
    assert sorted(rows) == sorted(tuple(row) for row in theirs)
    assert sum(row[1] for row in rows) == 690
