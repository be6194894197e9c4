"""Kafka and Kafka Connect with Debezium and Iceberg's sink."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from . import minio
from .base import free_port, jars_of_pom, stop, wait_until
from .esker import Server

KAFKA, DEBEZIUM, SINK = "4.3.1", "3.6.0.Final", "1.12.0"
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


def write(path: Path, properties: dict) -> Path:
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    return path


@contextmanager
def running_kafka(directory: Path) -> Iterator[str]:
    """Starts a broker that is its own controller. Yields host:port."""
    jars = jars_of_pom("kafka")
    port, controller = free_port(), free_port()
    properties = write(
        directory / "server.properties",
        {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": directory / "data",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        },
    )
    # A Kafka cluster id is a UUID in URL-safe base64 that does not begin with a dash.
    cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    format_ = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties]
    subprocess.run([*JAVA, "-cp", f"{jars}/*", *format_], check=True, capture_output=True)
    log = directory / "kafka.log"
    with log.open("w") as out:
        command = [*JAVA, "-Xmx512m", "-cp", f"{jars}/*", "kafka.Kafka", properties]
        process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=out)

    def ready() -> bool:
        try:
            KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}").close()
            return True
        except Exception:
            return False

    try:
        wait_until(ready, 60, process, log)
        yield f"127.0.0.1:{port}"
    finally:
        stop(process)


def create_topics(broker: str, *names: str) -> None:
    client = KafkaAdminClient(bootstrap_servers=broker)
    client.create_topics([NewTopic(name, num_partitions=1, replication_factor=1) for name in names])
    client.close()


@contextmanager
def running_connect(
    directory: Path, broker: str, postgres: int, server: Server, warehouse: str, more: dict[str, str] | None = None
) -> Iterator[str]:
    """Starts Debezium from `orders_WAREHOUSE` to its topic, and Iceberg's sink from there to `cdc.orders`.

    `more` are further properties of the sink. Yields the URL of the sink in Kafka Connect's API.
    """
    table = f"public.orders_{warehouse}"
    jars = jars_of_pom("connect")
    rest = free_port()
    worker = write(
        directory / f"worker-{warehouse}.properties",
        {
            "bootstrap.servers": broker,
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "true",
            "value.converter.schemas.enable": "true",
            "offset.storage.file.filename": directory / f"offsets-{warehouse}",
            "offset.flush.interval.ms": 1000,
            "listeners": f"http://127.0.0.1:{rest}",
            "plugin.discovery": "hybrid_warn",
        },
    )
    source = write(
        directory / f"source-{warehouse}.properties",
        {
            "name": f"source-{warehouse}",
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1",
            "database.port": postgres,
            "database.user": "postgres",
            "database.password": "x",
            "database.dbname": "postgres",
            "topic.prefix": "cdc",
            "plugin.name": "pgoutput",
            "table.include.list": table,
            "slot.name": f"slot_{warehouse}",
            "publication.name": f"publication_{warehouse}",
            "publication.autocreate.mode": "filtered",
        },
    )
    sink = {
        "name": f"sink-{warehouse}",
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": 1,
        "topics": f"cdc.{table}",
        "transforms": "unwrap",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.unwrap.delete.tombstone.handling.mode": "rewrite",
        "transforms.unwrap.add.fields": "op",
        "iceberg.tables": "cdc.orders",
        "iceberg.tables.auto-create-enabled": "true",
        "iceberg.control.commit.interval-ms": 2000,
        "iceberg.control.commit.timeout-ms": 5000,
        "iceberg.catalog.type": "rest",
        "iceberg.catalog.uri": server.rest,
        "iceberg.catalog.token": server.token,
        "iceberg.catalog.token-refresh-enabled": "false",
        "iceberg.catalog.warehouse": warehouse,
    }
    if warehouse == "minio":
        sink |= {
            "iceberg.catalog.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "iceberg.catalog.s3.access-key-id": minio.KEY,
            "iceberg.catalog.s3.secret-access-key": minio.SECRET,
        }
    sink = write(directory / f"sink-{warehouse}.properties", sink | (more or {}))
    log = directory / f"connect-{warehouse}.log"
    with log.open("w") as out:
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        command = [*JAVA, "-Xmx768m", "-cp", f"{jars}/*", main, worker, source, sink]
        process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=out)

    def ready() -> bool:
        names = (f"source-{warehouse}", f"sink-{warehouse}")
        answers = [requests.get(f"http://127.0.0.1:{rest}/connectors/{n}/status", timeout=2).json() for n in names]
        return all(a.get("tasks") and a["tasks"][0]["state"] == "RUNNING" for a in answers)

    try:
        wait_until(ready, 120, process, log)
        yield f"http://127.0.0.1:{rest}/connectors/sink-{warehouse}"
    finally:
        stop(process)
