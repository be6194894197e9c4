"""Vended credentials on MinIO: what they reach, what they don't, and engines that have no others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import duckdb
import pyarrow as pa
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pyiceberg.catalog import load_catalog
from stack import minio as store
from stack.duck import extension
from stack.esker import Server, running
from stack.minio import Minio

pytestmark = pytest.mark.usefixtures("no_keys")

USER, SECRET, ROOT = "vender", "the-secret-of-vender", f"s3://{store.BUCKET}/vended"


@pytest.fixture(scope="module")
def vending(minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server with a warehouse `vended` that vends credentials of a user of MinIO, for 15 minutes."""
    minio.add_user(USER, SECRET)
    prefix = "ESKER__WAREHOUSES__VENDED__"
    settings = {
        "LOCATION": ROOT,
        "STORAGE__ENDPOINT": minio.endpoint,
        "STORAGE__REGION": store.REGION,
        "STORAGE__ACCESS_KEY_ID": USER,
        "STORAGE__SECRET_ACCESS_KEY": SECRET,
        "VENDING__MODE": "sts",
        "VENDING__DURATION_SECONDS": "900",
    }
    directory = tmp_path_factory.mktemp("vending")
    with running(directory, **{prefix + key: value for key, value in settings.items()}) as server:
        server.api("POST", "/v1/vended/namespaces", {"namespace": ["n"]})
        yield server


def create(server: Server, name: str, location: str) -> None:
    fields = [{"id": 1, "name": "id", "required": False, "type": "long"}]
    schema = {"type": "struct", "schema-id": 0, "fields": fields}
    server.api("POST", "/v1/vended/namespaces/n/tables", {"name": name, "schema": schema, "location": location})


def credentials(server: Server, name: str, query: str = "") -> dict[str, str]:
    """Returns the properties of the only entry that a table's credentials have."""
    answer = server.api("GET", f"/v1/vended/namespaces/n/tables/{name}/credentials{query}")
    [entry] = answer["storage-credentials"]
    return entry["config"]


def client(properties: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=properties["s3.endpoint"],
        region_name=properties["s3.region"],
        aws_access_key_id=properties["s3.access-key-id"],
        aws_secret_access_key=properties["s3.secret-access-key"],
        aws_session_token=properties["s3.session-token"],
        config=Config(retries={"max_attempts": 0}),
    )


def allowed(request: Callable[[], object]) -> bool:
    """Sends a request. Returns false if it is denied."""
    try:
        request()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status == 403, error
        return False
    return True


@pytest.mark.slice
def test_a_credential_is_refused_on_other_tables_on_siblings_by_prefix_and_above_its_level(vending: Server) -> None:
    for name in ("orders", "orders2", "other"):
        create(vending, name, f"{ROOT}/{name}")
    lake = {"Bucket": store.BUCKET}
    for name in ("orders", "orders2", "other"):
        client(credentials(vending, name)).put_object(**lake, Key=f"vended/{name}/data/x", Body=b"x")
    writer = client(credentials(vending, "orders"))
    reader = client(credentials(vending, "orders", "?planId=p"))

    for who in (writer, reader):
        assert who.get_object(**lake, Key="vended/orders/data/x")["Body"].read() == b"x"
        assert who.list_objects_v2(**lake, Prefix="vended/orders/data/")["KeyCount"] == 1
        for key in ("vended/orders2/data/x", "vended/other/data/x", "vended/_esker/epoch.json", "vended/orders"):
            assert not allowed(lambda who=who, key=key: who.get_object(**lake, Key=key)), key
            assert not allowed(lambda who=who, key=key: who.put_object(**lake, Key=key, Body=b"y")), key
        for prefix in ("", "vended/", "vended/orders", "vended/orders2/", "vended/other/"):
            assert not allowed(lambda who=who, prefix=prefix: who.list_objects_v2(**lake, Prefix=prefix)), prefix
        source = {**lake, "Key": "vended/other/data/x"}
        copy = {**lake, "Key": "vended/orders/data/copy", "CopySource": source}
        assert not allowed(lambda who=who, copy=copy: who.copy_object(**copy)), "a copy reads its source"
        assert not allowed(lambda who=who: who.delete_object(**lake, Key="vended/orders/data/x")), "Esker deletes files"

    large = {**lake, "Key": "vended/orders/data/large"}
    assert allowed(lambda: writer.put_object(**lake, Key="vended/orders/data/y", Body=b"y"))
    upload = writer.create_multipart_upload(**large)["UploadId"]
    part = writer.upload_part(**large, UploadId=upload, PartNumber=1, Body=b"y")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    writer.complete_multipart_upload(**large, UploadId=upload, MultipartUpload=parts)
    assert not allowed(lambda: reader.put_object(**lake, Key="vended/orders/data/z", Body=b"z"))
    assert not allowed(lambda: reader.create_multipart_upload(**large))


@pytest.mark.slice
def test_fifty_random_pairs_of_credentials_and_keys_are_allowed_where_the_key_is_the_tables(vending: Server) -> None:
    names = ["p/a", "p/a-b", "p/a.b", "p/ab", "p/a b", "p/a+b", "p/a=b", "p/A", "p/b/a", "p/b/aa"]
    for i, name in enumerate(names):
        create(vending, f"pair{i}", f"{ROOT}/{name}")
    clients = [client(credentials(vending, f"pair{i}")) for i in range(len(names))]
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    for _ in range(50):
        own, other = choose.randrange(len(names)), choose.randrange(len(names))
        # Keys at the edges of a place, and deep inside.
        key = f"vended/{names[other]}" + choose.choice(["/x", "/data/x", "x", "-/x", "", "/"])
        inside = key.startswith(f"vended/{names[own]}/")
        got = allowed(lambda own=own, key=key: clients[own].put_object(Bucket=store.BUCKET, Key=key, Body=b""))
        assert got == inside, f"seed {seed}: {names[own]} on {key}"
        listed = allowed(lambda own=own, key=key: clients[own].list_objects_v2(Bucket=store.BUCKET, Prefix=key))
        assert listed == inside, f"seed {seed}: {names[own]} lists {key}"


@pytest.mark.slice
def test_pyiceberg_reads_and_writes_with_vended_credentials_only(vending: Server) -> None:
    catalog = load_catalog("vended", type="rest", uri=vending.rest, token=vending.token, warehouse="vended")
    rows = pa.table({"id": pa.array(range(100), pa.int64()), "s": [f"s{i % 7}" for i in range(100)]})
    table = catalog.create_table("n.pyiceberg", rows.schema)
    table.append(rows)
    table.delete("id < 10")
    with catalog.create_table_transaction("n.pyiceberg_staged", rows.schema) as transaction:
        transaction.append(rows)
    assert catalog.load_table("n.pyiceberg").scan(row_filter="id < 20").to_arrow().num_rows == 10
    assert catalog.load_table("n.pyiceberg_staged").scan().to_arrow().num_rows == 100
    assert vending.sql("SELECT count(*) FROM vended.n.pyiceberg") == [(90,)]


@pytest.mark.slice
def test_duckdb_reads_and_writes_with_vended_credentials_only(vending: Server, tmp_path: Path) -> None:
    duck = duckdb.connect(config={"home_directory": str(tmp_path)})
    for name in ("avro", "httpfs", "iceberg"):
        duck.load_extension(extension(name))
    duck.execute(f"CREATE SECRET esker (TYPE iceberg, TOKEN '{vending.token}')")
    duck.execute(f"ATTACH 'vended' AS lake (TYPE iceberg, SECRET esker, ENDPOINT '{vending.rest}')")
    duck.execute("CREATE TABLE lake.n.duck (id BIGINT, s VARCHAR)")
    duck.execute("INSERT INTO lake.n.duck SELECT range, 's' || range % 3 FROM range(1000)")
    duck.execute("DELETE FROM lake.n.duck WHERE id >= 900")
    assert duck.execute("SELECT count(*), max(id) FROM lake.n.duck").fetchall() == [(900, 899)]
    assert vending.sql("SELECT count(*), max(id) FROM vended.n.duck") == [(900, 899)]
    duck.close()


@pytest.mark.timeout(1200)
def test_a_credential_ends_and_is_replaced_before(vending: Server) -> None:
    create(vending, "ends", f"{ROOT}/ends")
    first = credentials(vending, "ends")
    end = int(first["s3.session-token-expires-at-ms"]) / 1000
    put = {"Bucket": store.BUCKET, "Key": "vended/ends/data/x", "Body": b"x"}
    assert credentials(vending, "ends") == first, "it is kept"
    assert allowed(lambda: client(first).put_object(**put))
    time.sleep(max(0, end - 290 - time.time()))
    second = credentials(vending, "ends")
    assert second["s3.access-key-id"] != first["s3.access-key-id"], "less than a third of its life is left"
    assert allowed(lambda: client(first).put_object(**put)), "the first one goes on until its end"
    time.sleep(max(0, end + 5 - time.time()))
    with pytest.raises(ClientError):
        client(first).put_object(**put)
    assert allowed(lambda: client(second).put_object(**put))
