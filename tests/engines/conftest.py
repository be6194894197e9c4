"""Real engines against a real server process. Servers and jars are made once and shared."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from pyiceberg.catalog import Catalog, load_catalog

HERE = Path(__file__).parent
CACHE = Path(os.environ["ESKER_CACHE"])


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


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

    def maintain(self, table: str, kind: str, options: dict | None = None) -> dict:
        """Starts a job and waits for it; returns its outcome."""
        namespace, name = table.rsplit(".", 1)
        job = self.api("POST", f"/api/v1/namespaces/{namespace}/tables/{name}/{kind}", options or {})["job-id"]
        for _ in range(600):
            record = self.api("GET", f"/api/v1/jobs/{job}")
            if record["state"] != "running":
                assert record["state"] == "succeeded", record["error"]
                return record["outcome"]
            time.sleep(0.05)
        raise AssertionError(f"job {job} did not end")

    def catalog(self) -> Catalog:
        return load_catalog("esker", type="rest", uri=self.rest, token=self.token)


@contextmanager
def running(data_dir: Path, **settings: str) -> Iterator[Server]:
    """A server process on free ports; settings are ESKER__… keys."""
    rest, flight, token = free_port(), free_port(), secrets.token_hex(16)
    env = os.environ | {
        "ESKER__SERVER__REST_PORT": str(rest),
        "ESKER__SERVER__FLIGHT_PORT": str(flight),
        "ESKER__AUTH__TOKEN": token,
        **settings,
    }
    log = (data_dir / "esker.log").open("a")
    command = [os.environ["ESKER_BIN"], "serve", "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        for _ in range(400):
            if process.poll() is not None:
                raise AssertionError((data_dir / "esker.log").read_text())
            try:
                if requests.get(f"http://127.0.0.1:{rest}/readyz", timeout=1).ok:
                    break
            except requests.RequestException:
                time.sleep(0.05)
        yield Server(process, f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{flight}", token)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "the server did not drain and stop by itself"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("esker")) as server:
        yield server


def maven(goal: str, *arguments: str, cwd: Path = HERE) -> None:
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
    subprocess.run(["mvn", "-q", "-B", f"{plugin}:{goal}", *arguments], cwd=cwd, check=True)


def jars_of_pom(name: str) -> Path:
    """The jars of tests/engines/NAME/pom.xml, fetched once into the cache."""
    target = CACHE / "jars" / name
    done = target / ".complete"
    if not done.exists():
        maven("copy-dependencies", "-DincludeScope=test", f"-DoutputDirectory={target}", cwd=HERE / name)
        done.touch()
    return target


def jar(artifact: str) -> Path:
    """One jar by group:artifact:version, fetched once into the cache."""
    _, name, version = artifact.split(":")
    path = CACHE / "jars" / "single" / f"{name}-{version}.jar"
    if not path.exists():
        maven("copy", f"-Dartifact={artifact}", f"-DoutputDirectory={path.parent}")
    return path
