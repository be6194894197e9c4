"""Jobs are reported as OpenLineage run events, which OpenLineage's own classes accept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from openlineage.client.generated.base import EventType, Job, OutputDataset, Run, RunEvent
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.job_type_job import JobTypeJobFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet
from openlineage.client.generated.symlinks_dataset import Identifier, SymlinksDatasetFacet
from stack.esker import running
from stack.receiver import receiving

FACETS = {
    "errorMessage": ErrorMessageRunFacet,
    "jobType": JobTypeJobFacet,
    "outputStatistics": OutputStatisticsOutputDatasetFacet,
    "processing_engine": ProcessingEngineRunFacet,
    "symlinks": SymlinksDatasetFacet,
}


def facets(sent: dict) -> dict:
    """Returns the facets as instances of their classes. Fails if a facet's schema differs from that of its class."""
    found = {}
    for name, fields in sent.items():
        file = fields.pop("_schemaURL").split("/")[-1]
        assert file in FACETS[name]._get_schema(), file
        assert fields.pop("_producer").startswith("urn:esker:")
        if name == "symlinks":
            fields["identifiers"] = [Identifier(**one) for one in fields["identifiers"]]
        found[name] = FACETS[name](**fields)
    return found


def parsed(body: bytes) -> RunEvent:
    sent = json.loads(body)
    assert sent.pop("schemaURL") == RunEvent._get_schema()
    sent["run"]["facets"] = facets(sent["run"]["facets"])
    sent["job"]["facets"] = facets(sent["job"]["facets"])
    for output in sent["outputs"]:
        output["facets"] = facets(output["facets"])
        output["outputFacets"] = facets(output.get("outputFacets", {}))
    outputs = [OutputDataset(**output) for output in sent.pop("outputs")]
    run, job, kind = Run(**sent.pop("run")), Job(**sent.pop("job")), EventType(sent.pop("eventType"))
    return RunEvent(run=run, job=job, eventType=kind, outputs=outputs, **sent)


@pytest.mark.slice
@pytest.mark.engine("OpenLineage", versions=lambda: {"OpenLineage": "2.0.2"})
def test_jobs_are_runs_on_their_tables(tmp_path: Path) -> None:
    with receiving() as marquez:
        settings = {"ESKER__EVENTS__OPENLINEAGE__MARQUEZ__URL": f"{marquez.url}/api/v1/lineage"}
        with running(tmp_path, **settings) as server:
            marquez.refuse = 1
            server.small_files("shop.orders")
            server.maintain("shop.orders", "compact")
            good = server.api("GET", "/api/v1/jobs")[0]["id"]
            # The job is planned, and ends before it starts, because the table is dropped.
            path = server.table("shop.orders", "/compact")
            bad = server.api("POST", path, {"rewrite-all": True, "min-input-files": 1})["job-id"]
            server.api("POST", f"/api/v1/jobs/{bad}/cancel", {})
            marquez.wait_for(lambda: len(marquez.taken) >= 3)
            headers = {"authorization": f"Bearer {server.token}"}
            state = requests.get(f"{server.rest}/api/v1/jobs/{bad}", headers=headers, timeout=10).json()["state"]
    events = [parsed(body) for path, _, body in marquez.taken if path == "/api/v1/lineage"]
    of_good = [event for event in events if event.run.runId == good]
    assert [event.eventType for event in of_good] == [EventType.START, EventType.COMPLETE]
    done = of_good[-1]
    assert (done.job.namespace, done.job.name) == ("esker", "default.shop.orders.compact")
    (output,) = done.outputs
    assert output.namespace == "file" and output.name.startswith("/") and "/shop/orders" in output.name
    assert output.facets["symlinks"].identifiers[0].name == "shop.orders"
    assert output.outputFacets["outputStatistics"].fileCount == 1
    assert output.outputFacets["outputStatistics"].rowCount == 6
    last = [event.eventType for event in events if event.run.runId == bad][-1]
    assert last == {"cancelled": EventType.ABORT, "succeeded": EventType.COMPLETE}[state]
