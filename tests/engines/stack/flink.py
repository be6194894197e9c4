"""Flink SQL in an embedded cluster."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import minio
from .base import ENGINES, jars_of_pom, java_class
from .esker import Server

VERSION, ICEBERG = "2.1.1", "1.11.0"
OPENS = ["java.util", "java.lang", "java.time", "java.util.concurrent", "sun.nio.ch", "java.nio"]


@dataclass
class Flink:
    server: Server
    directory: Path

    def catalogs(self) -> str:
        """Returns statements that create a catalog for each warehouse, with its name."""
        common = (
            f"'type'='iceberg', 'catalog-type'='rest', 'uri'='{self.server.rest}', 'token'='{self.server.token}', "
            "'token-refresh-enabled'='false', 'cache-enabled'='false'"
        )
        s3 = (
            "'io-impl'='org.apache.iceberg.aws.s3.S3FileIO', "
            f"'s3.access-key-id'='{minio.KEY}', 's3.secret-access-key'='{minio.SECRET}'"
        )
        return (
            f"CREATE CATALOG `default` WITH ({common}, 'warehouse'='default');\n"
            f"CREATE CATALOG minio WITH ({common}, 'warehouse'='minio', {s3});\n"
        )

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
