"""A Spark session with a catalog for each warehouse, with the warehouse's name."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from . import minio
from .base import ENGINES, artifact, free_port, stop, wait_until
from .esker import Server

# `import pyspark` finds the version of the virtual environment: 3.5, or 4.0 with ESKER_SPARK=4.
SPARK_4 = os.environ.get("ESKER_SPARK") == "4"
ICEBERG = "1.11.0" if SPARK_4 else "1.12.0"
RUNTIME = "4.0_2.13" if SPARK_4 else "3.5_2.12"


def versions() -> dict[str, str]:
    return {"Spark": pyspark.__version__, "Iceberg": ICEBERG, "Java": "17", "Python": "3.11"}


def iceberg_jars() -> str:
    names = (f"iceberg-spark-runtime-{RUNTIME}", "iceberg-aws-bundle")
    return ",".join(str(artifact(f"org.apache.iceberg:{name}:{ICEBERG}")) for name in names)


def common_settings() -> dict[str, str]:
    """Returns the settings of every session, without catalogs."""
    return {
        "spark.jars": iceberg_jars(),
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    }


def spark_settings(server: Server, endpoint: str) -> dict[str, str]:
    settings = common_settings()
    for warehouse in ("default", "minio"):
        catalog = {
            "": "org.apache.iceberg.spark.SparkCatalog",
            ".type": "rest",
            ".uri": server.rest,
            ".token": server.token,
            ".warehouse": warehouse,
            ".token-refresh-enabled": "false",
            ".cache-enabled": "false",
        }
        if warehouse == "minio":
            # Esker's catalog gives endpoint and region; the engine must have its own keys.
            catalog |= {
                ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
                ".s3.access-key-id": minio.KEY,
                ".s3.secret-access-key": minio.SECRET,
            }
        settings |= {f"spark.sql.catalog.{warehouse}{key}": value for key, value in catalog.items()}
    settings["spark.sql.defaultCatalog"] = "default"
    return settings


@contextmanager
def running_connect(directory: Path, server: Server, endpoint: str) -> Iterator[str]:
    """Starts a server of Spark Connect. Yields the value for SPARK_REMOTE."""
    jar = artifact(f"org.apache.spark:spark-connect_2.12:{pyspark.__version__}")
    port, log, config = free_port(), directory / "connect.log", directory / "connect.conf"
    settings = spark_settings(server, endpoint) | {"spark.master": "local[2]"}
    settings |= {"spark.connect.grpc.binding.port": str(port), "spark.jars": f"{iceberg_jars()},{jar}"}
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    main = "org.apache.spark.sql.connect.service.SparkConnectServer"
    command = [submit, "--properties-file", config, "--class", main, jar]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=directory)
    try:
        wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, 90, process, log)
        yield f"sc://127.0.0.1:{port}"
    finally:
        stop(process)


def submitted(directory: Path, properties: str, statements: Sequence[str]) -> list[list[tuple] | str]:
    """Runs statements in a Java process of their own, which begins with a properties file, as a user's program does.

    Returns for each statement its rows, or the text of its error.
    """
    file = directory / "spark.properties"
    more = common_settings() | {"spark.master": "local[2]"}
    file.write_text("".join(f"{key} {value}\n" for key, value in more.items()) + properties)
    env = os.environ | {"PYSPARK_SUBMIT_ARGS": f"--properties-file {file} pyspark-shell"}
    command = [sys.executable, ENGINES / "stack" / "spark_statements.py", *statements]
    done = subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == len(statements), done.stdout[-4000:]
    found = [json.loads(line) for line in lines]
    return [one if isinstance(one, str) else [tuple(row) for row in one] for one in found]


def spark_session(server: Server, endpoint: str) -> SparkSession:
    settings = spark_settings(server, endpoint)
    builder = SparkSession.builder.master("local[2]").appName("esker")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
