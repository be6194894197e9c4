"""Many PyIceberg clients that append to one table with default retries. Late commits take turns, so none fails."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from threading import Barrier

import pyarrow as pa
import pytest
import requests
from stack.esker import Server

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("PyIceberg", versions=lambda: {"Iceberg": version("pyiceberg"), "Python": "3.11"}),
]

APPENDERS, APPENDS = 8, 3


def turns_used(server: Server, warehouse: str) -> int:
    """Returns the number of turns in which clients committed since the start of the server."""
    headers = {"authorization": f"Bearer {server.token}"}
    metrics = requests.get(f"{server.rest}/metrics", headers=headers, timeout=30).text
    pattern = rf'esker_commit_turns_total\{{outcome="used",warehouse="{warehouse}"\}} (\d+)'
    found = re.search(pattern, metrics)
    assert found, metrics
    return int(found[1])


def test_eight_clients_append_to_one_table_and_none_fails(server: Server, warehouse: str) -> None:
    catalog = server.catalog(warehouse)
    catalog.create_namespace_if_not_exists("appenders")
    catalog.create_table("appenders.t", pa.schema([("id", pa.int64())]))
    used, together = turns_used(server, warehouse), Barrier(APPENDERS, timeout=60)

    def append(client: int) -> None:
        # Each client has connections of its own, and all have one token.
        table = server.catalog(warehouse).load_table("appenders.t")
        together.wait()
        for i in range(APPENDS):
            table.append(pa.table({"id": [client * APPENDS + i]}))

    with ThreadPoolExecutor(APPENDERS) as pool:
        list(pool.map(append, range(APPENDERS)))
    ids = catalog.load_table("appenders.t").scan().to_arrow()["id"].to_pylist()
    assert sorted(ids) == list(range(APPENDERS * APPENDS))
    assert turns_used(server, warehouse) > used, "some of them were late"
