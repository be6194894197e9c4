"""What DataHub is told: under the names of its own Iceberg source, in the shape of its own classes, on change only."""

from __future__ import annotations

import json
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from stack.base import ENGINES, ROOT
from stack.esker import Server, running

VERSION = "1.7.0"
INSTANCE = "lake(eu)"

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("DataHub", versions=lambda: {"acryl-datahub": VERSION, "Python": "3.11"}),
    pytest.mark.timeout(240),
]


class Receiver:
    """Stands where DataHub's metadata service stands: no server of it can be had here. Refuses the first request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, list[dict]]] = []
        self.refused = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert self.headers["authorization"] == "Bearer a-datahub-token"
                if receiver.refused == 0:
                    receiver.refused += 1
                    self.send_response(503)
                else:
                    receiver.requests.append((self.path, body))
                    self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def entities(self, kind: str) -> list[dict]:
        path = f"/openapi/v3/entity/{kind}?async=false"
        return [entity for where, body in self.requests if where == path for entity in body]


@contextmanager
def telling(directory: Path) -> Iterator[tuple[Server, Receiver]]:
    receiver = Receiver()
    settings = {
        "ESKER__DATAHUB__URL": receiver.url,
        "ESKER__DATAHUB__TOKEN": "a-datahub-token",
        "ESKER__DATAHUB__ENV": "DEV",
        "ESKER__DATAHUB__PLATFORM_INSTANCES__DEFAULT": INSTANCE,
        "ESKER__DATAHUB__EVERY_SECONDS": "1",
    }
    try:
        with running(directory, **settings) as server:
            yield server, receiver
    finally:
        receiver.http.shutdown()


def wait_for(condition) -> None:
    deadline = time.time() + 40
    while not condition():
        assert time.time() < deadline, "it was not told"
        time.sleep(0.2)


def python() -> Path:
    requirements = ENGINES / "datahub" / "requirements.txt"
    found = subprocess.run([ROOT / "scripts" / "uv.sh", requirements], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip())


def script(text: str, *arguments: str) -> str:
    done = subprocess.run([python(), "-c", textwrap.dedent(text), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def verdicts(receiver: Receiver) -> dict[str, str]:
    """The last verdict of each rule about the table of orders."""
    found = {}
    for entity in receiver.entities("assertion"):
        about = entity["assertionInfo"]["value"]["customAssertion"]
        what = about["type"]
        if "orders" not in about["entity"]:
            continue
        found[what] = entity["assertionRunEvent"]["value"]["result"]["type"]
    return found


def test_health_lands_on_the_datasets_that_the_iceberg_source_makes(tmp_path: Path) -> None:
    with telling(tmp_path) as (server, receiver):
        catalog = server.catalog()
        catalog.create_namespace("shop")
        catalog.create_namespace(("shop", "raw"))
        table = catalog.create_table("shop.orders", pa.schema([("id", pa.int64())]))
        catalog.create_table(("shop", "raw", "clicks"), pa.schema([("id", pa.int64())]))
        for i in range(12):
            table.append(pa.table({"id": [i]}))
        wait_for(lambda: verdicts(receiver).get("esker small-files") == "FAILURE")
        wait_for(
            lambda: any(
                e["incidentInfo"]["value"]["status"]["state"] == "ACTIVE" for e in receiver.entities("incident")
            )
        )
        assert receiver.refused == 1, "what was refused was told again"

        # DataHub's own source, against the same catalog, with the same instance and environment.
        rest = {"type": "rest", "uri": server.rest, "token": server.token, "warehouse": "default"}
        recipe = {
            "source": {"type": "iceberg", "config": {
                "catalog": {"esker": rest},
                "platform_instance": INSTANCE, "env": "DEV", "profiling": {"enabled": False},
            }},
            "sink": {"type": "file", "config": {"filename": str(tmp_path / "ingested.json")}},
        }  # fmt: skip
        script(
            """
            import json, sys
            from datahub.ingestion.run.pipeline import Pipeline
            pipeline = Pipeline.create(json.loads(sys.argv[1]))
            pipeline.run()
            pipeline.raise_from_status()
            """,
            json.dumps(recipe),
        )
        ingested = {
            e["entityUrn"]
            for e in json.loads((tmp_path / "ingested.json").read_text())
            if e.get("entityType") == "dataset"
        }
        told = {e["urn"] for e in receiver.entities("dataset")}
        # The source does not look into namespaces of namespaces (1.7.0); their tables are told of anyway.
        assert ingested and ingested == {urn for urn in told if ".raw." not in urn}, "the same names"
        assert len(told) == 2

        # Every aspect is one of DataHub's classes, and valid as such.
        script(
            """
            import json, sys
            from datahub.emitter.mcp import MetadataChangeProposalWrapper
            from datahub.metadata import schema_classes as classes
            aspects = {name: getattr(classes, name[0].upper() + name[1:] + "Class") for name in
                       ("datasetProfile", "operation", "assertionInfo", "assertionRunEvent", "incidentInfo")}
            for entity in json.loads(open(sys.argv[1]).read()):
                urn = entity.pop("urn")
                for name, aspect in entity.items():
                    parsed = aspects[name].from_obj(aspect["value"])
                    proposal = MetadataChangeProposalWrapper(entityUrn=urn, aspect=parsed)
                    assert proposal.validate(), (urn, name, aspect)
                    back = parsed.to_obj()
                    assert {key: back.get(key) for key in aspect["value"]} == aspect["value"], (back, aspect["value"])
            """,
            str(written(tmp_path, receiver)),
        )

        # Nothing new is nothing told; a treated table is well, and its incident over.
        before = len(receiver.requests)
        time.sleep(2.5)
        assert len(receiver.requests) == before
        server.maintain("shop.orders", "compact")
        wait_for(lambda: verdicts(receiver)["esker small-files"] == "SUCCESS")
        wait_for(lambda: receiver.entities("incident")[-1]["incidentInfo"]["value"]["status"]["state"] == "RESOLVED")
        profile = next(e for e in reversed(receiver.entities("dataset")) if "orders" in e["urn"])["datasetProfile"][
            "value"
        ]
        assert profile["rowCount"] == 12 and profile["sizeInBytes"] > 0


def written(directory: Path, receiver: Receiver) -> Path:
    everything = [entity for _, body in receiver.requests for entity in body]
    path = directory / "told.json"
    path.write_text(json.dumps(everything))
    return path
