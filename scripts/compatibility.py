"""Prints docs/compatibility.md from the engine tests' results: python3 scripts/compatibility.py RESULTS-DIRECTORY"""

import json
import sys
from pathlib import Path

ORDER = [
    "Compatibility kit", "Spark", "Spark 4", "Trino", "Flink", "PyIceberg", "DuckDB", "iceberg-rust", "Kafka Connect",
    "Kafka to Flink", "Kafka events", "ADBC Flight SQL", "DataHub", "OpenLineage", "Airflow",
    "dbt and Great Expectations", "Prometheus", "OpenSearch", "Chromium",
]  # fmt: skip
WHAT = {
    "Compatibility kit": "Apache Iceberg's REST compatibility kit: with nested namespaces, slashes and dots in names",
    "Spark": "DDL, inserts, deletes copy-on-write and merge-on-read, time travel, branches, write-audit-publish, "
    "views, structured streaming, scans planned by the server, two engines writing at once, undrop",
    "Spark 4": "the same",
    "Trino": "DDL, insert, delete, update, merge, optimize, analyze, CTAS, views (also Spark's), nested namespaces, "
    "OAuth2",
    "Flink": "batch and streaming, upserts with checkpoints, stopped with a savepoint and gone on from it",
    "PyIceberg": "namespaces, tables, views, transactions, registration, scans planned by the server, OAuth2",
    "DuckDB": "attach, read, create, insert, delete, one transaction over two tables",
    "iceberg-rust": "read and insert through its tables for DataFusion, beside every kind of job",
    "Kafka Connect": "PostgreSQL → Debezium → Kafka → Iceberg's sink",
    "Kafka to Flink": "PostgreSQL → Debezium → Kafka → Flink upserts",
    "Kafka events": "Esker's events as CloudEvents in a topic",
    "DataHub": "its own Iceberg source makes the names that health goes under; its schema classes take every aspect",
    "Airflow": "the provider's DAG, deferred tasks, kills that cancel, retries that never double",
    "OpenLineage": "jobs as run events, which its own classes take",
    "dbt and Great Expectations": "dbt-trino and dbt-spark build on the catalog, a suite checks the health table, one "
    "Airflow DAG runs both and then maintenance",
    "OpenSearch": "logs by rsyslog and the shipped template, found by job, request and level",
    "Chromium": "the web page: by keyboard alone, light and dark, offline, with restore and cancel",
    "Prometheus": "scrapes a real run: every expression of dashboards and alert rules finds something; rules' tests",
    "ADBC Flight SQL": "queries, prepared statements, metadata",
}

HEAD = """# Compatibility

Made by `make docs` from what `make test-engines` ran; don't edit. Every engine is the unmodified release, driven
against a server process. "Local" is a warehouse of files, "MinIO" one on S3-compatible storage.

| engine | versions | tests passed | on | seconds | what is driven |
|---|---|---|---|---|---|"""

FOOT = """
**The baseline is Java 17 and Python 3.11**: one of each runs everything above, but for Trino, which needs a newer
JDK (476 runs on 24 or later; the tests take 25 from PyPI).

The kit has 157 tests. 151 pass; five are for catalogs with an empty namespace, which no server has, and one can't be
configured in the kit. The reference server passes 144.
"""


def main(directory: Path) -> None:
    results = {r["engine"]: r for r in (json.loads(p.read_text()) for p in directory.glob("*.json"))}
    missing = [name for name in ORDER if name not in results]
    if missing:
        sys.exit(f"no results of {', '.join(missing)}: run `make test-engines` first")
    print(HEAD)
    for name in ORDER:
        result = results[name]
        if result["failed"]:
            sys.exit(f"{result['failed']} tests of {name} failed: run `make test-engines` again")
        versions = ", ".join(f"{what} {version}" for what, version in result["versions"].items())
        places = "local, MinIO" if result.get("minio") else "local"
        seconds = round(result["seconds"])
        print(f"| {name} | {versions} | {result['passed']} | {places} | {seconds} | {WHAT[name]} |")
    print(FOOT, end="")


main(Path(sys.argv[1]))
