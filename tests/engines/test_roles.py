"""The roles of docs/security/roles.md: each is enough for its client's work, with none to spare, and for nothing else.

The roles of Kafka Connect, dbt and Airflow are tried in the modules of these.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pytest
import requests
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError
from stack.base import ENGINES, ROOT, python_of
from stack.esker import Server, running
from stack.flink import Flink
from stack.roles import assert_each_is_needed, give, page_roles

sys.path.insert(0, str(ROOT / "jobs" / "spark"))
import esker_spark

ROWS = pa.table({"id": pa.array(range(3), pa.int64())})


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server in the mode `on`. Its warehouse `lake` has the namespaces of the page, and `hr`."""
    directory = tmp_path_factory.mktemp("roles")
    settings = {"ESKER__WAREHOUSES__LAKE__LOCATION": f"file://{directory}/lake"}
    with running(directory, **settings) as server:
        catalog = server.catalog("lake")
        for name in ("shop.orders", "shop.small", "marts.sums", "cdc.orders", "hr.salaries"):
            catalog.create_namespace_if_not_exists(name.partition(".")[0])
            table = catalog.create_table(name, ROWS.schema)
            for _ in range(6 if name == "shop.small" else 1):
                table.append(ROWS)
        server.control_access()
        yield server


def status(server: Server, path: str, method: str = "GET") -> int:
    """Sends a request as a browser would. Returns the status."""
    headers = {"authorization": f"Bearer {server.token}", "accept": "text/html"}
    return requests.request(method, server.rest + path, headers=headers, json={}, timeout=30).status_code


def text(server: Server, path: str) -> str:
    headers = {"authorization": f"Bearer {server.token}", "accept": "text/html"}
    answer = requests.get(server.rest + path, headers=headers, timeout=30)
    assert answer.ok, f"{path}: {answer.status_code} {answer.text[:500]}"
    return answer.text


def assert_changes_nothing(who: Server, name: str) -> None:
    """Asserts that a client that sees a table of the warehouse changes nothing of it, and sees no other namespace."""
    catalog = who.catalog("lake")
    for what in (
        lambda: catalog.load_table(name).append(ROWS),
        lambda: catalog.load_table(name).transaction().set_properties(a="b").commit_transaction(),
        lambda: catalog.drop_table(name),
        lambda: catalog.create_table(f"{name}2", ROWS.schema),
    ):
        with pytest.raises(ForbiddenError, match="lacks"):
            what()
    with pytest.raises(NoSuchTableError):
        catalog.load_table("hr.salaries")


@pytest.mark.slice
def test_each_role_of_the_page_is_tried() -> None:
    used = [re.findall(r'\b(?:give|assert_each_is_needed)\(\w+, "(\w+)"', f.read_text()) for f in ENGINES.glob("*.py")]
    assert set(page_roles()) == {role for roles in used for role in roles}


@pytest.mark.slice
def test_a_reader_reads_by_sql_and_by_an_engine_and_does_no_more(admin: Server) -> None:
    reader = give(admin, "readers")

    def read() -> None:
        assert reader.sql("SELECT count(*) FROM lake.shop.orders") == [(3,)]
        catalog = reader.catalog("lake")
        assert set(catalog.list_tables("shop")) == {("shop", "orders"), ("shop", "small")}
        assert catalog.load_table("shop.orders").scan().to_arrow().num_rows == 3

    errors = {privilege: error for (privilege, _), error in assert_each_is_needed(admin, "readers", read).items()}
    assert "warehouse lake does not exist" in errors["USE"]
    assert "notebook lacks READ_METADATA on table shop.orders" in errors["READ_METADATA"]
    assert "notebook lacks READ_DATA on table shop.orders" in errors["READ_DATA"]
    assert_changes_nothing(reader, "shop.orders")
    for statement in ("INSERT INTO lake.shop.orders VALUES (4)", "DELETE FROM lake.shop.orders"):
        with pytest.raises(adbc_driver_manager.Error, match="notebook lacks"):
            reader.sql(statement)
    assert status(reader, reader.table("shop.orders", "/compact", "lake"), "POST") == 403


def test_a_crawler_of_datahub_reads_metadata_and_no_rows(admin: Server, tmp_path: Path) -> None:
    crawler = give(admin, "crawlers")
    recipe = {
        "source": {"type": "iceberg", "config": {
            "catalog": {"esker": {"type": "rest", "uri": crawler.rest, "token": crawler.token, "warehouse": "lake"}},
            "profiling": {"enabled": False},
        }},
        "sink": {"type": "file", "config": {"filename": str(tmp_path / "ingested.json")}},
    }  # fmt: skip
    script = """
        import json, sys
        from datahub.ingestion.run.pipeline import Pipeline
        pipeline = Pipeline.create(json.loads(sys.argv[1]))
        pipeline.run()
        pipeline.raise_from_status()
        """

    def ingest() -> None:
        command = [python_of("datahub"), "-c", textwrap.dedent(script), json.dumps(recipe)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        events = json.loads((tmp_path / "ingested.json").read_text())
        urns = {event["entityUrn"] for event in events if event.get("entityType") == "dataset"}
        names = {urn.split(",")[1].rpartition("esker.")[2] for urn in urns}
        assert names == {"shop.orders", "shop.small", "marts.sums", "cdc.orders", "hr.salaries"}, names

    assert_each_is_needed(admin, "crawlers", ingest)
    with pytest.raises(adbc_driver_manager.Error, match="datahub lacks READ_DATA on table hr.salaries"):
        crawler.sql("SELECT * FROM lake.hr.salaries")
    with pytest.raises(ForbiddenError, match="datahub lacks APPEND on table hr.salaries"):
        crawler.catalog("lake").load_table("hr.salaries").append(ROWS)


@pytest.mark.slice
def test_prometheus_gets_the_metrics_and_loads_no_table(admin: Server) -> None:
    prometheus = give(admin, "monitors")

    def scrape() -> None:
        assert "esker_" in text(prometheus, "/metrics")
        text(prometheus, "/metrics/tables")

    errors = assert_each_is_needed(admin, "monitors", scrape)
    assert "prometheus lacks MONITOR on the server" in errors["MONITOR", "server"]
    assert status(prometheus, "/v1/config?warehouse=lake") == 404
    assert status(prometheus, "/v1/lake/namespaces/shop/tables/orders") == 404
    assert prometheus.api("GET", "/api/v1/tables") == []


@pytest.mark.slice
def test_who_looks_at_the_page_sees_tables_and_their_jobs_and_starts_none(admin: Server) -> None:
    watcher = give(admin, "watchers")
    admin.maintain("shop.orders", "manifests", warehouse="lake")
    page = "/warehouses/lake/namespaces/shop/tables/orders"

    def look() -> None:
        for path in ("/", "/jobs", page):
            assert "orders" in text(watcher, path)
        text(watcher, "/queries")

    assert_each_is_needed(admin, "watchers", look)
    [job, *_] = watcher.api("GET", "/api/v1/jobs")
    for path in (watcher.table("shop.orders", "/compact", "lake"), f"/api/v1/jobs/{job['id']}/cancel"):
        assert status(watcher, path, "POST") == 403
    assert status(watcher, "/quarantine") == 403
    with pytest.raises(adbc_driver_manager.Error, match="ann lacks READ_DATA on table shop.orders"):
        watcher.sql("SELECT * FROM lake.shop.orders")
    with pytest.raises(ForbiddenError, match="ann lacks USE on warehouse lake"):
        watcher.catalog("lake")


def test_the_worker_for_spark_rewrites_and_changes_no_row(
    admin: Server, spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = give(admin, "rewriters")
    catalog = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "rest",
        ".uri": rewriter.rest,
        ".token": rewriter.token,
        ".warehouse": "lake",
        ".token-refresh-enabled": "false",
        ".cache-enabled": "false",
    }
    for key, value in catalog.items():
        spark.conf.set(f"spark.sql.catalog.rewriting{key}", value)
    monkeypatch.setitem(os.environ, "ESKER_TOKEN", rewriter.token)

    def rewrite() -> None:
        table = admin.catalog("lake").load_table("shop.small")
        for _ in range(6):
            table.append(ROWS)
        job = admin.api("POST", admin.table("shop.small", "/compact", "lake"), {"spark-over-bytes": 1})["job-id"]
        found = f"/api/v1/jobs/{job}"
        try:
            for _ in range(100):
                if admin.api("GET", found)["engine"] == "spark":
                    break
                time.sleep(0.1)
            esker_spark.main(["--url", rewriter.rest, "--catalog", "lake=rewriting"], spark)
            done = admin.api("GET", found)
            assert done["state"] == "succeeded", done["error"]
        finally:
            if admin.api("GET", found)["state"] in ("queued", "running"):
                admin.api("POST", f"{found}/cancel", {})

    errors = {privilege: error for (privilege, _), error in assert_each_is_needed(admin, "rewriters", rewrite).items()}
    assert "sparkjobs lacks RUN_JOBS on the server" in errors["RUN_JOBS"]
    admin.sql("GRANT LIST ON NAMESPACE lake.shop TO ROLE rewriters")
    for statement in ("INSERT INTO rewriting.shop.small VALUES (9)", "DELETE FROM rewriting.shop.small WHERE id = 1"):
        with pytest.raises(Exception, match="sparkjobs lacks (APPEND|MODIFY) on table shop.small"):
            spark.sql(statement)
    assert admin.sql("SELECT count(*), max(id) FROM lake.shop.small")[0][1] == 2


@pytest.mark.parametrize("role", ["streams", "upserters"])
def test_flink_writes_with_its_role_and_fails_with_one_fewer(admin: Server, tmp_path: Path, role: str) -> None:
    upserts = role == "upserters"
    writer = give(admin, "upserters") if upserts else give(admin, "streams")
    name = f"cdc.{role}"
    properties = "'format-version'='2', 'write.upsert.enabled'='true'" if upserts else "'format-version'='2'"
    owner = Flink(admin, tmp_path, {"lake": {"warehouse": "lake"}})
    key = ", PRIMARY KEY (id) NOT ENFORCED" if upserts else ""
    owner.run(f"CREATE TABLE lake.{name} (id BIGINT NOT NULL, n BIGINT{key}) WITH ({properties});\n")
    flink = Flink(writer, tmp_path, {"lake": {"warehouse": "lake"}})
    write = f"INSERT INTO lake.{name} VALUES (1, 1), (2, 2);\n"

    def rows() -> list[tuple]:
        return admin.sql(f"SELECT id, n FROM lake.{name} ORDER BY id, n")

    flink.run(write)
    flink.run(write)
    expected = [(1, 1), (2, 2)] if upserts else [(1, 1), (1, 1), (2, 2), (2, 2)]
    assert rows() == expected
    last = "MODIFY" if upserts else "APPEND"
    admin.sql(f"REVOKE {last} ON NAMESPACE lake.cdc FROM ROLE {role}")
    with pytest.raises(AssertionError, match=f"lacks {last} on table {name}"):
        flink.run(write)
    admin.sql(f"REVOKE LIST ON NAMESPACE lake.cdc FROM ROLE {role}")
    with pytest.raises(AssertionError, match="(?i)(not found|cannot find|does not exist)"):
        flink.run(write)
    assert rows() == expected
