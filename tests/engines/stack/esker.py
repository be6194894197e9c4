"""The Esker server as a process, and a client of it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import requests
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.catalog import Catalog, load_catalog

from . import minio
from .base import free_port, wait_until


@dataclass
class Server:
    process: subprocess.Popen
    rest: str
    flight: str
    token: str

    def api(self, method: str, path: str, body: dict | None = None):
        headers = {"authorization": f"Bearer {self.token}"}
        answer = requests.request(method, self.rest + path, headers=headers, json=body, timeout=60)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def table(self, name: str, what: str = "", warehouse: str = "default") -> str:
        """Returns the management path of a table given as NAMESPACE.TABLE."""
        namespace, table = name.rsplit(".", 1)
        return f"/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}{what}"

    def job(self, table: str, kind: str, options: dict | None = None, warehouse: str = "default") -> dict:
        """Starts a job and waits for it. Returns its record."""
        job = self.api("POST", self.table(table, f"/{kind}", warehouse), options or {})["job-id"]
        for _ in range(1200):
            record = self.api("GET", f"/api/v1/jobs/{job}")
            if record["state"] not in ("queued", "running"):
                assert record["state"] == "succeeded", record["error"]
                return record
            time.sleep(0.05)
        raise AssertionError(f"job {job} did not end")

    def maintain(self, table: str, kind: str, options: dict | None = None, warehouse: str = "default") -> dict:
        """Starts a job and waits for it. Returns its outcome."""
        return self.job(table, kind, options, warehouse)["outcome"]

    def undo(self, job: dict) -> dict:
        """Undoes a job, given by its record."""
        return self.api("POST", f"/api/v1/warehouses/{job['warehouse']}/jobs/{job['id']}/undo", {})

    def catalog(self, warehouse: str = "default", **properties: str) -> Catalog:
        """Returns a PyIceberg catalog of a warehouse."""
        return load_catalog(
            f"esker-{warehouse}", type="rest", uri=self.rest, token=self.token, warehouse=warehouse,
            **{"s3.access-key-id": minio.KEY, "s3.secret-access-key": minio.SECRET}, **properties,
        )  # fmt: skip

    def small_files(self, name: str, files: int = 6) -> None:
        """Creates a table of one column with `files` files of one row, and its namespace."""
        catalog = self.catalog()
        catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        table = catalog.create_table(name, pa.schema([("id", pa.int64())]))
        for i in range(files):
            table.append(pa.table({"id": [i]}))

    def sql(self, statement: str) -> list[tuple]:
        """Runs a statement through Flight SQL. Returns its rows."""
        options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {self.token}"}
        with (
            flight_sql.connect(self.flight, db_kwargs=options, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return cursor.fetchall()


@contextmanager
def running(data_dir: Path, binary: str | None = None, **settings: str) -> Iterator[Server]:
    """Starts a server process of ESKER_BIN or another binary. `settings` are ESKER__… variables.

    The ports are free ones, but for one of REST that is set.
    """
    rest = int(settings.get("ESKER__SERVER__REST_PORT") or free_port())
    flight, token = free_port(), secrets.token_hex(16)
    env = os.environ | {
        "ESKER__SERVER__REST_PORT": str(rest),
        "ESKER__SERVER__FLIGHT_PORT": str(flight),
        "ESKER__AUTH__TOKEN": token,
        "ESKER__WAREHOUSES__DEFAULT__LOCATION": f"file://{data_dir}/warehouse",
        **settings,
    }
    log = data_dir / "esker.log"
    command = [binary or os.environ["ESKER_BIN"], "serve", "--data-dir", str(data_dir)]
    with log.open("a") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    try:
        wait_until(lambda: requests.get(f"http://127.0.0.1:{rest}/readyz", timeout=1).ok, 40, process, log)
        yield Server(process, f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{flight}", token)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "the server did not drain and stop by itself"


def rows(found: list[tuple]) -> str:
    """Formats rows as text, to compare answers of engines with different types."""
    return json.dumps([[str(value) for value in row] for row in found], indent=0)
