"""Starts a throwaway PostgreSQL.

`python -m stack.postgres COMMAND…` runs a command with one. Its URL is in ESKER_TEST_POSTGRES. With `--crashes` before
the command, ESKER_TEST_POSTGRES_CRASH is the path of a file: whoever creates it lets the server crash and start again,
and then the file is removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pgserver
import psycopg

from .base import free_port, stop, wait_until

NOBODY = 65534


@dataclass
class Postgres:
    """A server, which can crash and start again."""

    port: int
    command: list
    data: Path
    log: Path
    as_user: dict
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        with self.log.open("a") as out:
            self.process = subprocess.Popen(self.command, cwd=self.data, stdout=out, stderr=out, **self.as_user)
        wait_until(self.ready, 30, self.process, self.log)

    def ready(self) -> bool:
        try:
            connect(self.port).close()
            return True
        except psycopg.OperationalError:
            return False

    def crash(self) -> None:
        """Ends the server without a checkpoint, and starts it again."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        self.start()

    def crash_when_asked(self, asked: Path) -> None:
        """Crashes whenever a file appears. Never returns."""
        while True:
            if asked.exists():
                self.crash()
                asked.unlink()
            time.sleep(0.05)


@contextmanager
def running_server(directory: Path, fsync: str = "off") -> Iterator[Postgres]:
    """Starts PostgreSQL with logical decoding. Root starts it as `nobody`, because it refuses root.

    With `fsync="on"` commits wait for the disk.
    """
    source = Path(pgserver.__file__).parent / "pginstall"
    port, root = free_port(), os.getuid() == 0
    home, data = directory / "pgserver" / "pginstall", directory / "pgdata"
    shutil.copytree(source, home, symlinks=True)
    # The package expects its libraries in a neighbouring directory.
    shutil.copytree(source.parent.parent / "pgserver.libs", directory / "pgserver.libs")
    data.mkdir(mode=0o700)
    as_user: dict = {}
    if root:
        for parent in [directory, *directory.parents][:-2]:
            parent.chmod(0o755)
        os.chown(data, NOBODY, NOBODY)
        as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    initdb = [home / "bin" / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=data, **as_user)
    settings = {"listen_addresses": "127.0.0.1", "port": port, "wal_level": "logical", "fsync": fsync}
    settings |= {"unix_socket_directories": data}
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    command = [home / "bin" / "postgres", "-D", data, *options]
    server = Postgres(port, command, data, directory / "postgres.log", as_user)
    try:
        server.start()
        yield server
    finally:
        if server.process:
            stop(server.process)


@contextmanager
def running_postgres(directory: Path, fsync: str = "off") -> Iterator[int]:
    """Starts PostgreSQL like `running_server`. Yields its port."""
    with running_server(directory, fsync) as server:
        yield server.port


def connect(port: int) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True)


def main() -> int:
    command = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="esker-postgres-") as directory, running_server(Path(directory)) as server:
        env = os.environ | {"ESKER_TEST_POSTGRES": f"postgres://postgres@127.0.0.1:{server.port}"}
        if command[0] == "--crashes":
            command = command[1:]
            asked = Path(directory) / "crash"
            env["ESKER_TEST_POSTGRES_CRASH"] = str(asked)
            Thread(target=server.crash_when_asked, args=[asked], daemon=True).start()
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
