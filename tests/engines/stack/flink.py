"""Flink SQL in an embedded cluster."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from . import minio
from .base import ENGINES, jars_of_pom, java_class
from .esker import Server

VERSION, ICEBERG = "2.1.1", "1.11.0"
S3 = "org.apache.iceberg.aws.s3.S3FileIO"
OPENS = ["java.util", "java.lang", "java.time", "java.util.concurrent", "sun.nio.ch", "java.nio"]


@dataclass
class Flink:
    server: Server
    directory: Path
    # The properties of each catalog, beside those that every catalog of Esker has. Without: one for each warehouse.
    others: dict[str, dict[str, str]] = field(default_factory=dict)

    def catalogs(self) -> str:
        """Returns statements that create the catalogs."""
        keys = {"s3.access-key-id": minio.KEY, "s3.secret-access-key": minio.SECRET}
        catalogs = self.others or {
            "default": {"warehouse": "default"},
            "minio": {"warehouse": "minio", "io-impl": S3} | keys,
        }
        common = {
            "type": "iceberg",
            "catalog-type": "rest",
            "uri": self.server.rest,
            "token": self.server.token,
            "token-refresh-enabled": "false",
            "cache-enabled": "false",
        }
        sql = ""
        for name, properties in catalogs.items():
            pairs = ", ".join(f"'{key}'='{value}'" for key, value in (common | properties).items())
            sql += f"CREATE CATALOG `{name}` WITH ({pairs});\n"
        return sql

    def run(
        self, sql: str, mode: str = "stream", stop_after_ms: int = 0, savepoints: str = "none", start: str = "none"
    ) -> tuple[list[str], str]:
        """Runs statements that each end with a semicolon and a newline. Returns the rows and a stop's savepoint."""
        jars = jars_of_pom("flink")
        classes = java_class(ENGINES / "flink" / "FlinkSql.java", jars)
        script = self.directory / "script.sql"
        script.write_text(self.catalogs() + sql + ("" if sql.endswith("\n") else ";\n"))
        command = [
            "java", "-Xmx1g", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            *[f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENS],
            "-cp", f"{jars}/*:{classes}", "FlinkSql", script, mode, str(stop_after_ms), savepoints, start,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-6000:]
        lines = done.stdout.splitlines()
        savepoint = [line.removeprefix("SAVEPOINT ") for line in lines if line.startswith("SAVEPOINT ")]
        return [line.removeprefix("ROW ") for line in lines if line.startswith("ROW ")], "".join(savepoint)
