"""A MinIO server with one bucket."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from .base import ROOT, free_port, stop, wait_until

KEY, SECRET, REGION, BUCKET = "minioadmin", "minioadmin", "us-east-1", "lake"


@dataclass
class Minio:
    endpoint: str

    def esker(self) -> dict[str, str]:
        """Returns the configuration of an Esker warehouse `minio` on this server."""
        prefix = "ESKER__WAREHOUSES__MINIO__"
        storage = {"ENDPOINT": self.endpoint, "REGION": REGION, "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET}
        return {f"{prefix}LOCATION": f"s3://{BUCKET}/warehouse"} | {
            f"{prefix}STORAGE__{key}": value for key, value in storage.items()
        }


@contextmanager
def running_minio(directory: Path) -> Iterator[Minio]:
    (directory / "data" / BUCKET).mkdir(parents=True)  # a bucket is a directory
    binary = subprocess.run([ROOT / "scripts" / "minio.sh"], check=True, capture_output=True, text=True).stdout.strip()
    port, console = free_port(), free_port()
    log = directory / "minio.log"
    env = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off", "MINIO_CI_CD": "1"}
    command = [
        binary, "server", str(directory / "data"),
        "--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}",
    ]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env | {"HOME": str(directory)}, stdout=out, stderr=out)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: requests.get(f"{endpoint}/minio/health/ready", timeout=1).ok, 30, process, log)
        yield Minio(endpoint)
    finally:
        stop(process)
