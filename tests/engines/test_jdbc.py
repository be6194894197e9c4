"""The Flight SQL JDBC driver under access control, plain and over TLS.

Its user is the name of a principal, and its password a token of the principal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest
from stack.certificates import Certificates, certificates
from stack.esker import Server, running
from stack.jdbc import Answer, jdbc, url

ROWS = pa.table({"id": pa.array(range(3), pa.int64()), "s": ["a", "b", "c"]})


@dataclass
class Guarded:
    """A server whose client `analyst` may read the namespace `sales` alone."""

    admin: Server
    analyst: str
    files: Certificates | None

    @property
    def url(self) -> str:
        return url(self.admin.flight, self.files and self.files.ca)

    def ask(self, *commands: str) -> list[Answer]:
        """Runs commands as the analyst."""
        answers = jdbc(self.url, "analyst", self.analyst, *commands)
        assert len(answers) == len(commands), answers
        return answers

    def rows(self, command: str) -> list[str]:
        (answer,) = self.ask(command)
        assert answer.error is None, answer.error
        return answer.rows


@pytest.fixture(scope="module", params=["plain", "tls"])
def guarded(
    no_bundles: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("jdbc")
    files = certificates(directory / "tls") if request.param == "tls" else None
    with running(directory, tls=files) as admin:
        catalog = admin.catalog()
        for namespace, table in (("sales", "orders"), ("hr", "salaries")):
            catalog.create_namespace(namespace)
            catalog.create_table(f"{namespace}.{table}", ROWS.schema).append(ROWS)
        admin.control_access()
        admin.add_role("readers", "client:analyst")
        admin.grant("role:readers", "USE", "warehouse default")
        admin.grant("role:readers", "SELECT", "namespace default.sales")
        token = admin.api("POST", "/api/v1/tokens", {"principal": "analyst"})["token"]
        yield Guarded(admin, token, files)


def test_a_principal_reads_what_it_may(guarded: Guarded) -> None:
    statement, prepared = guarded.ask(
        "SELECT id, s FROM sales.orders ORDER BY id", "prepared:SELECT s FROM sales.orders WHERE id = ?"
    )
    assert statement == Answer(["0|a", "1|b", "2|c"], None)
    assert prepared == Answer(["b"], None)


def test_lists_have_what_the_principal_sees(guarded: Guarded) -> None:
    catalogs, schemas, tables = guarded.ask("catalogs", "schemas", "tables")
    assert "default" in catalogs.rows
    assert any("sales" in row.split("|") for row in schemas.rows)
    assert "default|sales|orders" in tables.rows
    for answer in (catalogs, schemas, tables):
        assert answer.error is None
        assert not any("hr" in row.split("|") or "salaries" in row for row in answer.rows), answer.rows
    (everything,) = jdbc(guarded.url, "admin", guarded.admin.token, "tables")
    assert "default|hr|salaries" in everything.rows


def test_what_is_not_granted_is_refused_and_what_is_hidden_does_not_exist(guarded: Guarded) -> None:
    insert, delete, hidden, missing, after = guarded.ask(
        "INSERT INTO sales.orders VALUES (4, 'd')",
        "DELETE FROM sales.orders WHERE id = 1",
        "SELECT * FROM hr.salaries",
        "SELECT * FROM hr.nothing",
        "SELECT count(*) FROM sales.orders",
    )
    assert "analyst lacks APPEND on table sales.orders" in (insert.error or "")
    assert "analyst lacks MODIFY on table sales.orders" in (delete.error or "")
    assert hidden.error and "not found" in hidden.error and "lacks" not in hidden.error
    assert hidden.error.replace("salaries", "nothing") == missing.error
    assert after == Answer(["3"], None), "the connection goes on, and nothing was changed"


def test_a_wrong_password_and_a_token_of_somebody_else_do_not_log_in(guarded: Guarded) -> None:
    for user, password in (("analyst", "wrong"), ("admin", guarded.analyst), ("analyst", guarded.admin.token)):
        (refused,) = jdbc(guarded.url, user, password, "SELECT 1")
        assert "the token is not valid" in (refused.error or ""), refused


def test_a_server_whose_authority_is_unknown_gets_no_password(guarded: Guarded) -> None:
    if guarded.files is None:
        pytest.skip("without TLS")
    flight = guarded.admin.flight
    for address in (url(flight), url(flight.replace("grpc+tls:", "grpc:"))):
        (refused,) = jdbc(address, "analyst", guarded.analyst, "SELECT 1")
        assert refused.error and "the token is not valid" not in refused.error
    assert guarded.rows("SELECT 1") == ["1"]
