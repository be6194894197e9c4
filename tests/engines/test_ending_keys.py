"""Vended credentials that end in the middle of a job: Java's clients get new ones, and others fail with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from stack.esker import Server, running
from stack.flink import S3, Flink
from stack.minio import Minio
from stack.short_keys import ShortKeys, short_keys

pytestmark = pytest.mark.usefixtures("no_keys")

# Esker gives credentials out for two thirds of their life.
LIFE_SECONDS = 9
DELEGATION = "header.X-Iceberg-Access-Delegation"
ROWS = pa.table({"id": pa.array(range(3), pa.int64())})


@pytest.fixture
def brief(minio: Minio, tmp_path: Path) -> Iterator[tuple[Server, ShortKeys]]:
    """Starts a server whose warehouse `brief` vends credentials that live for seconds."""
    with (
        short_keys(minio.endpoint, LIFE_SECONDS) as keys,
        running(tmp_path, **minio.vending("brief", keys.endpoint)) as server,
    ):
        server.api("POST", "/v1/brief/namespaces", {"namespace": ["n"]})
        yield server, keys


@pytest.mark.slice
def test_pyiceberg_does_not_refresh_and_says_that_the_token_has_expired(brief: tuple[Server, ShortKeys]) -> None:
    server, keys = brief
    catalog = load_catalog("brief", type="rest", uri=server.rest, token=server.token, warehouse="brief")
    table = catalog.create_table("n.t", ROWS.schema)
    table.append(ROWS)
    first = table.io.properties["s3.access-key-id"]
    assert keys.used[-1] == first
    keys.wait_for_end(first)
    with pytest.raises(OSError, match="token has expired"):
        table.append(ROWS)
    # A read begins with HEAD, whose answer has no text.
    with pytest.raises(OSError, match="status 400. during HeadObject"):
        table.scan().to_arrow()
    assert set(keys.refused) == {first}
    # Its next load has other credentials, and nothing was half done.
    again = catalog.load_table("n.t")
    assert again.io.properties["s3.access-key-id"] != first
    again.append(ROWS)
    assert again.scan().to_arrow().num_rows == 6
    assert server.sql("SELECT count(*) FROM brief.n.t") == [(6,)]


def test_a_job_of_spark_outlives_its_credentials_and_gets_new_ones(brief: tuple[Server, ShortKeys], spark) -> None:
    server, keys = brief
    catalog = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "rest",
        ".uri": server.rest,
        ".token": server.token,
        ".warehouse": "brief",
        ".token-refresh-enabled": "false",
        ".cache-enabled": "false",
        ".io-impl": S3,
        f".{DELEGATION}": "vended-credentials",
    }
    keeping = catalog | {".client.refresh-credentials-enabled": "false"}
    for name, properties in (("brief", catalog), ("keeping", keeping)):
        for key, value in properties.items():
            spark.conf.set(f"spark.sql.catalog.{name}{key}", value)
    spark.sql("CREATE TABLE brief.n.t (id bigint, slept string) USING iceberg")
    before = keys.distinct()
    # Sixteen tasks, two at a time, that each write a file after some seconds.
    sleep = f"reflect('java.lang.Thread', 'sleep', {LIFE_SECONDS * 400}L)"
    spark.sql(f"INSERT INTO brief.n.t SELECT id, {sleep} FROM range(0, 16, 1, 16)")
    assert keys.distinct() >= before + 3, "the job was longer than three lives"
    assert spark.sql("SELECT count(*), sum(id) FROM brief.n.t").first() == (16, 120)
    assert not keys.refused, "no credential was used after its end"
    # The same job that keeps its first credentials fails with the store's reason, and changes nothing.
    with pytest.raises(Exception, match="token has expired"):
        spark.sql(f"INSERT INTO keeping.n.t SELECT id, {sleep} FROM range(0, 8, 1, 8)")
    assert keys.refused
    assert server.sql("SELECT count(*), sum(id) FROM brief.n.t") == [(16, 120)]


def test_a_streaming_job_of_flink_outlives_its_credentials(brief: tuple[Server, ShortKeys], tmp_path: Path) -> None:
    server, keys = brief
    vended = {"warehouse": "brief", "io-impl": S3, DELEGATION: "vended-credentials"}
    flink = Flink(server, tmp_path, {"brief": vended})
    sql = (
        "CREATE TABLE brief.n.t (n BIGINT);\n"
        "CREATE TEMPORARY TABLE default_catalog.default_database.src (n BIGINT) WITH ('connector'='datagen', "
        "'rows-per-second'='100', 'fields.n.kind'='sequence', 'fields.n.start'='0', 'fields.n.end'='2999');\n"
        "INSERT INTO brief.n.t SELECT n FROM default_catalog.default_database.src;\n"
    )
    # The source ends after thirty seconds, each of which has a commit.
    flink.run(sql)
    assert keys.distinct() >= 3, "the job was longer than three lives"
    assert not keys.refused, "no credential was used after its end"
    assert server.sql("SELECT count(*), sum(n) FROM brief.n.t") == [(3000, sum(range(3000)))]
