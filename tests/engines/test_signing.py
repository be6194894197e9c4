"""Signed requests on MinIO: what they reach, what they don't, and engines that have no keys at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.concurrent import ExecutorFactory
from stack import minio as store
from stack.esker import Server, running
from stack.flink import S3, Flink
from stack.minio import Minio

pytestmark = pytest.mark.usefixtures("no_keys")

USER, SECRET = "signer", "the-secret-of-signer"
ROOT, CARELESS = f"s3://{store.BUCKET}/signed", f"s3://{store.BUCKET}/careless"
DELEGATION = "header.X-Iceberg-Access-Delegation"


@pytest.fixture(scope="module")
def signing(minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server: its warehouse `signed` signs with credentials for the table, `careless` with its own keys."""
    minio.add_user(USER, SECRET)
    settings = {}
    for warehouse, location, mode in (("SIGNED", ROOT, "both"), ("CARELESS", CARELESS, "signing")):
        own = {
            "LOCATION": location,
            "STORAGE__ENDPOINT": minio.endpoint,
            "STORAGE__REGION": store.REGION,
            "STORAGE__ACCESS_KEY_ID": USER,
            "STORAGE__SECRET_ACCESS_KEY": SECRET,
            "VENDING__MODE": mode,
            "VENDING__STORE_CHECKS_HEADERS": "true",
        }
        settings |= {f"ESKER__WAREHOUSES__{warehouse}__{key}": value for key, value in own.items()}
    with running(tmp_path_factory.mktemp("signing"), **settings) as server:
        for warehouse in ("signed", "careless"):
            server.api("POST", f"/v1/{warehouse}/namespaces", {"namespace": ["n"]})
        yield server


def create(server: Server, name: str, location: str, warehouse: str = "signed") -> None:
    fields = [{"id": 1, "name": "id", "required": False, "type": "long"}]
    schema = {"type": "struct", "schema-id": 0, "fields": fields}
    body = {"name": name, "schema": schema, "location": location}
    server.api("POST", f"/v1/{warehouse}/namespaces/n/tables", body)


class Signing:
    """A client of the store that lets each request be signed for one table."""

    def __init__(self, server: Server, endpoint: str, table: str, warehouse: str = "signed") -> None:
        self.server, self.endpoint = server, endpoint
        self.route = f"{server.rest}/v1/{warehouse}/namespaces/n/tables/{table}/sign"

    def sign(self, method: str, path: str, body: str | None = None) -> requests.Response:
        request = {"region": store.REGION, "uri": self.endpoint + path, "method": method, "headers": {}, "body": body}
        headers = {"authorization": f"Bearer {self.server.token}"}
        return requests.post(self.route, headers=headers, json=request, timeout=30)

    def send(self, method: str, path: str, body: str | bytes = b"", unsigned: dict[str, str] | None = None) -> int:
        """Sends a request as it was signed, with further headers. Returns the status, or 0 if it is not signed."""
        signed = self.sign(method, path, body if isinstance(body, str) else None)
        if not signed.ok:
            assert signed.status_code == 403, signed.text
            return 0
        headers = {name: ", ".join(values) for name, values in signed.json()["headers"].items()}
        headers |= unsigned or {}
        answer = requests.request(method, signed.json()["uri"], headers=headers, data=body, timeout=30)
        self.text = answer.text
        return answer.status_code


@pytest.mark.slice
def test_minio_takes_what_is_signed_and_nothing_else_is(signing: Server, minio: Minio) -> None:
    for name in ("orders", "orders2"):
        create(signing, name, f"{ROOT}/{name}")
    orders = Signing(signing, minio.endpoint, "orders")
    # A partition's value with a slash, a plus sign, a space and letters outside of ASCII.
    for name in ("x", "c=a%252Fb/x", "a%2Bb%20c", "%C3%A9"):
        assert orders.send("PUT", f"/lake/signed/orders/data/{name}", b"x") == 200, orders.text
        assert orders.send("HEAD", f"/lake/signed/orders/data/{name}") == 200
        assert orders.send("GET", f"/lake/signed/orders/data/{name}") == 200 and orders.text == "x"
    assert orders.send("GET", "/lake?list-type=2&prefix=signed%2Forders%2Fdata%2F") == 200
    assert orders.text.count("<Key>") == 4 and "c=a%2Fb" in orders.text
    assert orders.send("POST", "/lake/signed/orders/data/large?uploads") == 200
    upload = orders.text.split("<UploadId>")[1].split("</UploadId>")[0]
    part = f"/lake/signed/orders/data/large?partNumber=1&uploadId={quote(upload, safe='')}"
    assert orders.send("PUT", part, b"y") == 200
    assert orders.send("DELETE", f"/lake/signed/orders/data/large?uploadId={quote(upload, safe='')}") == 204
    body = "<Delete><Object><Key>signed/orders/data/x</Key></Object></Delete>"
    assert orders.send("DELETE", "/lake/signed/orders/data/x") == orders.send("POST", "/lake?delete", body) == 0
    for key in ("orders2/x", "orders", "orders/../orders2/x", "orders/..%2forders2/x", "_esker/epoch.json"):
        path = f"/lake/signed/{key}"
        assert orders.send("GET", path) == orders.send("PUT", path, b"x") == 0, path
    listing = "?list-type=2"
    for query in ("", "?location", "?policy", listing, f"{listing}&prefix=signed", f"{listing}&prefix=signed%2Forders"):
        assert orders.send("GET", f"/lake{query}") == 0, query


@pytest.mark.slice
def test_an_unsigned_header_makes_no_copy_of_another_table(signing: Server, minio: Minio) -> None:
    create(signing, "source", f"{ROOT}/source")
    create(signing, "target", f"{ROOT}/target")
    assert Signing(signing, minio.endpoint, "source").send("PUT", "/lake/signed/source/data/x", b"secret") == 200
    target = Signing(signing, minio.endpoint, "target")
    copy = {"x-amz-copy-source": "/lake/signed/source/data/x"}
    target.send("PUT", "/lake/signed/target/data/x", unsigned=copy)
    target.send("GET", "/lake/signed/target/data/x")
    assert target.text != "secret"


@pytest.mark.slice
def test_random_keys_are_signed_where_they_are_the_tables_and_arrive_there(signing: Server, minio: Minio) -> None:
    names = ["p/a", "p/a-b", "p/ab", "p/a b", "p/a+b", "p/A", "p/b/a", "p/b/aa"]
    for i, name in enumerate(names):
        create(signing, f"pair{i}", f"{ROOT}/{name}")
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    pieces = ["/", "x", "..", ".", "%2e", "%2f", "%252e", "data", "%", "+", "%20", "?acl", "#", ";", "é", "\\", "//"]
    for _ in range(200):
        own, other = choose.randrange(len(names)), choose.randrange(len(names))
        path = "/lake/signed/" + quote(names[other]) + choose.choice(["/", "", "-", "2/"])
        path += "".join(choose.choices(pieces, k=choose.randrange(4)))
        client = Signing(signing, minio.endpoint, f"pair{own}")
        signed = client.sign("PUT", path)
        if not signed.ok:
            continue
        # The credentials that sign have no rights outside of the table. MinIO has rules of its own for keys.
        assert client.send("PUT", path, b"x") != 403, f"seed {seed}: {path}: {client.text}"
        assert names[own] == names[other], f"seed {seed}: {names[own]} signs {path}"
        uri = signed.json()["uri"]
        assert uri.startswith(f"{minio.endpoint}/lake/signed/{quote(names[own], safe='/~')}/"), f"seed {seed}: {uri}"


@pytest.mark.slice
def test_pyiceberg_reads_and_writes_without_keys(signing: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # A thread of PyIceberg 0.12 takes the shared signer off for a moment, and others' requests go out unsigned.
    one = ThreadPoolExecutor(max_workers=1)
    monkeypatch.setattr(ExecutorFactory, "get_or_create", lambda: one)
    properties = {"uri": signing.rest, "token": signing.token, "warehouse": "signed", DELEGATION: "remote-signing"}
    catalog = load_catalog("signed", type="rest", **properties)
    rows = pa.table({"id": pa.array(range(100), pa.int64()), "s": [f"s{i % 7}" for i in range(100)]})
    table = catalog.create_table("n.pyiceberg", rows.schema)
    assert table.io.properties["s3.signer"] == "S3V4RestSigner" and "s3.access-key-id" not in table.io.properties
    table.append(rows)
    table.delete("id < 10")
    assert catalog.load_table("n.pyiceberg").scan(row_filter="id < 20").to_arrow().num_rows == 10
    assert signing.sql("SELECT count(*) FROM signed.n.pyiceberg") == [(90,)]


@pytest.mark.parametrize("warehouse", ["signed", "careless"])
def test_spark_reads_and_writes_without_keys(signing: Server, spark, warehouse: str) -> None:
    catalog = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "rest",
        ".uri": signing.rest,
        ".token": signing.token,
        ".warehouse": warehouse,
        ".token-refresh-enabled": "false",
        ".cache-enabled": "false",
        ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        f".{DELEGATION}": "remote-signing",
    }
    for key, value in catalog.items():
        spark.conf.set(f"spark.sql.catalog.{warehouse}{key}", value)
    name = f"{warehouse}.n.spark"
    spark.sql(f"CREATE TABLE {name} (id bigint, s string) USING iceberg PARTITIONED BY (s)")
    for i in range(3):
        spark.sql(f"INSERT INTO {name} SELECT id + {i * 100}, concat('a/b ', id % 3) FROM range(100)")
    spark.sql(f"DELETE FROM {name} WHERE id >= 250")
    assert [tuple(row) for row in spark.sql(f"SELECT count(*), max(id) FROM {name}").collect()] == [(250, 249)]
    assert signing.sql(f"SELECT count(*), max(id) FROM {name}") == [(250, 249)]


def test_flink_reads_and_writes_without_keys(signing: Server, tmp_path: Path) -> None:
    catalogs = {
        name: {"warehouse": name, "io-impl": S3, DELEGATION: "remote-signing"} for name in ("signed", "careless")
    }
    flink = Flink(signing, tmp_path, catalogs)
    sql = ""
    for name in catalogs:
        table = f"`{name}`.n.flink"
        sql += f"CREATE TABLE {table} (id BIGINT, s STRING);\nINSERT INTO {table} VALUES (1, 'a'), (2, 'b');\n"
        sql += f"SELECT s, id FROM {table} ORDER BY id;\n"
    found, _ = flink.run(sql, "batch")
    assert found == ["+I[a, 1]", "+I[b, 2]"] * 2
    for name in catalogs:
        assert signing.sql(f"SELECT count(*), max(id) FROM {name}.n.flink") == [(2, 2)]
