"""Change data capture: PostgreSQL → Debezium → Kafka → Iceberg's sink, and Kafka → Flink upserts; events into Kafka."""

import json
import time
from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pytest
import requests
from kafka import KafkaConsumer
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError
from stack import cdc
from stack.base import wait_until
from stack.esker import running
from stack.flink import ICEBERG, S3, VERSION, Flink
from stack.minio import Minio
from stack.postgres import connect, running_postgres
from stack.roles import give, privileges

VERSIONS = {"Kafka": cdc.KAFKA, "Debezium": cdc.DEBEZIUM, "Iceberg": cdc.SINK, "Java": "17"}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, minio: Minio):
    """Starts Kafka, PostgreSQL, and an Esker that sends its events to Kafka."""
    directory = tmp_path_factory.mktemp("cdc")
    (directory / "esker").mkdir()
    with cdc.running_kafka(directory) as broker, running_postgres(directory) as postgres:
        cdc.create_topics(
            broker, "control-iceberg", "esker-events", "cdc.public.orders_default", "cdc.public.orders_minio"
        )
        settings = {
            "ESKER__EVENTS__KAFKA__LAKE__BOOTSTRAP": f'["{broker}"]',
            "ESKER__EVENTS__KAFKA__LAKE__TOPIC": "esker-events",
            **minio.esker(),
        }
        settings["ESKER__WAREHOUSES__MINIO__LOCATION"] = "s3://lake/cdc"
        with running(directory / "esker", **settings) as server:
            yield directory, broker, postgres, server


def eventually(found, expected, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while True:
        got = found()
        if got == expected or time.monotonic() > end:
            assert got == expected
            return
        time.sleep(1)


@pytest.mark.engine("Kafka Connect", versions=lambda: VERSIONS)
@pytest.mark.parametrize(
    "target", [pytest.param("minio", id="minio", marks=pytest.mark.slice), pytest.param("default", id="local")]
)
def test_changes_of_a_database_arrive_through_the_sink(chain, target: str) -> None:
    directory, broker, postgres, server = chain
    database = connect(postgres)
    orders = f"orders_{target}"
    database.execute(f"CREATE TABLE {orders} (id int PRIMARY KEY, item text, n int)")
    database.execute(f"ALTER TABLE {orders} REPLICA IDENTITY FULL")
    database.execute(f"INSERT INTO {orders} SELECT i, 'item ' || i, i FROM generate_series(1, 100) i")
    catalog = server.catalog(target)
    catalog.create_namespace("cdc")

    def changes() -> dict[str, int]:
        if not catalog.table_exists("cdc.orders"):
            return {}
        ops = catalog.load_table("cdc.orders").scan().to_arrow()["__op"].to_pylist()
        return {op: ops.count(op) for op in set(ops)}

    with cdc.running_connect(directory, broker, postgres, server, target):
        eventually(changes, {"r": 100})
        database.execute(f"UPDATE {orders} SET n = n + 1000 WHERE id <= 10")
        database.execute(f"DELETE FROM {orders} WHERE id > 95")
        database.execute(f"INSERT INTO {orders} VALUES (1000, 'late', 7)")
        eventually(changes, {"r": 100, "u": 10, "d": 5, "c": 1})
    assert server.sql(f"SELECT count(*) FROM {target}.cdc.orders WHERE __op = 'u' AND n > 1000") == [(10,)]


@pytest.mark.engine("Kafka to Flink", versions=lambda: {"Kafka": cdc.KAFKA, "Flink": VERSION, "Iceberg": ICEBERG})
@pytest.mark.parametrize("target", ["default", "minio"], ids=["local", "minio"])
def test_the_same_changes_become_upserts_through_flink(chain, target: str, tmp_path: Path) -> None:
    _, broker, postgres, server = chain
    rows = connect(postgres).execute("SELECT id, item, n FROM orders_minio ORDER BY id").fetchall()
    table = f"`{target}`.cdc_flink.orders"
    sql = (
        f"CREATE DATABASE IF NOT EXISTS `{target}`.cdc_flink;\n"
        f"CREATE TABLE {table} (id INT NOT NULL, item STRING, n INT, PRIMARY KEY (id) NOT ENFORCED) "
        "WITH ('format-version'='2', 'write.upsert.enabled'='true');\n"
        "CREATE TEMPORARY TABLE default_catalog.default_database.changes "
        "(id INT NOT NULL, item STRING, n INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', "
        f"'topic'='cdc.public.orders_minio', 'properties.bootstrap.servers'='{broker}', "
        "'scan.startup.mode'='earliest-offset', "
        "'format'='debezium-json', 'debezium-json.schema-include'='true');\n"
        f"INSERT INTO {table} SELECT * FROM default_catalog.default_database.changes;\n"
    )
    flink = Flink(server, tmp_path)
    flink.run(sql, stop_after_ms=12_000)
    found, _ = flink.run(f"SELECT id, item, n FROM {table} ORDER BY id;\n", "batch")
    assert found == [f"+I[{id_}, {item}, {n}]" for id_, item, n in rows]
    assert len(rows) == 96


@pytest.mark.slice
@pytest.mark.engine("Kafka events", versions=lambda: {"Kafka": cdc.KAFKA})
def test_events_arrive_in_kafka_in_order_and_once_more_from_a_cursor(chain) -> None:
    _, broker, _, server = chain
    start = server.api("GET", "/api/v1/events?after=0&limit=1000")["next"]
    catalog = server.catalog()
    catalog.create_namespace("ev")
    catalog.create_namespace(("ev", "inner"))
    catalog.drop_namespace(("ev", "inner"))
    replayed = server.api("GET", f"/api/v1/events?after={start}&warehouse=default")["events"]
    expected = [("namespace.created", "ev"), ("namespace.created", "ev.inner"), ("namespace.dropped", "ev.inner")]
    assert [(e["type"], e["subject"]) for e in replayed] == expected
    consumer = KafkaConsumer(
        "esker-events", bootstrap_servers=broker, auto_offset_reset="earliest", consumer_timeout_ms=5000
    )
    delivered: list[dict] = []

    def arrived() -> bool:
        delivered.extend(json.loads(message.value) for message in consumer)
        return {e["uuid"] for e in replayed} <= {e["id"] for e in delivered}

    wait_until(arrived, 40, None, Path("/dev/null"))
    ids = [int(e["sequence"]) for e in delivered]
    assert ids == sorted(ids)
    mine = [e for e in delivered if e["source"] == "/esker/warehouses/default" and int(e["sequence"]) > start]
    assert [(e["type"], e["subject"]) for e in mine] == [(f"io.esker.{kind}", subject) for kind, subject in expected]
    consumer.close()


CHANGES = pa.schema(
    [("id", pa.int32()), ("item", pa.string()), ("n", pa.int32()), ("__op", pa.string()), ("__deleted", pa.string())]
)


# What the sink's task says without a privilege. A load without APPEND has no credentials, so the store's client fails.
REASONS = {
    "USE": "warehouse lake does not exist",
    "READ_METADATA": "Table does not exist: cdc.orders",
    "APPEND": "Unable to load credentials",
}


@pytest.mark.usefixtures("no_keys")
def test_the_sink_works_with_the_privileges_of_its_role_and_fails_with_one_fewer(
    chain, minio: Minio, tmp_path: Path
) -> None:
    _, broker, postgres, _ = chain
    cdc.create_topics(broker, "cdc.public.orders_lake")
    database = connect(postgres)
    database.execute("CREATE TABLE orders_lake (id int PRIMARY KEY, item text, n int)")
    database.execute("INSERT INTO orders_lake SELECT i, 'item ' || i, i FROM generate_series(1, 10) i")
    (tmp_path / "esker").mkdir()
    with running(tmp_path / "esker", **minio.vending("lake")) as admin:
        admin.control_access()
        catalog = admin.catalog("lake")
        for name in ("cdc.orders", "hr.salaries"):
            catalog.create_namespace(name.partition(".")[0])
            catalog.create_table(name, CHANGES)
        sink = give(admin, "sinks")
        asked = {
            "iceberg.tables.auto-create-enabled": "false",
            "iceberg.catalog.io-impl": S3,
            "iceberg.catalog.header.X-Iceberg-Access-Delegation": "vended-credentials",
        }
        with cdc.running_connect(tmp_path, broker, postgres, sink, "lake", asked) as url:

            def state() -> str:
                [task] = requests.get(f"{url}/status", timeout=5).json()["tasks"]
                return f"{task['state']} {task.get('trace', '')}"

            def ids() -> list[int]:
                return [row[0] for row in admin.sql("SELECT id FROM lake.cdc.orders ORDER BY id")]

            eventually(ids, expected := list(range(1, 11)))
            for privilege, on in privileges(admin, "sinks"):
                admin.sql(f"REVOKE {privilege} ON {on} FROM ROLE sinks")
                requests.post(f"{url}/restart?includeTasks=true", timeout=30).raise_for_status()
                expected.append(len(expected) + 1)
                database.execute(f"INSERT INTO orders_lake VALUES ({expected[-1]}, 'one fewer', 0)")
                wait_until(lambda: state().startswith("FAILED"), 90, None, tmp_path / "connect-lake.log")
                assert REASONS[privilege] in state()
                assert ids() == expected[:-1]
                admin.sql(f"GRANT {privilege} ON {on} TO ROLE sinks")
                requests.post(f"{url}/restart?includeTasks=true", timeout=30).raise_for_status()
                # What was refused is delivered, and once.
                eventually(ids, expected)
        # The sink's client does nothing else.
        own = sink.catalog("lake")
        table = own.load_table("cdc.orders")
        with pytest.raises(NoSuchTableError):
            own.load_table("hr.salaries")
        admin.sql("GRANT LIST ON NAMESPACE lake.cdc TO ROLE sinks")
        with pytest.raises(ForbiddenError, match="connect lacks MODIFY on table cdc.orders"):
            table.delete("id = 1")
        with pytest.raises(ForbiddenError, match="connect lacks SET_PROPERTIES on table cdc.orders"):
            table.transaction().set_properties(a="b").commit_transaction()
        with pytest.raises(ForbiddenError, match="connect lacks DROP on table cdc.orders"):
            own.drop_table("cdc.orders")
        with pytest.raises(ForbiddenError, match="connect lacks CREATE_TABLE on namespace cdc"):
            own.create_table("cdc.mine", CHANGES)
        with pytest.raises(adbc_driver_manager.Error, match="connect lacks READ_DATA on table cdc.orders"):
            sink.sql("SELECT * FROM lake.cdc.orders")
        assert ids() == expected
