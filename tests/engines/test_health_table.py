"""`system.table_health`: the health of all tables, in a table that every engine can query."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stack.esker import Server, running
from stack.trino import VERSION, running_trino

LATEST = """SELECT "table", score, data_files, worst_finding FROM system.table_health
            WHERE namespace = 'shop' ORDER BY time DESC LIMIT 1"""


@contextmanager
def recording(directory: Path) -> Iterator[Server]:
    """Starts a server with one table in bad health, and waits until its health is recorded."""
    with running(directory, ESKER__HEALTH__TABLE_SECONDS="2") as server:
        server.small_files("shop.orders", 8)
        deadline = time.time() + 30
        while not written(server):
            assert time.time() < deadline, "it was not written"
            time.sleep(0.5)
        yield server


def written(server: Server) -> bool:
    if not server.catalog().table_exists("system.table_health"):
        return False
    found = server.sql(LATEST)
    return bool(found) and found[0][2] == 8


@pytest.mark.slice
def test_esker_and_pyiceberg_read_the_health_of_all_tables(tmp_path: Path) -> None:
    with recording(tmp_path) as server:
        assert server.sql(LATEST)[0][3] == "small-files"
        # Esker's live views of the same namespace still answer.
        assert server.sql("SELECT count(*) FROM system.tables WHERE namespace = 'shop'") == [(1,)]
        rows = server.catalog().load_table("system.table_health").scan(row_filter="namespace == 'shop'").to_arrow()
        assert set(rows["worst_finding"].to_pylist()) <= {"small-files", None}
        assert rows["data_files"].to_pylist()[-1] is not None


@pytest.mark.engine("Trino", versions=lambda: {"Trino": VERSION, "Java": "25", "Iceberg": "bundled"})
@pytest.mark.timeout(240)
def test_trino_queries_the_health_of_all_tables(tmp_path: Path) -> None:
    (tmp_path / "trino").mkdir()
    with recording(tmp_path) as server, running_trino(tmp_path / "trino", server, "http://127.0.0.1:1") as trino:
        name, score, files, worst = trino.ask(LATEST)[0]
        assert (name, files, worst) == ("orders", 8, "small-files") and score < 100
        assert trino.ask("SELECT count(DISTINCT time) > 1 FROM system.table_health") == [(True,)]
