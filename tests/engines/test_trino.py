"""Trino reads, writes, deletes, merges and optimises tables. Spark reads Trino's views, and Trino Spark's."""

import pyarrow as pa
import pytest
from stack.esker import Server, rows
from stack.minio import Minio
from stack.spark import spark_session
from stack.trino import VERSION, Trino

pytestmark = pytest.mark.engine("Trino", versions=lambda: {"Trino": VERSION, "Java": "25", "Iceberg": "bundled"})


@pytest.mark.slice
def test_a_table_lives_a_whole_life(server: Server, trino: Trino, warehouse: str) -> None:
    def ask(sql: str) -> list[tuple]:
        return trino.ask(sql, warehouse)

    ask("CREATE SCHEMA tr")
    ask(
        "CREATE TABLE tr.orders (id bigint, cust varchar, amount decimal(10,2), ts timestamp(6) with time zone) "
        "WITH (format_version = 2, partitioning = ARRAY['day(ts)', 'bucket(cust, 4)'])"
    )
    ask(
        "INSERT INTO tr.orders SELECT n, 'c' || cast(n % 5 AS varchar), cast(n AS decimal(10,2)), "
        "timestamp '2026-01-01 00:00:00 UTC' + (n % 3) * interval '1' day FROM unnest(sequence(1, 300)) t(n)"
    )
    ask("DELETE FROM tr.orders WHERE id % 10 = 1")
    ask("UPDATE tr.orders SET amount = amount + 1 WHERE id = 2")
    ask(
        "MERGE INTO tr.orders t USING (VALUES (3, 99), (1000, 60)) s(id, amount) ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET amount = s.amount "
        "WHEN NOT MATCHED THEN INSERT (id, cust, amount, ts) VALUES (s.id, 'new', s.amount, current_timestamp)"
    )
    query = "SELECT id, cust, amount FROM {}tr.orders ORDER BY id"
    left = ask(query.format(""))
    assert len(left) == 271
    assert rows(server.sql(query.format(f"{warehouse}."))) == rows(left)
    assert len(server.catalog(warehouse).load_table("tr.orders").scan().to_arrow()) == 271
    ask("ALTER TABLE tr.orders ADD COLUMN note varchar")
    ask("ALTER TABLE tr.orders RENAME COLUMN note TO remark")
    ask("ALTER TABLE tr.orders EXECUTE optimize")
    assert rows(ask(query.format(""))) == rows(left)
    ask("ANALYZE tr.orders")
    assert ask('SELECT count(*) FROM tr."orders$snapshots"')[0][0] >= 5
    ask("CREATE TABLE tr.copy AS SELECT * FROM tr.orders")
    ask("ALTER TABLE tr.copy RENAME TO tr.copied")
    assert ask("SELECT count(*) FROM tr.copied") == [(271,)]
    ask("DROP TABLE tr.copied")
    assert ask("SHOW TABLES FROM tr") == [("orders",)]


@pytest.mark.slice
def test_views_and_nested_namespaces(server: Server, trino: Trino, warehouse: str) -> None:
    trino.ask("CREATE SCHEMA tr_views", warehouse)
    trino.ask('CREATE SCHEMA "tr_views.inner"', warehouse)
    trino.ask('CREATE TABLE "tr_views.inner".t AS SELECT * FROM (VALUES 1, 2, 3) v(id)', warehouse)
    trino.ask('CREATE VIEW tr_views.big AS SELECT id FROM "tr_views.inner".t WHERE id > 1', warehouse)
    assert sorted(trino.ask("SELECT * FROM tr_views.big", warehouse)) == [(2,), (3,)]
    trino.ask('CREATE OR REPLACE VIEW tr_views.big AS SELECT id FROM "tr_views.inner".t WHERE id > 2', warehouse)
    assert trino.ask("SELECT * FROM tr_views.big", warehouse) == [(3,)]
    assert server.catalog(warehouse).list_views("tr_views") == [("tr_views", "big")]


def test_views_and_tables_go_across_spark_and_trino(server: Server, minio: Minio, trino: Trino, warehouse: str) -> None:
    spark = spark_session(server, minio.endpoint)
    spark.sql(f"USE {warehouse}")
    spark.sql("CREATE NAMESPACE IF NOT EXISTS across")
    spark.sql("CREATE TABLE across.t (id bigint, s string) USING iceberg")
    spark.sql("INSERT INTO across.t VALUES (1, 'spark')")
    trino.ask("INSERT INTO across.t VALUES (2, 'trino')", warehouse)
    expected = [(1, "spark"), (2, "trino")]
    assert trino.ask("SELECT * FROM across.t ORDER BY id", warehouse) == expected
    assert [tuple(r) for r in spark.sql("SELECT * FROM across.t ORDER BY id").collect()] == expected
    # The view has one text for each dialect. Each engine adds its own to the view of the other.
    spark.sql("CREATE VIEW across.v AS SELECT id FROM across.t WHERE s = 'spark'")
    view = server.api("GET", f"/v1/{warehouse}/namespaces/across/views/v")["metadata"]
    version = dict(view["versions"][-1], **{"version-id": 2})
    version["representations"] = [
        *version["representations"],
        {"type": "sql", "sql": f"SELECT id FROM \"{warehouse}\".across.t WHERE s = 'spark'", "dialect": "trino"},
    ]
    updates = [
        {"action": "add-view-version", "view-version": version},
        {"action": "set-current-view-version", "view-version-id": -1},
    ]
    server.api("POST", f"/v1/{warehouse}/namespaces/across/views/v", {"requirements": [], "updates": updates})
    assert [tuple(r) for r in spark.sql("SELECT * FROM across.v").collect()] == [(1,)]
    assert trino.ask("SELECT * FROM across.v", warehouse) == [(1,)]


def test_missing_things_are_missing_in_words(trino: Trino, warehouse: str) -> None:
    for sql, words in [
        ("SELECT * FROM nowhere.t", "Schema 'nowhere' does not exist"),
        ("DROP SCHEMA nowhere", "does not exist"),
        ('SELECT * FROM tr."no such"', "does not exist"),
    ]:
        with pytest.raises(Exception, match=words):
            trino.ask(sql, warehouse)


@pytest.mark.slice
def test_distinct_values_that_esker_counted_reach_the_planner(server: Server, trino: Trino, warehouse: str) -> None:
    catalog = server.catalog(warehouse)
    catalog.create_namespace("tr_stats")
    rows = pa.table(
        {"k": pa.array([i % 1000 for i in range(50_000)], pa.int64()), "s": ["x" + str(i) for i in range(50_000)]}
    )
    catalog.create_table("tr_stats.t", rows.schema).append(rows)

    def distinct() -> dict[str, float | None]:
        return {row[0]: row[2] for row in trino.ask("SHOW STATS FOR tr_stats.t", warehouse) if row[0]}

    def plan() -> str:
        return trino.ask("EXPLAIN SELECT k, count(*) FROM tr_stats.t GROUP BY k", warehouse)[0][0]

    assert distinct() == {"k": None, "s": None}
    before = plan()
    outcome = server.maintain("tr_stats.t", "statistics", warehouse=warehouse)
    assert outcome["distinct"]["k"] == 1000
    found = distinct()
    assert found["k"] == 1000
    assert found["s"] == pytest.approx(50_000, rel=0.06)
    assert "rows: 1000" not in before.replace(",", "")
    assert "rows: 1000" in plan().replace(",", ""), plan()
