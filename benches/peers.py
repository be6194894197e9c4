"""The catalogs that `bench-catalog` and `bench-appenders` measure, each as processes on this machine over one MinIO.

Each keeps its state on disk, and waits for the disk at each commit. What can't be had on this machine is left out, with
a line that says so.

| name | catalog |
|---|---|
| `sqlite`, `postgres` | Esker with its state on SQLite, or on PostgreSQL |
| `no-turns` | Esker on SQLite, without turns of late commits |
| `before` | another build of Esker on SQLite: the binary BEFORE |
| `reference` | the REST server that Apache Iceberg tests with, on SQLite; from Maven |
| `nessie` | Nessie on RocksDB; from Maven |
| `rustberg` | Rustberg on its own file; `cargo install` compiles it once into the cache |
| `ducklake` | DuckLake on SQLite, which has no server: its clients share the database |
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "engines"))

from stack import minio as store  # noqa: E402
from stack.base import CACHE, artifact, free_port, jars_of_pom, stop, wait_until  # noqa: E402
from stack.esker import Server, running  # noqa: E402
from stack.minio import Minio  # noqa: E402
from stack.postgres import running_postgres  # noqa: E402
from stack.trino import java_home  # noqa: E402

ICEBERG, NESSIE, RUSTBERG = "1.11.0", "0.99.0", "0.3.0"
# The server does nothing beside the requests.
QUIET = {"ESKER__MAINTENANCE__AUTOPILOT_SECONDS": "0", "ESKER__MAINTENANCE__JOBS": "0"}
AWS = {"AWS_ACCESS_KEY_ID": store.KEY, "AWS_SECRET_ACCESS_KEY": store.SECRET, "AWS_REGION": store.REGION}


@dataclass
class Peer:
    """A running catalog."""

    name: str
    # The endpoint of the store.
    store: str
    # The URI of the REST catalog; empty for DuckLake.
    uri: str = ""
    token: str = ""
    warehouse: str = ""
    process: subprocess.Popen | None = None
    # DuckLake's Python, and what its clients are told.
    python: str = ""
    lake: dict = field(default_factory=dict)

    @property
    def is_esker(self) -> bool:
        return STARTS[self.name] is esker

    def pyiceberg(self) -> dict[str, str]:
        """Returns the properties of a PyIceberg catalog."""
        properties = {
            "type": "rest",
            "uri": self.uri,
            "s3.endpoint": self.store,
            "s3.region": store.REGION,
            "s3.access-key-id": store.KEY,
            "s3.secret-access-key": store.SECRET,
        }
        optional = {"token": self.token, "warehouse": self.warehouse}
        return properties | {key: value for key, value in optional.items() if value}

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def path(self, what: str) -> str:
        """Returns the URL path of a resource, such as `namespaces`, with the prefix in the catalog's configuration."""
        asked = {"warehouse": self.warehouse} if self.warehouse else {}
        answer = requests.get(f"{self.uri}/v1/config", params=asked, headers=self.headers(), timeout=30)
        config = answer.json()
        prefix = (config.get("defaults", {}) | config.get("overrides", {})).get("prefix", "")
        base = "/" + self.uri.partition("://")[2].partition("/")[2]
        parts = [base.rstrip("/"), "v1", *([quote(prefix, safe="")] if prefix else []), what]
        return "/".join(parts)


def place() -> str:
    """Returns a location that no catalog has used."""
    return f"s3://{store.BUCKET}/bench-{secrets.token_hex(4)}"


@contextmanager
def launched(command: list, uri: str, directory: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Starts a process, and waits until its configuration can be read."""
    log = directory / "peer.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=os.environ | env, stdout=out, stderr=out, cwd=directory)
    try:
        wait_until(lambda: requests.get(f"{uri}/v1/config", timeout=5).ok, 180, process, log)
        yield process
    finally:
        stop(process)


@contextmanager
def esker(name: str, directory: Path, minio: Minio, binary: str) -> Iterator[Peer]:
    if name == "before":
        binary = os.environ["BEFORE"]
    with ExitStack() as stack:
        settings = minio.esker() | QUIET | {"ESKER__WAREHOUSES__MINIO__LOCATION": place()}
        if name == "no-turns":
            settings["ESKER__COMMIT__TURN_MS"] = "0"
        if name == "postgres":
            port = stack.enter_context(running_postgres(directory / "postgres", fsync="on"))
            settings["ESKER__STATE__URL"] = f"postgres://postgres@127.0.0.1:{port}/esker"
        server: Server = stack.enter_context(running(directory, binary, **settings))
        yield Peer(name, minio.endpoint, server.rest, server.token, "minio", server.process)


@contextmanager
def reference(name: str, directory: Path, minio: Minio, _: str) -> Iterator[Peer]:
    jars, bundle = jars_of_pom("rck"), artifact(f"org.apache.iceberg:iceberg-aws-bundle:{ICEBERG}")
    port = free_port()
    env = AWS | {
        "CATALOG_WAREHOUSE": place(),
        "CATALOG_URI": f"jdbc:sqlite:file:{directory}/catalog.db",
        "CATALOG_REST_PORT": str(port),
        "CATALOG_CLIENTS": "1",
        "CATALOG_IO__IMPL": "org.apache.iceberg.aws.s3.S3FileIO",
        "CATALOG_S3_ENDPOINT": minio.endpoint,
        "CATALOG_S3_PATH__STYLE__ACCESS": "true",
    }
    command = [
        "java", "-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp", f"{jars}/*:{bundle}", "org.apache.iceberg.rest.RESTCatalogServer",
    ]  # fmt: skip
    uri = f"http://127.0.0.1:{port}"
    with launched(command, uri, directory, env) as process:
        yield Peer(name, minio.endpoint, uri, process=process)


@contextmanager
def nessie(name: str, directory: Path, minio: Minio, _: str) -> Iterator[Peer]:
    jar = artifact(f"org.projectnessie.nessie:nessie-quarkus:{NESSIE}:jar:runner")
    port, management = free_port(), free_port()
    s3 = "nessie.catalog.service.s3.default-options"
    options = {
        "quarkus.http.port": port,
        "quarkus.management.port": management,
        "quarkus.otel.sdk.disabled": "true",
        "nessie.version.store.type": "ROCKSDB",
        "nessie.version.store.persist.rocks.database-path": directory / "rocks",
        "nessie.catalog.default-warehouse": "wh",
        "nessie.catalog.warehouses.wh.location": place(),
        "nessie.catalog.object-stores.health-check.enabled": "false",
        f"{s3}.endpoint": minio.endpoint,
        f"{s3}.path-style-access": "true",
        f"{s3}.region": store.REGION,
        f"{s3}.request-signing-enabled": "false",
        f"{s3}.access-key": "urn:nessie-secret:quarkus:s3key",
        "s3key.name": store.KEY,
        "s3key.secret": store.SECRET,
    }
    command = [java_home() / "bin" / "java", "-Xmx768m", "-XX:+UseSerialGC"]
    command += [f"-D{key}={value}" for key, value in options.items()]
    uri = f"http://127.0.0.1:{port}/iceberg"
    with launched([*command, "-jar", jar], uri, directory, {}) as process:
        yield Peer(name, minio.endpoint, uri, process=process)


@contextmanager
def rustberg(name: str, directory: Path, minio: Minio, _: str) -> Iterator[Peer]:
    home = CACHE / f"rustberg-{RUSTBERG}"
    if not (home / "bin" / "rustberg").exists():
        print(f"compiling Rustberg {RUSTBERG}, once", file=sys.stderr, flush=True)
        install = ["cargo", "install", "--quiet", "--locked", "--root", home, f"rustberg@{RUSTBERG}"]
        # The compiler's output goes beside the crate's own.
        subprocess.run(install, check=True, env=os.environ | {"CARGO_TARGET_DIR": str(home / "target")})
    (directory / "data").mkdir()
    config = directory / "rustberg.toml"
    config.write_text(f"""
[storage]
catalog_url = "file://{directory}/data"
warehouse_location = "{place()}"
[storage.properties]
"s3.endpoint" = "{minio.endpoint}"
"s3.path-style-access" = "true"
"s3.region" = "{store.REGION}"
"s3.access-key-id" = "env:AWS_ACCESS_KEY_ID"
"s3.secret-access-key" = "env:AWS_SECRET_ACCESS_KEY"
[rate_limit]
enabled = false
[audit]
sink = "none"
""")
    port = free_port()
    command = [home / "bin" / "rustberg", "--config", config, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dev", "--no-auth", "--insecure-http", "--log-level", "error"]
    uri = f"http://127.0.0.1:{port}"
    with launched(command, uri, directory, AWS) as process:
        yield Peer(name, minio.endpoint, uri, process=process)


@contextmanager
def ducklake(name: str, directory: Path, minio: Minio, _: str) -> Iterator[Peer]:
    command = [ROOT / "scripts" / "uv.sh", ROOT / "benches" / "ducklake" / "requirements.txt"]
    python = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    lake = {
        "home": str(directory),
        "database": str(directory / "lake.db"),
        "data": f"{place()}/",
        "endpoint": minio.endpoint.removeprefix("http://"),
        "key": store.KEY,
        "secret": store.SECRET,
    }
    yield Peer(name, minio.endpoint, python=python, lake=lake)


def of_lake(peer: Peer, *arguments: str, retries: bool = True, table: str = "t") -> str:
    """Runs a client of DuckLake. Returns what it prints."""
    told = json.dumps(peer.lake | {"retries": retries, "table": table})
    command = [peer.python, ROOT / "benches" / "ducklake" / "client.py", *arguments]
    return subprocess.run(command, input=f"{told}\n", check=True, capture_output=True, text=True).stdout


STARTS = {
    "sqlite": esker,
    "postgres": esker,
    "no-turns": esker,
    "before": esker,
    "reference": reference,
    "nessie": nessie,
    "rustberg": rustberg,
    "ducklake": ducklake,
}


@contextmanager
def started(name: str, directory: Path, minio: Minio, binary: str) -> Iterator[Peer | None]:
    """Starts a catalog in a new directory. Yields `None`, and says why, if that can't be had."""
    home = directory / f"{name}-{secrets.token_hex(4)}"
    home.mkdir()
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(STARTS[name](name, home, minio, binary))
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            if STARTS[name] is esker:
                raise
            print(f"{name} is left out: {(str(error).splitlines() or [type(error).__name__])[-1]}", flush=True)
            peer = None
        yield peer
