"""Reports to DataHub: with the URNs of its own Iceberg source, valid by its own classes, and only on changes."""

from __future__ import annotations

import json
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from stack.base import python_of
from stack.esker import Server, running
from stack.receiver import Receiver, receiving

VERSION = "1.7.0"
INSTANCE = "lake(eu)"
#: The time within which a change must be reported to DataHub.
SECONDS = 40

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("DataHub", versions=lambda: {"acryl-datahub": VERSION, "Python": "3.11"}),
    pytest.mark.timeout(240),
]


def entities(receiver: Receiver, kind: str) -> list[dict]:
    """Returns the entities of a kind that were reported. The receiver stands in for DataHub's metadata service."""
    path = f"/openapi/v3/entity/{kind}?async=false"
    assert all(posted.headers["authorization"] == "Bearer a-datahub-token" for posted in receiver.taken)
    return [entity for posted in receiver.taken if posted.path == path for entity in json.loads(posted.body)]


def states(receiver: Receiver) -> list[str]:
    """Returns the states of incidents, in the order in which they were reported."""
    return [entity["incidentInfo"]["value"]["status"]["state"] for entity in entities(receiver, "incident")]


@contextmanager
def telling(directory: Path) -> Iterator[tuple[Server, Receiver]]:
    with receiving() as receiver:
        receiver.refuse = 1
        settings = {
            "ESKER__DATAHUB__URL": receiver.url,
            "ESKER__DATAHUB__TOKEN": "a-datahub-token",
            "ESKER__DATAHUB__ENV": "DEV",
            "ESKER__DATAHUB__PLATFORM_INSTANCES__DEFAULT": INSTANCE,
            "ESKER__DATAHUB__EVERY_SECONDS": "1",
        }
        with running(directory, **settings) as server:
            yield server, receiver


def script(text: str, *arguments: str) -> str:
    done = subprocess.run(
        [python_of("datahub"), "-c", textwrap.dedent(text), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def verdicts(receiver: Receiver) -> dict[str, str]:
    """Returns the last verdict of each rule about the table `orders`."""
    found = {}
    for entity in entities(receiver, "assertion"):
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
        receiver.wait_for(lambda: verdicts(receiver).get("esker small-files") == "FAILURE", SECONDS)
        receiver.wait_for(lambda: "ACTIVE" in states(receiver), SECONDS)
        assert receiver.refused == 1, "what was refused was sent again"

        # Runs DataHub's own source on the same catalog, with the same instance and environment.
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
        reported = {e["urn"] for e in entities(receiver, "dataset")}
        # DataHub's source skips nested namespaces (1.7.0); Esker reports their tables too.
        assert ingested and ingested == {urn for urn in reported if ".raw." not in urn}, "the same names"
        assert len(reported) == 2

        # Every aspect is a valid instance of DataHub's class.
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

        # Without changes nothing is reported. After maintenance the table is healthy, and its incident is resolved.
        before = len(receiver.taken)
        time.sleep(2.5)
        assert len(receiver.taken) == before
        server.maintain("shop.orders", "compact")
        receiver.wait_for(lambda: verdicts(receiver)["esker small-files"] == "SUCCESS", SECONDS)
        receiver.wait_for(lambda: states(receiver)[-1] == "RESOLVED", SECONDS)
        profile = next(e for e in reversed(entities(receiver, "dataset")) if "orders" in e["urn"])["datasetProfile"][
            "value"
        ]
        assert profile["rowCount"] == 12 and profile["sizeInBytes"] > 0


def written(directory: Path, receiver: Receiver) -> Path:
    everything = [entity for posted in receiver.taken for entity in json.loads(posted.body)]
    path = directory / "written.json"
    path.write_text(json.dumps(everything))
    return path
