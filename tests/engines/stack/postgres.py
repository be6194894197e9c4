"""Starts a throwaway PostgreSQL.

`python -m stack.postgres COMMAND…` runs a command with one. Its URL is in ESKER_TEST_POSTGRES.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pgserver
import psycopg

from .base import free_port, stop, wait_until

NOBODY = 65534


@contextmanager
def running_postgres(directory: Path, fsync: str = "off") -> Iterator[int]:
    """Starts PostgreSQL with logical decoding. Yields its port. Root starts it as `nobody`, because it refuses root.

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
    log = directory / "postgres.log"
    with log.open("w") as out:
        command = [home / "bin" / "postgres", "-D", data, *options]
        process = subprocess.Popen(command, cwd=data, stdout=out, stderr=out, **as_user)

    def ready() -> bool:
        try:
            connect(port).close()
            return True
        except psycopg.OperationalError:
            return False

    try:
        wait_until(ready, 30, process, log)
        yield port
    finally:
        stop(process)


def connect(port: int) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="esker-postgres-") as directory, running_postgres(Path(directory)) as port:
        url = f"postgres://postgres@127.0.0.1:{port}"
        return subprocess.run(sys.argv[1:], env=os.environ | {"ESKER_TEST_POSTGRES": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
