"""External jobs: Spark runs large compactions with Iceberg's own procedure, and they stay Esker's jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
import requests
from stack.airflow import PROVIDER, Airflow
from stack.base import ROOT
from stack.esker import Server
from stack.minio import Minio
from stack.spark import running_connect, spark_settings, versions

sys.path.insert(0, str(ROOT / "jobs" / "spark"))
import esker_spark

pytestmark = [
    pytest.mark.engine("Spark", versions=versions),
    pytest.mark.timeout(240),
]


@pytest.fixture
def table(server: Server, spark) -> str:
    name = f"handed.t{time.time_ns()}"
    catalog = server.catalog()
    catalog.create_namespace_if_not_exists("handed")
    table = catalog.create_table(name, pa.schema([("id", pa.int64()), ("s", pa.string())]))
    for i in range(6):
        table.append(pa.table({"id": [i, i + 100], "s": ["it's", "\\"]}))
    return name


def hand_over(server: Server, table: str, **options: object) -> str:
    body = {"spark-over-bytes": 1, **options}
    job = server.api("POST", server.table(table, "/compact"), body)["job-id"]
    for _ in range(100):
        if server.api("GET", f"/api/v1/jobs/{job}")["engine"] == "spark":
            return job
        time.sleep(0.1)
    raise AssertionError(server.api("GET", f"/api/v1/jobs/{job}"))


def run_worker(server: Server, spark, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setitem(os.environ, "ESKER_TOKEN", server.token)
    return esker_spark.main(["--url", server.rest, "--catalog", "default", *more], spark)


@pytest.mark.slice
def test_spark_does_what_is_handed_over(server: Server, spark, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = hand_over(server, table, where="id < 1000 AND s <> 'a''b'")
    waits = server.api("GET", f"/api/v1/jobs/{job}")
    assert waits["state"] == "queued" and waits["measured"]["shapes"]["before"]
    assert run_worker(server, spark, monkeypatch) == 0
    done = server.api("GET", f"/api/v1/jobs/{job}")
    assert done["state"] == "succeeded", done
    assert (done["outcome"]["rewritten_data_files_count"], done["outcome"]["added_data_files_count"]) == (6, 1)
    assert done["worker"].startswith("spark/") and done["measured"]["cost"]["bytes_read"] > 0
    assert server.sql(f'SELECT count(*) FROM {table.split(".")[0]}."{table.split(".")[1]}$files"') == [(1,)]
    assert server.sql(f"SELECT count(*), sum(id) FROM {table}") == [(12, 630)]
    log = [line["text"] for line in server.api("GET", f"/api/v1/jobs/{job}/log")]
    assert any("handed over to spark" in line for line in log) and "succeeded" in log[-1]


def test_a_worker_that_dies_loses_the_job_to_another(
    server: Server, spark, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hand_over(server, table)
    claim = {"engine": "spark", "worker": "dead", "lease-seconds": 1}
    assert server.api("POST", "/api/v1/jobs/claim", claim)["id"] == job
    assert server.api("POST", "/api/v1/jobs/claim", claim) is None, "it is taken"
    for _ in range(100):
        if server.api("GET", f"/api/v1/jobs/{job}")["state"] == "queued":
            break
        time.sleep(0.2)
    headers = {"authorization": f"Bearer {server.token}"}
    late = {"worker": "dead", "state": "succeeded", "outcome": {}}
    answer = requests.post(f"{server.rest}/api/v1/jobs/{job}/finish", json=late, headers=headers, timeout=10)
    assert answer.status_code == 422 and "lease" in answer.json()["error"]["message"], answer.text
    assert run_worker(server, spark, monkeypatch) == 0
    done = server.api("GET", f"/api/v1/jobs/{job}")
    assert (done["state"], done["worker_losses"]) == ("succeeded", 1)


def test_what_spark_refuses_fails_and_a_cancelled_job_stops(
    server: Server, spark, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = hand_over(server, table, **{"max-concurrent-file-group-rewrites": 1, "partial-progress.max-commits": 0})
    assert run_worker(server, spark, monkeypatch) == 0
    failed = server.api("GET", f"/api/v1/jobs/{bad}")
    assert failed["state"] == "failed" and "max-commits" in failed["error"], failed
    job = hand_over(server, table)

    def slow(*_: object) -> None:
        raise RuntimeError("the work was interrupted")

    class Session:
        """A fake Spark session, whose statement runs until it is interrupted."""

        def __init__(self) -> None:
            self.interrupted = threading.Event()
            self.sparkContext = self

        def cancelAllJobs(self) -> None:
            self.interrupted.set()

        def sql(self, _: str) -> None:
            assert self.interrupted.wait(30)
            slow()

    timer = threading.Timer(1, lambda: server.api("POST", f"/api/v1/jobs/{job}/cancel", {}))
    timer.start()
    assert run_worker(server, Session(), monkeypatch, "--lease-seconds", "2") == 0
    assert server.api("GET", f"/api/v1/jobs/{job}")["state"] == "cancelled"


def test_a_dag_of_airflow_starts_the_worker(server: Server, minio: Minio, table: str, tmp_path: Path) -> None:
    job = hand_over(server, table)
    settings = spark_settings(server, minio.endpoint) | {"spark.master": "local[2]"}
    (tmp_path / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    command = f"{sys.executable} {ROOT}/jobs/spark/esker_spark.py --catalog default"
    airflow = Airflow(tmp_path, server, PROVIDER / "dags", ESKER_SPARK=command, SPARK_CONF_DIR=str(tmp_path))
    printed = airflow("dags", "test", "esker_spark", "2026-11-25")
    done = server.api("GET", f"/api/v1/jobs/{job}")
    assert (done["state"], done["outcome"]["rewritten_data_files_count"]) == ("succeeded", 6), printed[-4000:]


def test_a_worker_without_spark_of_its_own_asks_spark_connect(
    server: Server, minio: Minio, table: str, tmp_path: Path
) -> None:
    job = hand_over(server, table)
    with running_connect(tmp_path, server, minio.endpoint) as remote:
        env = os.environ | {"SPARK_REMOTE": remote, "ESKER_TOKEN": server.token, "ESKER_URL": server.rest}
        command = [sys.executable, ROOT / "jobs" / "spark" / "esker_spark.py", "--catalog", "default"]
        printed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150)
    done = server.api("GET", f"/api/v1/jobs/{job}")
    assert done["state"] == "succeeded", f"{done}\n{printed.stdout[-3000:]}\n{printed.stderr[-3000:]}"
    assert (printed.returncode, done["outcome"]["rewritten_data_files_count"]) == (0, 6)


def test_esker_keeps_what_spark_would_do_otherwise(server: Server, table: str) -> None:
    outcome = server.maintain(table, "compact", {"spark-over-bytes": 1, "verify": "full"})
    assert outcome["files_out"] == 1
