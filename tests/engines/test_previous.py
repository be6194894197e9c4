"""The previous landing's binary on a database that the present one has migrated: `make test-previous` runs these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from stack.esker import Server, running
from stack.postgres import running_postgres

PREVIOUS = os.environ.get("ESKER_PREVIOUS_BIN", "")
pytestmark = pytest.mark.skipif(
    not PREVIOUS,
    reason="only `make test-previous` runs these; it builds the older binary and sets ESKER_PREVIOUS_BIN",
)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as port:
        yield f"postgres://postgres@127.0.0.1:{port}"


def use(server: Server, ids: list[int]) -> None:
    """Appends to the table, runs jobs, and reads it: `ids` are its rows before. Adds the new one to them."""
    ids.append(len(ids))
    server.catalog().load_table("n.t").append(pa.table({"id": [ids[-1]]}))
    job = server.job("n.t", "compact")
    assert server.sql("SELECT id FROM n.t ORDER BY id") == [(n,) for n in ids]
    server.undo(job)
    server.maintain("n.t", "expire")
    assert sorted(server.catalog().load_table("n.t").scan().to_arrow()["id"].to_pylist()) == ids
    assert server.api("GET", server.table("n.t", "/health"))["facts"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_the_previous_landing_starts_and_works_on_a_migrated_database(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = {}
    if database == "postgres":
        settings["ESKER__STATE__URL"] = f"{request.getfixturevalue('postgres')}/started"
    with running(tmp_path, **settings) as present:
        present.small_files("n.t")
    ids = list(range(6))
    with running(tmp_path, PREVIOUS, **settings) as previous:
        use(previous, ids)
    with running(tmp_path, **settings) as present:
        use(present, ids)


def test_a_server_of_the_previous_landing_goes_on_while_a_present_one_migrates(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    settings = {
        "ESKER__STATE__URL": f"{postgres}/running",
        "ESKER__WAREHOUSES__DEFAULT__LOCATION": f"file://{before}/warehouse",
    }
    with running(before, PREVIOUS, **settings) as previous:
        previous.small_files("n.t")
        ids = list(range(6))
        with running(after, **settings) as present:
            use(previous, ids)
            use(present, ids)
            use(previous, ids)
