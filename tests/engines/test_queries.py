"""Esker's SQL gives the answers of other engines.

TPC-H and TPC-DS are compared with DuckDB. Random queries over tables with deletes of every kind and evolution, at the
present and at older snapshots, are compared with Spark. Other engines read Esker's changes of tables.
"""

from __future__ import annotations

import os
import random
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import duckdb
import pytest
from stack import tpcds, tpch
from stack.esker import Server
from stack.messy import CASES, Table, cases

pytestmark = [pytest.mark.engine("DuckDB", versions=lambda: {"DuckDB": version("duckdb")})]

QUERIES = int(os.environ.get("ESKER_QUERIES", "25"))


@pytest.mark.slice
def test_tpch_answers_are_duckdbs(server: Server, warehouse: str, tmp_path: Path) -> None:
    scale = float(os.environ.get("ESKER_TPCH_SCALE", "0.05"))
    reference = tpch.generated(scale, tmp_path)
    tpch.load(reference, server.catalog(warehouse), "tpch", 100_000)
    for number, sql in tpch.queries(reference):
        ours = server.sql(tpch.qualified(sql, f"{warehouse}.tpch."))
        assert tpch.same(ours, reference.execute(sql).fetchall()), f"Q{number}"


def rough(row: tuple) -> str:
    """Formats a row with numbers rounded, as types differ in their last digits."""
    return str([f"{value:.6g}" if isinstance(value, (float, Decimal)) else value for value in row])


def tpcds_answers_are_duckdbs(server: Server, home: Path, scale: float, only: set[int] | None) -> None:
    namespace = f"tpcds{str(scale).replace('.', '_')}"
    reference = tpcds.generated(scale, home)
    tpch.load(reference, server.catalog(), namespace, 100_000, tpcds.TABLES)
    wrong = []
    for number, sql in tpcds.queries(reference):
        if only is None or number in only:
            try:
                ours = server.sql(tpch.qualified(sql, f"{namespace}.", tpcds.TABLES))
            except Exception as error:
                wrong.append(f"Q{number}: {str(error)[:300]}")
                continue
            # Rows with equal sort keys may come in any order.
            ours, theirs = sorted(ours, key=rough), sorted(reference.execute(sql).fetchall(), key=rough)
            if not tpch.same(ours, theirs):
                more, less = [r for r in ours if r not in theirs], [r for r in theirs if r not in ours]
                wrong.append(f"Q{number}: {more[:2]}, not {less[:2]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slice
def test_some_tpcds_answers_are_duckdbs(server: Server, tmp_path: Path) -> None:
    tpcds_answers_are_duckdbs(server, tmp_path, 0.01, {1, 5, 14, 36, 51, 67, 71, 95, 98})


def test_tpcds_answers_are_duckdbs(server: Server, tmp_path: Path) -> None:
    tpcds_answers_are_duckdbs(server, tmp_path, float(os.environ.get("ESKER_TPCDS_SCALE", "0.1")), None)


def predicate(pick: random.Random, table: Table) -> str:
    measure, low = table.measure, pick.randrange(max(table.next, 1))
    simple = [
        f"id BETWEEN {low} AND {low + pick.randrange(100)}",
        f"id IN ({low}, {low + 1}, {low + 13})",
        f"id % {pick.randrange(2, 9)} = 1",
        f"s = 's{pick.randrange(12)}'",
        f"s LIKE 's{pick.randrange(2)}%'",
        f"s >= 's{pick.randrange(10)}'",
        f"p = {pick.randrange(4)}",
        "p IN (0, 2)",
        # Spark orders NaN above all numbers, but prunes with Iceberg's metrics, which ignore NaN.
        f"{measure} > {pick.randrange(20)} AND NOT isnan({measure})",
        f"{measure} < {pick.randrange(20)} AND NOT isnan({measure})",
        f"{measure} IS NULL",
        f"t.a < {low}",
    ]
    if measure == "measure":
        simple += ["extra IS NULL", f"extra > {low}"]
    a, b = pick.choice(simple), pick.choice(simple)
    return pick.choice([a, f"NOT ({a})", f"({a}) AND ({b})", f"({a}) OR ({b})"])


def query(pick: random.Random, table: Table, version: str) -> str:
    source = f"{table.name}{version} AS q WHERE ({predicate(pick, table)})"
    return pick.choice(
        [
            f"SELECT count(*), min(id), max(id), sum(p) FROM {source}",
            f"SELECT s, count(*), min({table.measure}), max(t.a) FROM {source} GROUP BY s ORDER BY s NULLS FIRST",
            f"SELECT id, s, p, {table.measure}, t.a FROM {source} ORDER BY id LIMIT {pick.randrange(1, 40)}",
            f"SELECT id FROM {source} ORDER BY id DESC LIMIT 5",
            f"SELECT p, sum(id) FROM {source} GROUP BY p HAVING count(*) > 2 ORDER BY p",
            f"SELECT count(DISTINCT s) FROM {source} AND id IN (SELECT max(id) FROM {table.name} GROUP BY p)",
        ]
    )


@pytest.mark.parametrize("version,deletes,layout", cases(CASES))
def test_random_queries_are_answered_as_spark_does(
    server: Server, spark, version: int, deletes: str, layout: str
) -> None:
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.qry")
    table = Table(server, spark, f"qry.v{version}_{deletes}_{layout}", version, deletes, layout)
    pick = random.Random(f"{version} {deletes} {layout}")
    for step in range(3):
        table.mess(deletes, step)
        for _ in range(QUERIES):
            sql = query(pick, table, "")
            assert tpch.same(server.sql(sql), table.ask(sql)), sql
    # Older snapshots are read with their own schema, so only columns of all schemas are used.
    columns = "count(*), min(id), max(id), count(DISTINCT s), sum(p), sum(t.a)"
    for (snapshot,) in table.ask(f"SELECT snapshot_id FROM {table.name}.snapshots"):
        sql = f"SELECT {columns} FROM {table.name} VERSION AS OF {snapshot}"
        assert tpch.same(server.sql(sql), table.ask(sql)), sql


@pytest.mark.slice
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("layout", ["unpartitioned", "partitioned"])
def test_what_sql_changes_reads_the_same_in_spark(server: Server, spark, version: int, layout: str) -> None:
    name = f"chg.v{version}_{layout}"
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.chg")
    by = "PARTITIONED BY (p, bucket(2, id))" if layout == "partitioned" else ""
    spark.sql(
        f"CREATE TABLE default.{name} (id bigint, p int, s string, d decimal(9,2), day date) USING iceberg {by} "
        f"TBLPROPERTIES ('format-version'='{version}')"
    )
    model = duckdb.connect()
    model.execute("CREATE TABLE t (id BIGINT, p INT, s VARCHAR, d DECIMAL(9,2), day DATE)")
    pick, last = random.Random(f"{version} {layout}"), 0
    for _ in range(14):
        a, b = pick.randrange(2, 9), pick.randrange(3)
        statements = [
            "INSERT INTO {t} SELECT i, CAST(i % 3 AS INT), 's' || i, CAST(i / 7.0 AS DECIMAL(9,2)), "
            f"DATE '2026-01-01' FROM (SELECT unnest({[last + i for i in range(30)]}) AS i)",
            f"INSERT INTO {{t}} (id, s) VALUES ({last}, NULL), ({last + 1}, 'two')",
            f"DELETE FROM {{t}} WHERE id % {a} = 1",
            "DELETE FROM {t} WHERE id IN (SELECT max(id) FROM {t} GROUP BY p)",
            f"UPDATE {{t}} SET s = s || '!', p = {b} WHERE id % {a} = 0",
            "UPDATE {t} SET d = d + 1, day = DATE '2027-02-03' WHERE p IS NULL OR p = 1",
        ]
        statement = pick.choice(statements[:1] + statements)
        last += 30 if statement.startswith("INSERT") else 0
        ours = server.sql(statement.replace("{t}", name))
        theirs = model.execute(statement.replace("{t}", "t")).fetchall()
        assert ours == theirs, statement
        everything = "SELECT id, p, s, d, day FROM {} ORDER BY id, s"
        expected = model.execute(everything.format("t")).fetchall()
        assert tpch.same(server.sql(everything.format(name)), expected), statement
    assert tpch.same([tuple(row) for row in spark.sql(everything.format(f"default.{name}")).collect()], expected)
    if version == 3:
        ids = [row[0] for row in spark.sql(f"SELECT _row_id FROM default.{name}").collect()]
        assert len(set(ids)) == len(ids) and None not in ids, "every row has an id of its own"


@pytest.mark.slice
def test_views_of_spark_and_trino_are_read_where_their_dialect_is_understood(server: Server, spark, trino) -> None:
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.vw")
    spark.sql("CREATE TABLE default.vw.t (id bigint, s string) USING iceberg")
    spark.sql("INSERT INTO default.vw.t VALUES (1, 'a'), (2, 'b'), (3, NULL)")
    spark.sql(
        "CREATE VIEW default.vw.sparks (number, `text`) AS SELECT id * 2, upper(s) FROM default.vw.t WHERE id < 3"
    )
    trino.ask("CREATE VIEW vw.trinos AS SELECT count(*) AS n, max(s) AS m FROM vw.t")
    assert server.sql("SELECT * FROM vw.sparks ORDER BY number") == [(2, "A"), (4, "B")]
    assert server.sql("SELECT n, m FROM vw.trinos") == [(3, "b")]
    spark.sql("CREATE VIEW default.vw.odd AS SELECT transform(array(id), x -> x + 1) AS a FROM default.vw.t")
    with pytest.raises(Exception, match="vw.odd"):
        server.sql("SELECT * FROM vw.odd")


@pytest.mark.slice
def test_system_and_metadata_tables_and_a_second_run_that_reads_nothing(server: Server, warehouse: str) -> None:
    catalog = server.catalog(warehouse)
    catalog.create_namespace("sysq")
    server.sql(
        f"CREATE TABLE {warehouse}.sysq.t AS SELECT value AS id, 'v' || value AS s FROM generate_series(1, 5000)"
    )
    server.sql(f"DELETE FROM {warehouse}.sysq.t WHERE id % 10 = 0")
    t = f'{warehouse}.sysq."t$'
    assert server.sql(f'SELECT operation FROM {t}snapshots" ORDER BY committed_at') == [("append",), ("delete",)]
    first = server.sql(f'SELECT snapshot_id FROM {t}history" ORDER BY made_current_at LIMIT 1')[0][0]
    assert server.sql(f"SELECT count(*) FROM {warehouse}.sysq.t FOR VERSION AS OF {first}") == [(5000,)]
    assert server.sql(f'SELECT content, record_count FROM {t}files" ORDER BY content') == [(0, 5000), (1, 500)]
    with pytest.raises(Exception, match="no snapshot, branch or tag nope"):
        server.sql(f"SELECT * FROM {warehouse}.sysq.t FOR VERSION AS OF 'nope'")
    found = server.sql(f"SELECT records, delete_files FROM {warehouse}.system.tables WHERE namespace = 'sysq'")
    assert found == [(5000, 1)]
    for _ in range(2):
        assert server.sql(f"SELECT count(*), sum(id), max(s) FROM {warehouse}.sysq.t")[0][0] == 4500
    again = server.sql(
        "SELECT requests, bytes_cached, rows_deleted FROM system.queries WHERE sql LIKE '%sum(id)%' ORDER BY id DESC"
    )
    assert again[0][0] == 0 and again[0][1] > 0 and again[0][2] == 500, "the second run asks the store for nothing"
