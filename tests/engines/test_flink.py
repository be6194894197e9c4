"""Flink 2: streaming upserts with checkpoints, stopped with a savepoint and resumed from it, each row exactly once."""

from pathlib import Path

import pytest
from stack.esker import Server
from stack.flink import ICEBERG, VERSION, Flink

pytestmark = pytest.mark.engine("Flink", versions=lambda: {"Flink": VERSION, "Iceberg": ICEBERG, "Java": "17"})

UPSERT = "'format-version'='2', 'write.upsert.enabled'='true'"


@pytest.fixture
def flink(server: Server, tmp_path: Path) -> Flink:
    return Flink(server, tmp_path)


@pytest.mark.slice
def test_appends_and_reads_on_both_warehouses(server: Server, flink: Flink) -> None:
    sql = ""
    for warehouse in ("default", "minio"):
        table = f"`{warehouse}`.fl.plain"
        sql += f"CREATE DATABASE `{warehouse}`.fl;\nCREATE TABLE {table} (id BIGINT, s STRING);\n"
        sql += f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b');\nSELECT s, id FROM {table} ORDER BY id;\n"
    found, _ = flink.run(sql, "batch")
    assert found == ["+I[a, 1]", "+I[b, 2]"] * 2
    for warehouse in ("default", "minio"):
        assert server.sql(f"SELECT id, s FROM {warehouse}.fl.plain ORDER BY id") == [(1, "a"), (2, "b")]


def test_upserts_go_on_from_a_savepoint_without_loss_or_repetition(
    server: Server, warehouse: str, flink: Flink, tmp_path: Path
) -> None:
    table = f"`{warehouse}`.fl_up.t"
    flink.run(
        f"CREATE DATABASE `{warehouse}`.fl_up;\nCREATE TABLE {table} "
        f"(id BIGINT NOT NULL, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ({UPSERT});\n"
    )
    source = (
        "CREATE TEMPORARY TABLE default_catalog.default_database.src (n BIGINT) WITH ('connector'='datagen', "
        "'rows-per-second'='400', 'fields.n.kind'='sequence', 'fields.n.start'='0', 'fields.n.end'='5999');\n"
    )
    insert = f"INSERT INTO {table} SELECT MOD(n, 500), n FROM default_catalog.default_database.src;\n"
    _, savepoint = flink.run(source + insert, stop_after_ms=6000, savepoints=f"file://{tmp_path}/savepoints")
    assert savepoint
    halfway = server.catalog(warehouse).load_table("fl_up.t")
    assert len(halfway.snapshots()) >= 2, "checkpoints commit"
    flink.run(source + insert, start=savepoint)
    found, _ = flink.run(f"SELECT COUNT(*), COUNT(DISTINCT id), MIN(n), SUM(n) FROM {table};\n", "batch")
    # The last number of each of 500 keys: 5,500 to 5,999.
    assert found == [f"+I[500, 500, 5500, {sum(range(5500, 6000))}]"]
    last = server.catalog(warehouse).load_table("fl_up.t")
    assert int(last.current_snapshot().summary["total-equality-deletes"]) > 0
    assert last.current_snapshot().summary["flink.job-id"]
