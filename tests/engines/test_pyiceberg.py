"""PyIceberg as a client, unmodified."""

from importlib.metadata import version

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchTableError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.types import LongType, StringType
from stack.esker import Server

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("PyIceberg", versions=lambda: {"Iceberg": version("pyiceberg"), "Python": "3.11"}),
]


def rows(n: int, start: int = 0) -> pa.Table:
    return pa.table({"id": pa.array(range(start, start + n), pa.int64()), "s": [f"s{i % 7}" for i in range(n)]})


def test_namespaces_nest_list_page_and_refuse_what_they_should(server: Server) -> None:
    catalog = server.catalog()
    catalog.create_namespace("ns_a", {"owner": "team"})
    catalog.create_namespace(("ns_a", "inner b+c.d%e"))
    with pytest.raises(NamespaceAlreadyExistsError):
        catalog.create_namespace("ns_a")
    assert catalog.list_namespaces("ns_a") == [("ns_a", "inner b+c.d%e")]
    properties = catalog.load_namespace_properties("ns_a")
    assert properties.pop("location").endswith("/warehouse/ns_a") and properties == {"owner": "team"}
    assert catalog.update_namespace_properties("ns_a", {"owner"}, {"x": "1"}).removed == ["owner"]
    table = catalog.create_table((("ns_a"), "inner b+c.d%e", "t é+ 1"), rows(1).schema)
    table.append(rows(3))
    assert catalog.load_table(("ns_a", "inner b+c.d%e", "t é+ 1")).scan().to_arrow().num_rows == 3
    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace(("ns_a", "inner b+c.d%e"))


def test_tables_live_a_whole_life(server: Server, warehouse: str) -> None:
    catalog = server.catalog(warehouse)
    catalog.create_namespace("life")
    table = catalog.create_table("life.t", rows(1).schema)
    with pytest.raises(TableAlreadyExistsError):
        catalog.create_table("life.t", rows(1).schema)
    for i in range(6):
        table.append(rows(100, i * 100))
    table.delete("id < 10")
    with table.update_schema() as update:
        update.add_column("n", LongType())
        update.rename_column("s", "label")
    evolved = pa.table({"id": [1000], "label": ["new"], "n": [7]})
    table.append(evolved.cast(table.schema().as_arrow()))
    before = catalog.load_table("life.t").scan().to_arrow().sort_by("id").to_pylist()
    assert len(before) == 591

    outcome = server.maintain("life.t", "compact", {"courtesy-seconds": 0}, warehouse)
    assert (outcome["files_in"], outcome["files_out"], outcome["refused"]) == (7, 1, [])
    after = catalog.load_table("life.t")
    assert after.scan().to_arrow().sort_by("id").to_pylist() == before
    for snapshot in after.snapshots():
        after.scan(snapshot_id=snapshot.snapshot_id).to_arrow()  # every retained snapshot reads

    catalog.rename_table("life.t", "life.u")
    assert not catalog.table_exists("life.t")
    with catalog.load_table("life.u").transaction() as changes:
        changes.set_properties({"esker.expire.min-age-ms": "0"})
    assert server.maintain("life.u", "expire", {"older-than-ms": 2**53}, warehouse)["snapshots"] > 5
    assert catalog.load_table("life.u").scan().to_arrow().sort_by("id").to_pylist() == before
    catalog.drop_table("life.u")
    with pytest.raises(NoSuchTableError):
        catalog.load_table("life.u")


def test_a_transaction_creates_and_fills_a_table_at_once(server: Server, warehouse: str) -> None:
    catalog = server.catalog(warehouse)
    catalog.create_namespace("staged")
    with catalog.create_table_transaction("staged.t", rows(1).schema) as transaction:
        transaction.append(rows(5))
    assert catalog.load_table("staged.t").scan().to_arrow().num_rows == 5


def test_a_stale_commit_is_a_conflict(server: Server) -> None:
    catalog = server.catalog()
    catalog.create_namespace("stale")
    first = catalog.create_table("stale.t", rows(1).schema, properties={"commit.retry.num-retries": "0"})
    second = catalog.load_table("stale.t")
    with first.update_schema() as update:
        update.add_column("a", StringType())
    with pytest.raises(CommitFailedException, match="current schema"), second.update_schema() as update:
        update.add_column("b", StringType())


def test_late_appends_are_merged_where_the_table_asks_for_it(server: Server) -> None:
    catalog = server.catalog()
    catalog.create_namespace("late")
    for format_version in ("1", "2"):
        name = f"late.t{format_version}"
        properties = {"commit.retry.num-retries": "0", "format-version": format_version}
        first = catalog.create_table(name, rows(1).schema, properties=properties)
        first.append(rows(1))
        second = catalog.load_table(name)
        first.append(rows(10, 100))
        with pytest.raises(CommitFailedException, match="branch main has changed"):
            second.append(rows(10, 200))
        with first.transaction() as changes:
            changes.set_properties({"esker.commit.merge": "append"})
        second = catalog.load_table(name)
        first.append(rows(10, 300))
        second.append(rows(10, 400))
        assert second.current_snapshot() == catalog.load_table(name).current_snapshot()
        summary = second.current_snapshot().summary
        assert (summary["esker.rebased-as"], summary["total-records"]) == ("append", "31")
        assert catalog.load_table(name).scan().to_arrow().num_rows == 31


def test_a_registered_table_is_foreign_until_claimed(server: Server) -> None:
    catalog = server.catalog()
    catalog.create_namespace("reg")
    table = catalog.create_table("reg.t", rows(1).schema)
    table.append(rows(3))
    catalog.drop_table("reg.t")
    again = catalog.register_table("reg.back", table.metadata_location)
    assert again.scan().to_arrow().num_rows == 3
    headers = {"authorization": f"Bearer {server.token}"}
    expire = f"{server.rest}/api/v1/warehouses/default/namespaces/reg/tables/back/expire"
    refused = requests.post(expire, headers=headers, json={}, timeout=10)
    assert refused.status_code == 422 and "foreign" in refused.json()["error"]["message"]
    server.api("POST", "/api/v1/warehouses/default/namespaces/reg/tables/back/claim")
    server.maintain("reg.back", "expire")


def test_the_server_plans_the_scan(server: Server, warehouse: str) -> None:
    catalog = server.catalog(warehouse, **{"scan-planning-mode": "server"})
    catalog.create_namespace_if_not_exists("planned")
    table = catalog.create_table("planned.t", rows(1).schema)
    for i in range(4):
        table.append(rows(100, i * 100))
    table = catalog.load_table("planned.t")
    scan = table.scan(row_filter="id >= 150 and id < 180")
    assert len(list(scan.plan_files())) == 1, "the bounds rule the other three files out"
    assert sorted(scan.to_arrow()["id"].to_pylist()) == list(range(150, 180))
    assert table.scan(row_filter="s == 's3' or id == 0").to_arrow().num_rows == 57


def test_requests_to_the_store_and_planned_scans_are_counted(server: Server) -> None:
    server.catalog("minio").create_namespace("counted")
    server.catalog("minio").create_table("counted.t", rows(1).schema)
    headers = {"authorization": f"Bearer {server.token}"}
    metrics = requests.get(f"{server.rest}/metrics", headers=headers, timeout=30).text
    puts = [
        line for line in metrics.splitlines() if line.startswith("esker_storage_requests_total") and '"PUT"' in line
    ]
    assert any('warehouse="minio"' in line and 'status="200"' in line for line in puts), puts
    assert '/plan"' in metrics, "PyIceberg let the server plan"


def test_views_are_listed_loaded_and_dropped(server: Server) -> None:
    catalog = server.catalog()
    catalog.create_namespace("seen")
    version = {"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["seen"]}
    version["representations"] = [{"type": "sql", "sql": "SELECT 1 AS n", "dialect": "spark"}]
    schema = {"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "n", "required": False, "type": "int"}]}
    body = {"name": "v", "schema": schema, "view-version": version, "properties": {}}
    server.api("POST", "/v1/default/namespaces/seen/views", body)
    assert catalog.list_views("seen") == [("seen", "v")] and catalog.view_exists("seen.v")
    catalog.drop_view("seen.v")
    assert catalog.list_views("seen") == []


def test_a_client_logs_in_with_its_name_and_secret(server: Server) -> None:
    catalog = load_catalog("oauth", type="rest", uri=server.rest, credential=f"admin:{server.token}")
    assert isinstance(catalog.list_namespaces(), list)
    with pytest.raises(Exception, match="(?i)invalid|not valid|unauthorized"):
        load_catalog("oauth", type="rest", uri=server.rest, credential="admin:nonsense")


def test_a_wrong_token_is_refused(server: Server) -> None:
    server.token, token = "wrong-" + server.token, server.token
    try:
        with pytest.raises(UnauthorizedError):
            server.catalog()
    finally:
        server.token = token
