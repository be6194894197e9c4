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
from urllib.parse import quote

import pyarrow as pa
import requests
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.catalog import Catalog, load_catalog

from . import minio
from .base import free_port, wait_until
from .certificates import Certificates


@dataclass
class Server:
    process: subprocess.Popen
    rest: str
    flight: str
    token: str
    # The authority of a server with TLS, which clients trust.
    ca: Path | None = None

    @property
    def verify(self) -> str | bool:
        """What `requests` trusts."""
        return str(self.ca) if self.ca else True

    def api(self, method: str, path: str, body: dict | None = None):
        headers = {"authorization": f"Bearer {self.token}"}
        answer = requests.request(method, self.rest + path, headers=headers, json=body, timeout=60, verify=self.verify)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def control_access(self) -> None:
        """Makes the client `admin` an administrator, and sets the mode of access control to `on`."""
        self.api("PUT", "/api/v1/access/roles/esker:admin/members/client:admin")
        self.api("PUT", "/api/v1/access/mode", {"mode": "on"})

    def add_role(self, name: str, member: str) -> None:
        """Creates a role with a member, such as `client:etl`."""
        self.api("POST", "/api/v1/access/roles", {"name": name})
        self.api("PUT", f"/api/v1/access/roles/{name}/members/{quote(member, safe='')}")

    def grant(self, to: str, privileges: str, on: str, end: str = "") -> None:
        """Grants privileges to a client or role, such as `role:readers`, or takes them back with `end="/revoke"`."""
        kind, _, name = to.partition(":")
        body = {"to": {"kind": kind, "name": name}, "privileges": privileges, "on": on}
        self.api("POST", f"/api/v1/access/grants{end}", body)

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
        trust = {"ssl": {"cabundle": str(self.ca)}} if self.ca else {}
        return load_catalog(
            f"esker-{warehouse}", type="rest", uri=self.rest, token=self.token, warehouse=warehouse,
            **{"s3.access-key-id": minio.KEY, "s3.secret-access-key": minio.SECRET}, **trust, **properties,
        )  # fmt: skip

    def small_files(self, name: str, files: int = 6) -> None:
        """Creates a table of one column with `files` files of one row, and its namespace."""
        catalog = self.catalog()
        catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        table = catalog.create_table(name, pa.schema([("id", pa.int64())]))
        for i in range(files):
            table.append(pa.table({"id": [i]}))

    def flight_options(self) -> dict[str, str]:
        """Returns the options of ADBC with the token, and with the authority of a server with TLS."""
        options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {self.token}"}
        if self.ca:
            options[DatabaseOptions.TLS_ROOT_CERTS.value] = self.ca.read_text()
        return options

    def sql(self, statement: str) -> list[tuple]:
        """Runs a statement through Flight SQL. Returns its rows."""
        with (
            flight_sql.connect(self.flight, db_kwargs=self.flight_options(), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return cursor.fetchall()


@contextmanager
def running(
    data_dir: Path, binary: str | None = None, tls: Certificates | None = None, **settings: str
) -> Iterator[Server]:
    """Starts a server process of ESKER_BIN or another binary. `settings` are ESKER__… variables.

    The ports are free ones, but for one of REST that is set. With `tls`, both speak TLS.
    """
    rest = int(settings.get("ESKER__SERVER__REST_PORT") or free_port())
    flight, token = free_port(), secrets.token_hex(16)
    env = os.environ | {
        "ESKER__SERVER__REST_PORT": str(rest),
        "ESKER__SERVER__FLIGHT_PORT": str(flight),
        "ESKER__AUTH__TOKEN": token,
        "ESKER__WAREHOUSES__DEFAULT__LOCATION": f"file://{data_dir}/warehouse",
        **(tls.esker() if tls else {}),
        **settings,
    }
    schemes, ca = (("https", "grpc+tls"), tls.ca) if tls else (("http", "grpc"), None)
    log = data_dir / "esker.log"
    command = [binary or os.environ["ESKER_BIN"], "serve", "--data-dir", str(data_dir)]
    with log.open("a") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    try:
        urls = (f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(schemes, (rest, flight), strict=True))
        server = Server(process, *urls, token, ca)
        wait_until(lambda: requests.get(f"{server.rest}/readyz", timeout=1, verify=server.verify).ok, 40, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "the server did not drain and stop by itself"


def rows(found: list[tuple]) -> str:
    """Formats rows as text, to compare answers of engines with different types."""
    return json.dumps([[str(value) for value in row] for row in found], indent=0)
