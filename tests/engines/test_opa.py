"""Trino asks Esker who may do what, by its plugin for Open Policy Agent: rights, row filters and masks of each user.

Trino reads the files itself, as the client `trino`, which is a trusted engine. The users are clients of Esker, by name.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from stack.esker import Server, running
from stack.trino import Trino, running_trino, unpack_directory
from trino.exceptions import TrinoQueryError

ORDERS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "region": ["EU", "US", None],
        "phone": ["+49 171 1234567", "555-1234", "12"],
        "code": ["a", "b", None],
        "number": pa.array([7, -8, 9], pa.int32()),
        "day": pa.array([date(2026, 7, 3), date(2025, 2, 28), None], pa.date32()),
    }
)
QUERY = "SELECT id, region, phone, code, number, day FROM sales.orders ORDER BY id"


@dataclass
class Guarded:
    """A server with access control, and a Trino that asks it."""

    admin: Server
    trino: Trino

    def ask(self, user: str, sql: str) -> list[tuple]:
        return self.trino.ask(sql, "lake", user)

    def refused(self, user: str, sql: str) -> None:
        with pytest.raises(TrinoQueryError) as refused:
            self.ask(user, sql)
        assert "Access Denied" in refused.value.message, f"{user}: {sql}: {refused.value.message}"


@pytest.mark.slice
def test_a_plugin_is_unpacked_from_the_archive_of_the_whole_server(tmp_path: Path) -> None:
    archive, found = tmp_path / "server.tar.gz", tmp_path / "home" / "opa"

    def add(server: tarfile.TarFile, name: str, content: bytes = b"", link: str = "") -> None:
        member = tarfile.TarInfo(f"server/{name}")
        member.size, member.linkname = len(content), f"server/{link}"
        member.type = tarfile.LNKTYPE if link else tarfile.REGTYPE
        server.addfile(member, io.BytesIO(content))

    with tarfile.open(archive, "w:gz") as server:
        add(server, "lib/a.jar", b"a")
        add(server, "lib/b.jar", b"b")
        add(server, "plugin/opa/a.jar", link="lib/a.jar")
        add(server, "plugin/opa/again.jar", link="lib/a.jar")
        add(server, "plugin/opa/own.jar", b"own")
        add(server, "plugin/other/c.jar", b"c")
    unpack_directory(archive, "server/plugin/opa", found)
    files = {path.name: path.read_bytes() for path in found.iterdir()}
    assert files == {"a.jar": b"a", "again.jar": b"a", "own.jar": b"own"}
    with pytest.raises(AssertionError, match="no files in server/plugin/opb"):
        unpack_directory(archive, "server/plugin/opb", tmp_path / "opb")


def client(name: str) -> dict:
    return {"kind": "client", "name": name}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Starts a server whose warehouse `default` is the catalog `lake` of Trino. The mode is on.

    The plugin sends no token, so Trino is an anonymous caller from loopback, with the privilege to ask about others.
    """
    settings = {"ESKER__AUTH__ANONYMOUS": "true", "ESKER__AUTH__OPA__CATALOGS__LAKE": "default"}
    with running(tmp_path_factory.mktemp("opa"), **settings) as admin:
        catalog = admin.catalog()
        for name in ("sales", "hr"):
            catalog.create_namespace(name)
        catalog.create_table("sales.orders", ORDERS.schema).append(ORDERS)
        catalog.create_table("hr.salaries", pa.schema([("id", pa.int64())]))
        admin.control_access()
        trino = replace(admin, token=admin.api("POST", "/api/v1/tokens", {"principal": "trino"})["token"])
        admin.api("PUT", "/api/v1/access/roles/esker:trusted-engine/members/client:trino")
        admin.grant("client:trino", "USE, OWN", "warehouse default")
        admin.grant("role:esker:anonymous", "DECIDE", "server")
        for name, privileges in (("ann", "SELECT"), ("etl", "WRITE")):
            admin.grant(f"client:{name}", "USE", "warehouse default")
            admin.grant(f"client:{name}", privileges, "namespace default.sales")
        on = "table default.sales.orders"
        for name, condition in (("ann", "region = 'EU'"), ("etl", "true")):
            admin.api("POST", "/api/v1/access/filters", {"on": on, "to": client(name), "filter": condition})
        for field, action in (
            ("phone", "show-last-4"),
            ("code", "sha-256-global"),
            ("number", "sha-256-global"),
            ("day", "truncate-to-year"),
        ):
            mask = {"on": on, "field": field, "action": action, "except": [client("etl")]}
            admin.api("PUT", "/api/v1/access/masks", mask)
        lake = {
            "iceberg.rest-catalog.warehouse": "default",
            "iceberg.rest-catalog.oauth2.credential": f"trino:{trino.token}",
            "fs.native-local.enabled": "true",
            "local.location": "/",
        }
        base = f"{admin.rest}/api/v1/access/opa"
        opa = {
            "opa.policy.uri": f"{base}/allow",
            "opa.policy.batched-uri": f"{base}/batch",
            "opa.policy.row-filters-uri": f"{base}/row-filters",
            "opa.policy.batch-column-masking-uri": f"{base}/batch-column-masks",
        }
        directory = tmp_path_factory.mktemp("trino-opa")
        with running_trino(directory, admin, "http://127.0.0.1:1", 1000, {"lake": lake}, opa) as asking:
            yield Guarded(admin, asking)


def test_a_user_sees_his_rows_and_masked_columns(guarded: Guarded) -> None:
    code = hashlib.sha256(b"a").hexdigest()
    number = int.from_bytes(hashlib.sha256(struct.pack("<i", 7)).digest()[:4], "little", signed=True)
    masked = (1, "EU", "xnnxnnnxnnn4567", code, number, date(2026, 1, 1))
    assert guarded.ask("ann", QUERY) == [masked]
    whole = [tuple(row.values()) for row in ORDERS.to_pylist()]
    assert guarded.ask("etl", QUERY) == whole
    # A condition of the user sees what the user sees.
    assert guarded.ask("ann", "SELECT count(*) FROM sales.orders WHERE phone LIKE '+49%'") == [(0,)]
    assert guarded.ask("ann", "SELECT count(*) FROM sales.orders WHERE region IS NULL OR region = 'US'") == [(0,)]
    assert guarded.ask("etl", "SELECT count(*) FROM sales.orders WHERE phone LIKE '+49%'") == [(1,)]


def test_what_would_show_hidden_rows_or_values_is_refused(guarded: Guarded) -> None:
    for what in ('"orders$files"', '"orders$partitions"', '"orders$snapshots"', '"orders$manifests"'):
        guarded.refused("ann", f"SELECT * FROM sales.{what}")
        guarded.ask("etl", f"SELECT * FROM sales.{what}")
    guarded.refused("ann", 'SELECT id, "$path" FROM sales.orders')
    assert guarded.ask("ann", 'SELECT count(*) FROM sales."orders$history"') == [(1,)]


def test_lists_have_what_a_user_sees(guarded: Guarded) -> None:
    assert guarded.ask("ann", "SHOW SCHEMAS") == [("information_schema",), ("sales",)]
    assert guarded.ask("ann", "SHOW TABLES FROM sales") == [("orders",)]
    assert {row[0] for row in guarded.ask("ann", "SHOW CATALOGS")} == {"default", "lake", "system"}
    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'sales'"
    assert {row[0] for row in guarded.ask("ann", columns)} == set(ORDERS.column_names)
    assert guarded.ask("ann", "SELECT table_name FROM information_schema.tables WHERE table_schema = 'hr'") == []
    guarded.refused("ann", "SELECT * FROM hr.salaries")
    guarded.refused("nobody", "SELECT * FROM sales.orders")


def test_a_reader_changes_nothing_and_a_writer_what_it_may(guarded: Guarded) -> None:
    row = "(9, 'EU', '1', 'c', 1, NULL)"
    for sql in (
        f"INSERT INTO sales.orders VALUES {row}",
        "DELETE FROM sales.orders WHERE id = 1",
        "UPDATE sales.orders SET region = 'US'",
        "ALTER TABLE sales.orders ADD COLUMN note varchar",
        "DROP TABLE sales.orders",
        "CREATE TABLE sales.mine (id bigint)",
        "CREATE SCHEMA mine",
    ):
        guarded.refused("ann", sql)
    for sql in ("ALTER TABLE sales.orders ADD COLUMN note varchar", "DROP TABLE sales.orders"):
        guarded.refused("etl", sql)
    guarded.ask("etl", f"INSERT INTO sales.orders VALUES {row}")
    assert guarded.ask("ann", "SELECT count(*) FROM sales.orders") == [(2,)]
    guarded.ask("etl", "DELETE FROM sales.orders WHERE id = 9")
    assert guarded.ask("ann", "SELECT count(*) FROM sales.orders") == [(1,)]


def test_a_change_of_the_rules_holds_for_the_next_statement(guarded: Guarded) -> None:
    query = "SELECT count(*) FROM sales.orders"
    guarded.admin.grant("client:bob", "USE", "warehouse default")
    guarded.admin.grant("client:bob", "SELECT", "table default.sales.orders")
    assert guarded.ask("bob", query) == [(0,)], "no filter names him"
    made = {"on": "table default.sales.orders", "to": client("bob"), "filter": "id >= 2"}
    guarded.admin.api("POST", "/api/v1/access/filters", made)
    assert guarded.ask("bob", query) == [(2,)]
    guarded.admin.grant("client:bob", "READ_DATA", "table default.sales.orders", "/revoke")
    guarded.refused("bob", query)
