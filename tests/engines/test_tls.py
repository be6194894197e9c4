"""Engines over TLS with a token, where a private authority signed the server's certificate.

The certificates and the trust store are made by the commands of docs/security/tls.md.
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
from pyiceberg.exceptions import UnauthorizedError
from stack.certificates import Certificates, certificates
from stack.duck import attached
from stack.esker import Server, running
from stack.minio import Minio
from stack.trino import running_trino

ROWS = pa.table({"id": pa.array(range(3), pa.int64()), "s": ["a", "b", "c"]})
SUMMARY = "count(*), sum(id), max(s)"
EXPECTED = [(3, 3, "c")]
ENGINES = ("pyiceberg", "duckdb", "trino", "spark")


@dataclass
class Encrypted:
    """A server whose ports speak TLS, and another authority, which did not sign its certificate."""

    server: Server
    files: Certificates
    stranger: Certificates

    def distrusting(self) -> Server:
        """Returns the server as a client reaches it that trusts the other authority alone."""
        return replace(self.server, ca=self.stranger.ca)

    def without_token(self) -> Server:
        return replace(self.server, token="none-of-this-server")

    def written(self, engine: str) -> list[tuple]:
        """Returns what is in the table of an engine."""
        return self.server.sql(f"SELECT {SUMMARY} FROM tls.by_{engine}")


@pytest.fixture(scope="module")
def encrypted(no_bundles: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    directory = tmp_path_factory.mktemp("tls")
    files, stranger = certificates(directory / "own"), certificates(directory / "stranger")
    with running(directory, tls=files) as server:
        catalog = server.catalog()
        catalog.create_namespace("tls")
        modes = {f"write.{change}.mode": "merge-on-read" for change in ("delete", "update", "merge")}
        for name in ("t", *(f"by_{engine}" for engine in ENGINES)):
            catalog.create_table(f"tls.{name}", ROWS.schema, properties=modes)
        catalog.load_table("tls.t").append(ROWS)
        yield Encrypted(server, files, stranger)


@pytest.mark.slice
def test_neither_port_answers_without_tls(encrypted: Encrypted) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(encrypted.server.rest.replace("https:", "http:") + "/healthz", timeout=30)
    with pytest.raises(adbc_driver_manager.Error):
        replace(encrypted.server, flight=encrypted.server.flight.replace("grpc+tls:", "grpc:"), ca=None).sql("SELECT 1")


@pytest.mark.slice
def test_pyiceberg_trusts_the_authority_that_it_is_given(encrypted: Encrypted) -> None:
    catalog = encrypted.server.catalog()
    assert catalog.load_table("tls.t").scan().to_arrow().sort_by("id").to_pydict() == ROWS.to_pydict()
    catalog.load_table("tls.by_pyiceberg").append(ROWS)
    assert encrypted.written("pyiceberg") == EXPECTED
    for ca in (None, encrypted.stranger.ca):
        with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            replace(encrypted.server, ca=ca).catalog()
    with pytest.raises(UnauthorizedError):
        encrypted.without_token().catalog().list_namespaces()


@pytest.mark.slice
def test_duckdb_trusts_the_authority_that_it_is_given(encrypted: Encrypted, minio: Minio, tmp_path: Path) -> None:
    with attached(encrypted.server, "default", minio.endpoint, tmp_path) as connection:
        assert connection.execute(f"SELECT {SUMMARY} FROM lake.tls.t").fetchall() == EXPECTED
        connection.execute("INSERT INTO lake.tls.by_duckdb VALUES (0, 'a'), (1, 'b'), (2, 'c')")
    assert encrypted.written("duckdb") == EXPECTED
    for who, words in (
        (encrypted.distrusting(), "SSL peer certificate"),
        (encrypted.without_token(), "401|Unauthorized"),
    ):
        with pytest.raises(duckdb.Error, match=words):
            attached(who, "default", minio.endpoint, tmp_path)


@pytest.mark.slice
def test_adbc_trusts_the_authority_that_it_is_given(encrypted: Encrypted) -> None:
    assert encrypted.server.sql(f"SELECT {SUMMARY} FROM tls.t") == EXPECTED
    for ca in (None, encrypted.stranger.ca):
        with pytest.raises(adbc_driver_manager.Error, match="certificate"):
            replace(encrypted.server, ca=ca).sql("SELECT 1")
    with pytest.raises(adbc_driver_manager.Error) as refused:
        encrypted.without_token().sql("SELECT 1")
    assert refused.value.status_code == adbc_driver_manager.AdbcStatusCode.UNAUTHENTICATED


def test_trino_trusts_the_authority_of_its_trust_store(encrypted: Encrypted, minio: Minio, tmp_path: Path) -> None:
    options = encrypted.files.java()
    with running_trino(tmp_path, encrypted.server, minio.endpoint, 1000, options=options) as trino:
        assert trino.ask(f"SELECT {SUMMARY} FROM tls.t") == EXPECTED
        trino.ask("INSERT INTO tls.by_trino VALUES (0, 'a'), (1, 'b'), (2, 'c')")
    assert encrypted.written("trino") == EXPECTED


def test_spark_trusts_the_authority_of_its_trust_store(encrypted: Encrypted, tmp_path: Path) -> None:
    # Imported here, as the fixture of the session does it.
    from stack.spark import submitted

    catalog = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "rest",
        ".uri": encrypted.server.rest,
        ".token": encrypted.server.token,
        ".warehouse": "default",
        ".token-refresh-enabled": "false",
    }
    properties = "".join(f"spark.sql.catalog.lake{key} {value}\n" for key, value in catalog.items())
    statements = ["INSERT INTO lake.tls.by_spark SELECT * FROM lake.tls.t", f"SELECT {SUMMARY} FROM lake.tls.by_spark"]
    (refused,) = submitted(tmp_path, properties, statements[1:])
    assert isinstance(refused, str) and "certification path" in refused
    trusting = properties + f"spark.driver.extraJavaOptions {' '.join(encrypted.files.java())}\n"
    assert submitted(tmp_path, trusting, statements) == [[], EXPECTED]
    assert encrypted.written("spark") == EXPECTED
