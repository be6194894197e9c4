"""A Spark session with a catalog for each warehouse, named like it."""

from __future__ import annotations

import os

from pyspark.sql import SparkSession

from . import minio
from .base import artifact
from .esker import Server

# The one that `import pyspark` finds is that of the virtual environment: 3.5, or 4.0 with ESKER_SPARK=4.
SPARK_4 = os.environ.get("ESKER_SPARK") == "4"
ICEBERG = "1.11.0" if SPARK_4 else "1.12.0"
RUNTIME = "4.0_2.13" if SPARK_4 else "3.5_2.12"


def iceberg_jars() -> str:
    names = (f"iceberg-spark-runtime-{RUNTIME}", "iceberg-aws-bundle")
    return ",".join(str(artifact(f"org.apache.iceberg:{name}:{ICEBERG}")) for name in names)


def spark_session(server: Server, endpoint: str) -> SparkSession:
    settings = {
        "spark.jars": iceberg_jars(),
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    }
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
            # Endpoint and region come from Esker; keys are the engine's own.
            catalog |= {
                ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
                ".s3.access-key-id": minio.KEY,
                ".s3.secret-access-key": minio.SECRET,
            }
        settings |= {f"spark.sql.catalog.{warehouse}{key}": value for key, value in catalog.items()}
    settings["spark.sql.defaultCatalog"] = "default"
    builder = SparkSession.builder.master("local[2]").appName("esker")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
