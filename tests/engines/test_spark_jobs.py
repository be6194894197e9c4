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


class Reports:
    """A fake Esker, which keeps how jobs ended."""

    lease_seconds = 60

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def finish(self, _: str, state: str, error: str = "", outcome: object = None) -> None:
        self.ended.append((state, error))


class Answers:
    """A fake Spark session, whose statements answer with one row."""

    def __init__(self, row: dict) -> None:
        self.row = row

    def sql(self, _: str) -> Answers:
        return self

    def collect(self) -> list[Answers]:
        return [self]

    def asDict(self) -> dict:
        return self.row


def reported(files: int | None, rewritten: int, failed: int | None = 0, size: int = 700) -> tuple[str, str]:
    """Returns how a job ended whose procedure answered with these numbers of files."""
    job = {"id": "1", "table": "n.t", "bytes": size, "procedure": "rewrite_data_files", "arguments": {"table": "n.t"}}
    if files is not None:
        job["files"] = files
    row = {"rewritten_data_files_count": rewritten, "added_data_files_count": min(rewritten, 1)}
    if failed is not None:
        row["failed_data_files_count"] = failed
    esker = Reports()
    esker_spark.work(Answers(row), esker, job, "lake")
    [ended] = esker.ended
    return ended


@pytest.mark.slice
def test_a_job_of_which_spark_rewrote_every_file_succeeds() -> None:
    assert reported(6, 6) == ("succeeded", "")
    assert reported(6, 9) == ("succeeded", ""), "files that were added meanwhile are rewritten too"
    assert reported(6, 6, failed=None) == ("succeeded", ""), "Iceberg counts failures since 1.3"
    assert reported(None, 6) == ("succeeded", ""), "an earlier Esker gives no number"
    assert reported(None, 0, size=0) == ("succeeded", "")


@pytest.mark.slice
@pytest.mark.parametrize(
    ("files", "rewritten", "failed", "says"),
    [
        (6, 0, 0, "n.t: 6 of 6 data files were not rewritten (0 were rewritten, 0 failed)"),
        (6, 4, 0, "n.t: 2 of 6 data files were not rewritten (4 were rewritten, 0 failed)"),
        (6, 4, 2, "n.t: 2 of 6 data files were not rewritten (4 were rewritten, 2 failed)"),
        (6, 6, 1, "n.t: 1 of 6 data files were not rewritten (6 were rewritten, 1 failed)"),
        (6, 0, None, "n.t: 6 of 6 data files were not rewritten"),
        (None, 4, 2, "n.t: 2 of 6 data files were not rewritten"),
        (None, 0, 0, "n.t: no data file was rewritten (0 were rewritten, 0 failed)"),
    ],
)
def test_a_job_fails_that_spark_did_not_do_as_planned(
    files: int | None, rewritten: int, failed: int | None, says: str
) -> None:
    state, error = reported(files, rewritten, failed)
    assert state == "failed" and error.startswith(says), error


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
