"""A real Airflow runs dbt (with Trino and Spark) and Great Expectations, then maintenance."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from stack import minio as store
from stack.airflow import PROVIDER, Airflow
from stack.base import ROOT, python_of
from stack.esker import Server, running
from stack.minio import Minio
from stack.roles import assert_each_is_needed, give
from stack.spark import iceberg_jars
from stack.trino import Trino, running_trino
from trino.exceptions import TrinoQueryError


def versions() -> dict[str, str]:
    code = "from importlib.metadata import version as v; print(v('dbt-core'), v('great_expectations'))"
    dbt, gx = subprocess.run(
        [python_of("quality"), "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    return {"dbt": dbt, "Great Expectations": gx}


pytestmark = [
    pytest.mark.engine("dbt and Great Expectations", versions=versions),
    pytest.mark.timeout(500),
]


def orders(days: list[int]) -> pa.Table:
    columns = {
        "id": pa.array(range(len(days)), pa.int64()),
        "customer": pa.array([f"c{i % 3}" for i in range(len(days))]),
        "day": pa.array([date(2026, 1, d) for d in days]),
        "amount": pa.array([float(d) for d in days]),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Trino]]:
    home = tmp_path_factory.mktemp("esker")
    with (
        running(home, ESKER__HEALTH__TABLE_SECONDS="2") as server,
        running_trino(tmp_path_factory.mktemp("trino"), server, "http://127.0.0.1:1") as trino,
    ):
        catalog = server.catalog()
        catalog.create_namespace("shop")
        table = catalog.create_table("shop.orders", orders([1]).schema)
        for _ in range(8):
            table.append(orders([1, 2, 3, 3]))
        deadline = time.time() + 60
        while not catalog.table_exists("system.table_health"):
            assert time.time() < deadline
            time.sleep(0.5)
        yield server, trino


def environment(server: Server, trino: Trino) -> dict[str, str]:
    return {
        "ESKER_JOBS": str(ROOT / "jobs"),
        "ESKER_PYTHON": str(python_of("quality")),
        "ESKER_URL": server.rest,
        "ESKER_TOKEN": server.token,
        "TRINO_HOST": "127.0.0.1",
        "TRINO_PORT": str(trino.port),
        "TRINO_CATALOG": "default",
        "TRINO_URL": f"trino://test@127.0.0.1:{trino.port}/default",
        "ICEBERG_JARS": iceberg_jars(),
        # Here the health table gets a row every two seconds, so its own health is bad. It is left out.
        "ESKER_QUALITY": "--namespace shop",
    }


def check_health(server: Server, trino: Trino, *more: str) -> subprocess.CompletedProcess:
    env = environment(server, trino)
    command = [python_of("quality"), ROOT / "jobs" / "quality" / "check_health.py", env["TRINO_URL"], *more]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=120)


def night(airflow: Airflow, day: str) -> dict[str, str]:
    """Runs the DAG. Returns the final state of each task."""
    printed = airflow("dags", "test", "esker_dbt", day)
    run = re.search(r"run_id=(manual__[^,\s]+)", printed)[1]
    states = json.loads(airflow("tasks", "states-for-dag-run", "esker_dbt", run, "--output", "json"))
    return {state["task_id"]: state["state"] for state in states}


def test_one_dag_builds_the_marts_checks_health_and_maintains(shop: tuple[Server, Trino], tmp_path: Path) -> None:
    server, trino = shop
    airflow = Airflow(tmp_path, server, PROVIDER / "dags", **environment(server, trino))
    tasks = dict.fromkeys(("dbt_trino", "dbt_spark", "quality", "recommended", "treat"), "success")
    # Eight small files fail the expectation. The check fails, and maintenance runs all the same.
    assert night(airflow, "2026-11-25") == tasks | {"quality": "failed"}
    by_day = "SELECT day, orders, amount FROM marts.orders_by_day ORDER BY day"
    expected = [(date(2026, 1, 1), 8, 8.0), (date(2026, 1, 2), 8, 16.0), (date(2026, 1, 3), 16, 48.0)]
    assert server.sql(by_day) == expected
    by_customer = "SELECT customer, orders FROM marts.customers ORDER BY customer"
    assert server.sql(by_customer) == [("c0", 16), ("c1", 8), ("c2", 8)]
    # The same run has compacted the small files.
    assert server.sql('SELECT count(*) FROM shop."orders$files"') == [(1,)]
    # A second run adds the new rows.
    server.catalog().load_table("shop.orders").append(orders([3, 4]))
    assert night(airflow, "2026-11-26")["quality"] == "success"
    assert server.sql(by_day) == [*expected[:2], (date(2026, 1, 3), 17, 51.0), (date(2026, 1, 4), 1, 4.0)]
    assert server.sql("SELECT sum(orders) FROM marts.customers") == [(34,)]


def test_the_suite_says_which_tables_are_poor(shop: tuple[Server, Trino]) -> None:
    server, trino = shop
    server.small_files("poor.t", 30)
    deadline = time.time() + 60
    files = "SELECT max(data_files) FROM system.table_health WHERE namespace = 'poor'"
    while server.sql(files) != [(30,)]:
        assert time.time() < deadline
        time.sleep(0.5)
    poor = check_health(server, trino, "--namespace", "poor", "--least-score", "95")
    assert poor.returncode == 1 and '"table": "t"' in poor.stdout, poor.stdout + poor.stderr
    server.maintain("poor.t", "compact")
    deadline = time.time() + 60
    while (well := check_health(server, trino, "--namespace", "poor", "--least-score", "90")).returncode != 0:
        assert time.time() < deadline, well.stdout + well.stderr
        time.sleep(1)
    none = check_health(server, trino, "--namespace", "nothing")
    assert none.returncode == 1 and "expect_table_row_count_to_be_between" in none.stdout


@pytest.fixture
def guarded(minio: Minio, tmp_path: Path) -> Iterator[Server]:
    """Starts a server in the mode `on`. Its warehouse `lake` vends credentials. It has sources and an empty `marts`."""
    (tmp_path / "esker").mkdir()
    with running(tmp_path / "esker", **minio.vending("lake")) as admin:
        catalog = admin.catalog("lake")
        for namespace in ("shop", "hr", "marts"):
            catalog.create_namespace(namespace)
        for name in ("shop.orders", "hr.salaries"):
            catalog.create_table(name, orders([1]).schema).append(orders([1, 2, 3, 3]))
        admin.control_access()
        yield admin


def dbt(directory: Path, target: str, **settings: str) -> str:
    """Builds the models of a target. Returns the empty text, or what dbt printed if it failed."""
    project = ROOT / "jobs" / "dbt"
    logs = ["--target-path", directory / "target", "--log-path", directory / "logs"]
    command = [python_of("quality").parent / "dbt", "build", "--no-use-colors", "--project-dir", project, *logs]
    command += ["--profiles-dir", project, "--target", target, "--select", f"tag:{target}"]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=200)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.usefixtures("no_keys")
def test_dbt_builds_with_its_role_and_superset_reads_with_its_own(
    guarded: Server, minio: Minio, tmp_path: Path
) -> None:
    builder, viewer = give(guarded, "transformers"), give(guarded, "dashboards")

    def catalog(client: str, who: Server) -> dict[str, str]:
        return {
            "iceberg.rest-catalog.warehouse": "lake",
            "iceberg.rest-catalog.oauth2.credential": f"{client}:{who.token}",
            "iceberg.rest-catalog.vended-credentials-enabled": "true",
            "fs.native-s3.enabled": "true",
            "s3.endpoint": minio.endpoint,
            "s3.region": store.REGION,
            "s3.path-style-access": "true",
        }

    catalogs = {"built": catalog("dbt", builder), "shown": catalog("superset", viewer)}
    (tmp_path / "trino").mkdir()
    with running_trino(tmp_path / "trino", guarded, minio.endpoint, 1000, catalogs) as trino:
        assert trino.ask("SELECT count(*) FROM shop.orders", "built") == [(4,)]
        env = environment(builder, trino) | {"TRINO_CATALOG": "built", "ESKER_WAREHOUSE": "lake"}

        def fails_without(privilege: str, on: str) -> str:
            guarded.sql(f"REVOKE {privilege} ON NAMESPACE {on} FROM ROLE transformers")
            printed = dbt(tmp_path, "trino", **env)
            assert printed, f"dbt builds without {privilege} on {on}"
            guarded.sql(f"GRANT {privilege} ON NAMESPACE {on} TO ROLE transformers")
            return printed

        # Trino says what it could not do. The reason is a line of Esker's log.
        assert "Failed to create transaction" in fails_without("CREATE_TABLE", "lake.marts")
        fails_without("READ_DATA", "lake.shop")
        assert guarded.catalog("lake").list_tables("marts") == []
        assert dbt(tmp_path, "trino", **env) == ""
        assert "Failed to create view" in fails_without("CREATE_VIEW", "lake.marts")
        assert dbt(tmp_path, "trino", **env) == ""
        by_day = "SELECT day, orders FROM marts.orders_by_day ORDER BY day"
        expected = [(date(2026, 1, 1), 1), (date(2026, 1, 2), 1), (date(2026, 1, 3), 2)]

        def chart() -> None:
            assert trino.ask("SHOW TABLES FROM marts", "shown") == [("orders_by_day",)]
            assert trino.ask(by_day, "shown") == expected

        assert_each_is_needed(guarded, "dashboards", chart)
        for catalog_name, sql, words in (
            ("built", "INSERT INTO shop.orders SELECT * FROM shop.orders", "403"),
            ("built", "DROP TABLE shop.orders", "dbt lacks DROP on table shop.orders"),
            ("built", "CREATE TABLE shop.mine AS SELECT 1 a", "dbt lacks CREATE_TABLE on namespace shop"),
            ("built", "CREATE SCHEMA other", "dbt lacks CREATE_NAMESPACE"),
            ("built", "SELECT * FROM hr.salaries", "does not exist"),
            ("shown", "SELECT * FROM shop.orders", "does not exist"),
            ("shown", "DELETE FROM marts.orders_by_day WHERE orders = 2", "403"),
            ("shown", "DROP TABLE marts.orders_by_day", "superset lacks DROP on table marts.orders_by_day"),
        ):
            with pytest.raises(TrinoQueryError) as refused:
                trino.ask(sql, catalog_name)
            assert words in f"{refused.value.message} {refused.value.failure_info}", sql
        assert guarded.sql("SELECT count(*) FROM lake.shop.orders") == [(4,)]
        assert trino.ask(by_day, "shown") == expected
