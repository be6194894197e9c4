"""DuckDB attaches the catalog, reads what others wrote and writes itself."""

from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pytest
from stack.duck import attached
from stack.esker import Server
from stack.minio import Minio

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("DuckDB", versions=lambda: {"DuckDB": version("duckdb"), "Python": "3.11"}),
]


@pytest.fixture
def duck(server: Server, minio: Minio, warehouse: str, tmp_path: Path):
    connection = attached(server, warehouse, minio.endpoint, tmp_path)
    yield connection
    connection.close()


def test_it_reads_what_pyiceberg_wrote(server: Server, warehouse: str, duck) -> None:
    catalog = server.catalog(warehouse)
    catalog.create_namespace("duck_r")
    table = catalog.create_table("duck_r.t", pa.schema([("id", pa.int64()), ("s", pa.string())]))
    for i in range(3):
        table.append(pa.table({"id": pa.array(range(i * 10, i * 10 + 10), pa.int64()), "s": ["x"] * 10}))
    table.delete("id < 5")
    assert duck.execute("SELECT count(*), min(id), max(id) FROM lake.duck_r.t").fetchall() == [(25, 5, 29)]
    assert ("duck_r",) in duck.execute(
        "SELECT schema_name FROM duckdb_schemas() WHERE database_name = 'lake'"
    ).fetchall()


def test_it_creates_writes_and_deletes(server: Server, warehouse: str, duck) -> None:
    duck.execute("CREATE SCHEMA lake.duck_w")
    duck.execute("CREATE TABLE lake.duck_w.t (id BIGINT, s VARCHAR)")
    duck.execute("INSERT INTO lake.duck_w.t SELECT range, 's' || range % 3 FROM range(1000)")
    duck.execute("INSERT INTO lake.duck_w.t VALUES (5000, NULL)")
    seen = server.catalog(warehouse).load_table("duck_w.t").scan().to_arrow()
    assert (seen.num_rows, sum(seen["id"].to_pylist())) == (1001, 499500 + 5000)
    duck.execute("DELETE FROM lake.duck_w.t WHERE id >= 900")
    assert duck.execute("SELECT count(*) FROM lake.duck_w.t").fetchall() == [(900,)]
    assert server.catalog(warehouse).load_table("duck_w.t").scan().to_arrow().num_rows == 900


def test_one_transaction_writes_two_tables(server: Server, warehouse: str, duck) -> None:
    duck.execute("CREATE SCHEMA lake.duck_tx")
    for name in ("a", "b"):
        duck.execute(f"CREATE TABLE lake.duck_tx.{name} (id BIGINT)")
    duck.execute("BEGIN")
    duck.execute("INSERT INTO lake.duck_tx.a VALUES (1), (2)")
    duck.execute("INSERT INTO lake.duck_tx.b VALUES (3)")
    catalog = server.catalog(warehouse)
    assert catalog.load_table("duck_tx.a").current_snapshot() is None, "not before the commit"
    duck.execute("COMMIT")
    assert catalog.load_table("duck_tx.a").scan().to_arrow()["id"].to_pylist() == [1, 2]
    assert catalog.load_table("duck_tx.b").scan().to_arrow()["id"].to_pylist() == [3]
