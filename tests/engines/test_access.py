"""Access control with real engines that have no keys but vended ones: who reads, who writes, and what is hidden.

Where the credentials are for reading, the store refuses an engine's files before the catalog refuses its commit. With
keys of its own, the engine gets as far as the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import adbc_driver_manager
import duckdb
import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import ForbiddenError, NoSuchNamespaceError, NoSuchTableError
from stack import minio as store
from stack.duck import attached, extension
from stack.esker import Server, running
from stack.flink import S3, Flink
from stack.minio import Minio
from stack.trino import Trino, running_trino
from trino.exceptions import TrinoQueryError

pytestmark = pytest.mark.usefixtures("no_keys")

USER, SECRET, ROOT = "guard", "the-secret-of-guard", f"s3://{store.BUCKET}/guarded"
ROWS = pa.table({"id": pa.array(range(3), pa.int64()), "s": ["a", "b", "c"]})
SUMMARY = "count(*), sum(id), max(s)"
EXPECTED = [(3, 3, "c")]
ENGINES = ("pyiceberg", "duckdb", "spark", "trino", "flink", "flight")
DELEGATION = "header.X-Iceberg-Access-Delegation"


@dataclass
class Guarded:
    """A server with access control, as each of its clients reaches it."""

    admin: Server
    analyst: Server
    etl: Server

    def grant(self, role: str, privileges: str, on: str, end: str = "") -> None:
        """Grants privileges to a role, or takes them back with `end="/revoke"`."""
        self.admin.grant(f"role:{role}", privileges, on, end)

    def revoke(self, role: str, privileges: str, on: str) -> None:
        self.grant(role, privileges, on, "/revoke")

    def create(self, name: str) -> None:
        """Creates a table of three rows, and its namespace. DuckDB deletes where files are merged on read only."""
        catalog = pyiceberg(self.admin)
        catalog.create_namespace_if_not_exists(name.partition(".")[0])
        modes = {f"write.{change}.mode": "merge-on-read" for change in ("delete", "update", "merge")}
        catalog.create_table(name, ROWS.schema, properties=modes).append(ROWS)

    def left(self, engine: str) -> list[tuple]:
        """Returns what is in the table that an engine has written to."""
        return self.admin.sql(f"SELECT count(*), max(id) FROM guarded.sales.by_{engine}")

    def assert_unchanged(self) -> None:
        assert self.admin.sql(f"SELECT {SUMMARY} FROM guarded.sales.orders") == EXPECTED


@pytest.fixture(scope="module")
def guarded(minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Starts a server whose warehouse `guarded` vends credentials. The mode is on.

    The role `readers` has the client `analyst`, and `writers` has `etl`. Both work in the namespace `sales` alone.
    """
    minio.add_user(USER, SECRET)
    prefix = "ESKER__WAREHOUSES__GUARDED__"
    settings = {
        "LOCATION": ROOT,
        "STORAGE__ENDPOINT": minio.endpoint,
        "STORAGE__REGION": store.REGION,
        "STORAGE__ACCESS_KEY_ID": USER,
        "STORAGE__SECRET_ACCESS_KEY": SECRET,
        "VENDING__MODE": "sts",
    }
    directory = tmp_path_factory.mktemp("access")
    with running(directory, **{prefix + key: value for key, value in settings.items()}) as admin:
        admin.control_access()
        clients = {}
        for client, role in (("analyst", "readers"), ("etl", "writers")):
            admin.add_role(role, f"client:{client}")
            clients[client] = replace(admin, token=admin.api("POST", "/api/v1/tokens", {"principal": client})["token"])
        guarded = Guarded(admin, **clients)
        for name in ("sales.orders", "hr.salaries", *(f"sales.by_{engine}" for engine in ENGINES)):
            guarded.create(name)
        for role, privileges in (("readers", "SELECT"), ("writers", "WRITE")):
            guarded.grant(role, "USE", "warehouse guarded")
            guarded.grant(role, privileges, "namespace guarded.sales")
        yield guarded


def pyiceberg(who: Server, **properties: str) -> Catalog:
    """Returns a catalog of PyIceberg that asks for credentials, as it does by default."""
    return load_catalog("guarded", type="rest", uri=who.rest, token=who.token, warehouse="guarded", **properties)


def duck(who: Server, home: Path) -> duckdb.DuckDBPyConnection:
    """Returns a connection of DuckDB in which the warehouse is `lake`. It asks for credentials by default."""
    connection = duckdb.connect(config={"home_directory": str(home)})
    for name in ("avro", "httpfs", "iceberg"):
        connection.load_extension(extension(name))
    connection.execute(f"CREATE SECRET esker (TYPE iceberg, TOKEN '{who.token}')")
    connection.execute(f"ATTACH 'guarded' AS lake (TYPE iceberg, SECRET esker, ENDPOINT '{who.rest}')")
    return connection


def credentials(who: Server, table: str) -> int:
    """Asks for credentials of a table. Returns the status."""
    namespace, name = table.split(".")
    url = f"{who.rest}/v1/guarded/namespaces/{namespace}/tables/{name}/credentials"
    return requests.get(url, headers={"authorization": f"Bearer {who.token}"}, timeout=30).status_code


@pytest.mark.slice
def test_pyiceberg_of_an_analyst_reads_and_changes_nothing(guarded: Guarded) -> None:
    catalog = pyiceberg(guarded.analyst)
    table = catalog.load_table("sales.orders")
    assert table.io.properties["s3.session-token"], "vended"
    assert table.scan().to_arrow().sort_by("id").to_pydict() == ROWS.to_pydict()
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        table.append(ROWS)
    keys = {"s3.access-key-id": store.KEY, "s3.secret-access-key": store.SECRET, DELEGATION: "none"}
    with pytest.raises(ForbiddenError, match="analyst lacks APPEND on table sales.orders"):
        pyiceberg(guarded.analyst, **keys).load_table("sales.orders").append(ROWS)
    with pytest.raises(ForbiddenError, match="analyst lacks SET_PROPERTIES on table sales.orders"):
        table.transaction().set_properties(a="b").commit_transaction()
    with pytest.raises(ForbiddenError, match="analyst lacks DROP on table sales.orders"):
        catalog.drop_table("sales.orders")
    with pytest.raises(ForbiddenError, match="analyst lacks CREATE_TABLE on namespace sales"):
        catalog.create_table("sales.mine", ROWS.schema)
    guarded.assert_unchanged()


@pytest.mark.slice
def test_pyiceberg_of_an_analyst_sees_the_granted_namespace_alone(guarded: Guarded) -> None:
    catalog = pyiceberg(guarded.analyst)
    assert catalog.list_namespaces() == [("sales",)]
    tables = {("sales", "orders"), *(("sales", f"by_{engine}") for engine in ENGINES)}
    assert set(catalog.list_tables("sales")) == tables
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("hr")
    with pytest.raises(NoSuchTableError) as hidden:
        catalog.load_table("hr.salaries")
    with pytest.raises(NoSuchTableError) as missing:
        catalog.load_table("hr.nothing")
    assert str(hidden.value).replace("salaries", "nothing") == str(missing.value)
    assert not catalog.table_exists("hr.salaries")
    assert pyiceberg(guarded.admin).table_exists("hr.salaries")


@pytest.mark.slice
def test_pyiceberg_of_a_writer_appends_and_deletes_and_does_no_more(guarded: Guarded) -> None:
    catalog = pyiceberg(guarded.etl)
    table = catalog.load_table("sales.by_pyiceberg")
    table.append(pa.table({"id": pa.array(range(10, 20), pa.int64()), "s": ["x"] * 10}))
    table.delete("id >= 15")
    assert catalog.load_table("sales.by_pyiceberg").scan().to_arrow().num_rows == 8
    assert guarded.left("pyiceberg") == [(8, 14)]
    with pytest.raises(ForbiddenError, match="etl lacks DROP on table sales.by_pyiceberg"):
        catalog.drop_table("sales.by_pyiceberg")
    with pytest.raises(NoSuchTableError):
        catalog.load_table("hr.salaries")


@pytest.mark.slice
def test_after_a_revocation_the_next_load_of_pyiceberg_and_duckdb_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    # The role is another one, so that the other tests keep their grants whatever happens here.
    admin, on = guarded.admin, "namespace guarded.leaving"
    guarded.create("leaving.t")
    admin.api("POST", "/api/v1/access/roles", {"name": "leavers"})
    leaver = replace(admin, token=admin.api("POST", "/api/v1/tokens", {"principal": "leaver"})["token"])
    admin.api("PUT", "/api/v1/access/roles/leavers/members/client:leaver")
    guarded.grant("leavers", "USE", "warehouse guarded")
    guarded.grant("leavers", "SELECT", on)
    catalog, query = pyiceberg(leaver), f"SELECT {SUMMARY} FROM lake.leaving.t"
    assert catalog.load_table("leaving.t").scan().to_arrow().num_rows == 3
    with duck(leaver, tmp_path) as before:
        assert before.execute(query).fetchall() == EXPECTED

    guarded.revoke("leavers", "READ_METADATA, READ_DATA", on)
    with pytest.raises(ForbiddenError, match="leaver lacks READ_METADATA on table leaving.t"):
        catalog.load_table("leaving.t")
    assert credentials(leaver, "leaving.t") == 403
    assert catalog.list_tables("leaving") == [("leaving", "t")], "it is still seen"
    guarded.revoke("leavers", "LIST", on)
    with pytest.raises(NoSuchTableError):
        catalog.load_table("leaving.t")
    assert credentials(leaver, "leaving.t") == 404
    with duck(leaver, tmp_path) as after, pytest.raises(duckdb.Error, match="does not exist"):
        after.execute(query)


@pytest.mark.slice
def test_duckdb_of_an_analyst_reads_changes_nothing_and_sees_the_granted_namespace_alone(
    guarded: Guarded, minio: Minio, tmp_path: Path
) -> None:
    with duck(guarded.analyst, tmp_path) as analyst:
        assert analyst.execute(f"SELECT {SUMMARY} FROM lake.sales.orders").fetchall() == EXPECTED
        with pytest.raises(duckdb.Error, match="403"):
            analyst.execute("INSERT INTO lake.sales.orders VALUES (4, 'd')")
        schemas = "SELECT schema_name FROM duckdb_schemas() WHERE database_name = 'lake'"
        names = {row[0] for row in analyst.execute(schemas).fetchall()}
        assert "sales" in names and "hr" not in names
        seen = {row[1:3] for row in analyst.execute("SHOW ALL TABLES").fetchall() if row[0] == "lake"}
        assert ("sales", "orders") in seen and all(schema == "sales" for schema, _ in seen), seen
        with pytest.raises(duckdb.Error, match="does not exist"):
            analyst.execute("SELECT * FROM lake.hr.salaries")
    own_keys = attached(guarded.analyst, "guarded", minio.endpoint, tmp_path)
    with own_keys, pytest.raises(duckdb.Error, match="403"):
        own_keys.execute("INSERT INTO lake.sales.orders VALUES (4, 'd')")
    guarded.assert_unchanged()


@pytest.mark.slice
def test_duckdb_of_a_writer_inserts_and_deletes(guarded: Guarded, tmp_path: Path) -> None:
    with duck(guarded.etl, tmp_path) as etl:
        etl.execute("INSERT INTO lake.sales.by_duckdb SELECT range + 10, 'x' FROM range(10)")
        etl.execute("DELETE FROM lake.sales.by_duckdb WHERE id >= 15")
        assert etl.execute("SELECT count(*), max(id) FROM lake.sales.by_duckdb").fetchall() == [(8, 14)]
    assert guarded.left("duckdb") == [(8, 14)]


@pytest.mark.slice
def test_flight_sql_follows_the_same_rights(guarded: Guarded) -> None:
    analyst, etl = guarded.analyst, guarded.etl
    assert analyst.sql(f"SELECT {SUMMARY} FROM guarded.sales.orders") == EXPECTED
    for statement, missing in (
        ("INSERT INTO guarded.sales.orders VALUES (4, 'd')", "APPEND"),
        ("DELETE FROM guarded.sales.orders WHERE id = 1", "MODIFY"),
    ):
        words = f"analyst lacks {missing} on table sales.orders"
        with pytest.raises(adbc_driver_manager.Error, match=words) as refused:
            analyst.sql(statement)
        # That is what ADBC makes of PERMISSION_DENIED.
        assert refused.value.status_code == adbc_driver_manager.AdbcStatusCode.UNAUTHORIZED
    with pytest.raises(adbc_driver_manager.Error) as hidden:
        analyst.sql("SELECT * FROM guarded.hr.salaries")
    with pytest.raises(adbc_driver_manager.Error) as missing_table:
        analyst.sql("SELECT * FROM guarded.hr.nothing")
    assert "not found" in str(hidden.value) and "lacks" not in str(hidden.value)
    assert str(hidden.value).replace("salaries", "nothing") == str(missing_table.value)
    assert hidden.value.status_code == missing_table.value.status_code
    schemas = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_catalog = 'guarded'"
    assert ("hr",) not in analyst.sql(schemas) and ("sales",) in analyst.sql(schemas)
    etl.sql("INSERT INTO guarded.sales.by_flight VALUES (10, 'x'), (11, 'y')")
    etl.sql("DELETE FROM guarded.sales.by_flight WHERE id = 11")
    assert guarded.left("flight") == [(4, 10)]
    guarded.assert_unchanged()


def test_spark_of_an_analyst_reads_and_that_of_a_writer_writes(guarded: Guarded, spark) -> None:
    keys = {".s3.access-key-id": store.KEY, ".s3.secret-access-key": store.SECRET}
    vended = {f".{DELEGATION}": "vended-credentials"}
    for name, who, access in (
        ("analyst", guarded.analyst, vended),
        ("analyst_keys", guarded.analyst, keys),
        ("etl", guarded.etl, vended),
    ):
        catalog = {
            "": "org.apache.iceberg.spark.SparkCatalog",
            ".type": "rest",
            ".uri": who.rest,
            ".token": who.token,
            ".warehouse": "guarded",
            ".token-refresh-enabled": "false",
            ".cache-enabled": "false",
            ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        }
        for key, value in (catalog | access).items():
            spark.conf.set(f"spark.sql.catalog.{name}{key}", value)

    def ask(sql: str) -> list[tuple]:
        return [tuple(row) for row in spark.sql(sql).collect()]

    assert ask(f"SELECT {SUMMARY} FROM analyst.sales.orders") == EXPECTED
    assert ask("SHOW NAMESPACES IN analyst") == [("sales",)]
    assert ("sales", "orders", False) in ask("SHOW TABLES IN analyst.sales")
    for sql, words in (
        ("INSERT INTO analyst.sales.orders VALUES (4, 'd')", "Access Denied"),
        ("INSERT INTO analyst_keys.sales.orders VALUES (4, 'd')", "analyst lacks APPEND on table sales.orders"),
        ("ALTER TABLE analyst.sales.orders SET TBLPROPERTIES ('a' = 'b')", "analyst lacks SET_PROPERTIES"),
        ("SELECT * FROM analyst.hr.salaries", "TABLE_OR_VIEW_NOT_FOUND"),
        ("SELECT * FROM etl.hr.salaries", "TABLE_OR_VIEW_NOT_FOUND"),
    ):
        with pytest.raises(Exception, match=words):
            ask(sql)
    guarded.assert_unchanged()
    ask("INSERT INTO etl.sales.by_spark SELECT id + 10, 'x' FROM range(10)")
    ask("DELETE FROM etl.sales.by_spark WHERE id >= 15")
    assert guarded.left("spark") == [(8, 14)]


def test_flink_of_an_analyst_reads_and_that_of_a_writer_writes(guarded: Guarded, tmp_path: Path) -> None:
    access = {"warehouse": "guarded", "io-impl": S3, DELEGATION: "vended-credentials"}
    catalogs = {
        "analyst": access | {"token": guarded.analyst.token},
        "keys": access
        | {"token": guarded.analyst.token, "s3.access-key-id": store.KEY, "s3.secret-access-key": store.SECRET}
        | {DELEGATION: "none"},
        "etl": access | {"token": guarded.etl.token},
    }
    flink = Flink(guarded.admin, tmp_path, catalogs)
    found, _ = flink.run(
        f"SELECT {SUMMARY} FROM analyst.sales.orders;\nSHOW DATABASES IN analyst;\n"
        "INSERT INTO etl.sales.by_flink SELECT id + 10, s FROM etl.sales.orders;\n",
        "batch",
    )
    assert found == ["+I[3, 3, c]", "+I[sales]"]
    assert guarded.left("flink") == [(6, 12)]
    for sql, words in (
        ("INSERT INTO analyst.sales.orders VALUES (4, 'd');\n", "Access Denied"),
        ("INSERT INTO keys.sales.orders VALUES (4, 'd');\n", "analyst lacks APPEND on table sales.orders"),
        ("SELECT * FROM etl.hr.salaries;\n", "Object 'hr' not found within 'etl'"),
    ):
        with pytest.raises(AssertionError, match=words):
            flink.run(sql, "batch")
    guarded.assert_unchanged()


@pytest.fixture(scope="module")
def trino_of_both(guarded: Guarded, minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trino]:
    """Starts Trino with the catalogs `analyst` and `etl`. They have no keys."""

    def catalog(client: str, who: Server) -> dict[str, str]:
        return {
            "iceberg.rest-catalog.warehouse": "guarded",
            "iceberg.rest-catalog.oauth2.credential": f"{client}:{who.token}",
            "iceberg.rest-catalog.vended-credentials-enabled": "true",
            "fs.native-s3.enabled": "true",
            "s3.endpoint": minio.endpoint,
            "s3.region": store.REGION,
            "s3.path-style-access": "true",
        }

    catalogs = {"analyst": catalog("analyst", guarded.analyst), "etl": catalog("etl", guarded.etl)}
    directory = tmp_path_factory.mktemp("trino-access")
    with running_trino(directory, guarded.admin, minio.endpoint, 1000, catalogs) as trino:
        yield trino


def test_trino_of_an_analyst_reads_and_that_of_a_writer_writes(guarded: Guarded, trino_of_both: Trino) -> None:
    ask = trino_of_both.ask
    assert ask(f"SELECT {SUMMARY} FROM sales.orders", "analyst") == EXPECTED
    schemas = ask("SHOW SCHEMAS", "analyst")
    assert ("sales",) in schemas and ("hr",) not in schemas
    assert ("orders",) in ask("SHOW TABLES FROM sales", "analyst")
    for sql, words in (
        ("INSERT INTO sales.orders VALUES (4, 'd')", "Status Code: 403"),
        ("COMMENT ON TABLE sales.orders IS 'x'", "analyst lacks SET_PROPERTIES on table sales.orders"),
        ("SELECT * FROM hr.salaries", "does not exist"),
    ):
        with pytest.raises(TrinoQueryError) as refused:
            ask(sql, "analyst")
        # Trino says what it could not do, and the reason is a cause.
        assert words in f"{refused.value.message} {refused.value.failure_info}", sql
    guarded.assert_unchanged()
    ask("INSERT INTO sales.by_trino SELECT n, 'x' FROM unnest(sequence(10, 19)) t(n)", "etl")
    ask("DELETE FROM sales.by_trino WHERE id >= 15", "etl")
    assert guarded.left("trino") == [(8, 14)]
