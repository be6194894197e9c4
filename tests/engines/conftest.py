"""Fixtures of the engine tests: real engines against a real server process. Servers are started once and shared.

A test with tables takes the fixture `warehouse`, and so runs twice: on local files and on MinIO. `make test` runs the
tests marked `slice`, `make test-engines` all. The results, with the engines' versions, are written for
docs/compatibility.md.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.base import CACHE, ROOT
from stack.esker import Server, running
from stack.minio import Minio, running_minio

RESULTS = CACHE / "engine-results"
PAGE = ROOT / "docs" / "compatibility.md"


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    with running_minio(tmp_path_factory.mktemp("minio")) as minio:
        yield minio


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, minio: Minio) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("esker"), **minio.esker()) as server:
        yield server


@pytest.fixture(scope="session")
def spark(server: Server, minio: Minio):
    # Imported here, because the environment of Spark 4 has other packages than that of the other tests.
    from stack.spark import spark_session

    session = spark_session(server, minio.endpoint)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def trino(server: Server, minio: Minio, tmp_path_factory: pytest.TempPathFactory):
    from stack.trino import running_trino

    with running_trino(tmp_path_factory.mktemp("trino"), server, minio.endpoint) as trino:
        yield trino


@pytest.fixture(scope="module")
def duck(request: pytest.FixtureRequest, server: Server, minio: Minio, tmp_path_factory: pytest.TempPathFactory):
    """Attaches DuckDB for a test module, with the namespace `NAMESPACE` of the module."""
    from stack.duck import attached

    server.catalog().create_namespace_if_not_exists(request.module.NAMESPACE)
    connection = attached(server, "default", minio.endpoint, tmp_path_factory.mktemp("duck"))
    connection.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.close()


@pytest.fixture(params=["default", "minio"], ids=["local", "minio"])
def warehouse(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps engines from keys of the store in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def no_bundles() -> Iterator[None]:
    """Keeps `requests` from authorities of the environment, which count before those that PyIceberg configures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        yield


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slice: run by `make test`, not only by `make test-engines`")
    config.addinivalue_line("markers", "engine(name, **versions): what the compatibility page calls it")
    config.results = defaultdict(lambda: {"passed": 0, "failed": 0, "seconds": 0.0})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the round trips last, because they check the tables of all other tests."""
    items.sort(key=lambda item: item.name == "test_every_table_of_this_run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    marker = item.get_closest_marker("engine")
    if marker is None:
        return report
    name = marker.args[0]
    if name == "Spark" and os.environ.get("ESKER_SPARK") == "4":
        name = "Spark 4"
    result = item.config.results[name]
    result["seconds"] += report.duration
    result["versions"] = marker.kwargs.get("versions", lambda: {})()
    if report.when == "call" or report.failed:
        # The compatibility kit is one test here, and reports its own number of tests.
        result["passed" if report.passed else "failed"] += dict(report.user_properties).get("tests", 1)
        place = item.callspec.id if hasattr(item, "callspec") else ""
        result["minio"] = result.get("minio", False) or ("minio" in place and report.passed)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the results if all tests ran. After a slice, only compares the engines' versions with the page."""
    if session.config.getoption("markexpr"):
        for name, result in session.config.results.items():
            row = next((line for line in PAGE.read_text().splitlines() if line.startswith(f"| {name} |")), "")
            if not all(f"{what} {version}" in row for what, version in result["versions"].items()):
                print(f"\ndocs/compatibility.md is out of date for {name}: run `make test-engines docs`")
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, result in session.config.results.items():
        record = {"engine": name, "day": time.strftime("%Y-%m-%d"), **result}
        (RESULTS / f"{name.lower().replace(' ', '-')}.json").write_text(json.dumps(record, indent=1))


def pytest_report_header() -> str:
    return f"esker: {Path(os.environ['ESKER_BIN'])}"
