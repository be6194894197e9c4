"""iceberg-rust, with its REST catalog and its DataFusion tables."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from .base import CACHE, ENGINES
from .esker import Server

VERSION = "0.10.1"


def built() -> Path:
    """Builds the program, which takes minutes, once. Returns its path."""
    target = CACHE / "iceberg-rust"
    command = ["cargo", "build", "--quiet", "--locked"]
    subprocess.run(
        command, cwd=ENGINES / "iceberg_rust", env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True
    )
    return target / "debug" / "iceberg-rust"


@dataclass
class IcebergRust:
    server: Server
    program: Path

    def ask(self, statement: str) -> pa.Table:
        """Runs a statement of DataFusion's SQL. The warehouse is the catalog `lake`."""
        done = subprocess.run(
            [self.program, self.server.rest, "default"],
            input=statement.encode(),
            env=os.environ | {"ICEBERG_TOKEN": self.server.token},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        return pa.ipc.open_stream(done.stdout).read_all()
