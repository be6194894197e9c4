"""A MinIO server with one bucket.

`python -m stack.minio COMMAND…` runs a command with one. Its endpoint is in ESKER_TEST_MINIO.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import subprocess
import sys
import tempfile
import zipfile
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

    def add_user(self, name: str, secret: str) -> None:
        """Adds a user who may do everything with the bucket."""
        resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
        statement = {"Effect": "Allow", "Action": ["s3:*"], "Resource": resources}
        files = {
            "policies": {f"of-{name}": {"Version": "2012-10-17", "Statement": [statement]}},
            "users": {name: {"secretKey": secret, "status": "enabled"}},
            "user_mappings": {name: {"version": 1, "policy": f"of-{name}", "updatedAt": "2026-01-01T00:00:00Z"}},
        }
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            for file, content in files.items():
                written.writestr(f"iam-assets/{file}.json", json.dumps(content))
        self._import_iam(archive.getvalue())

    def vending(self, warehouse: str, endpoint: str | None = None) -> dict[str, str]:
        """Adds a user, and returns the configuration of an Esker warehouse that vends credentials of it.

        `endpoint` is that of a proxy, if the warehouse has one.
        """
        user, secret = f"vends-{warehouse}", f"the-secret-of-{warehouse}"
        self.add_user(user, secret)
        settings = {
            # Each server has a location of its own.
            "LOCATION": f"s3://{BUCKET}/{user}-{secrets.token_hex(4)}",
            "STORAGE__ENDPOINT": endpoint or self.endpoint,
            "STORAGE__REGION": REGION,
            "STORAGE__ACCESS_KEY_ID": user,
            "STORAGE__SECRET_ACCESS_KEY": secret,
            "VENDING__MODE": "sts",
        }
        return {f"ESKER__WAREHOUSES__{warehouse.upper()}__{key}": value for key, value in settings.items()}

    def _import_iam(self, body: bytes) -> None:
        """Imports users and policies. Unlike the other requests that add them, this one is not encrypted."""
        # Imported here, because the environment of Spark 4 does not have it.
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        url = f"{self.endpoint}/minio/admin/v3/import-iam"
        headers = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        request = AWSRequest("PUT", url, data=body, headers=headers)
        SigV4Auth(Credentials(KEY, SECRET), "s3", REGION).add_auth(request)
        answer = requests.put(url, data=body, headers=dict(request.headers), timeout=30)
        assert answer.ok, answer.text


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


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="esker-minio-") as directory, running_minio(Path(directory)) as minio:
        env = os.environ | {"ESKER_TEST_MINIO": minio.endpoint}
        return subprocess.run(sys.argv[1:], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
