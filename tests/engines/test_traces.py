"""Spans reach a collector by OTLP, can be read with the protocol's own classes, and belong to their callers' traces."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from stack.esker import running
from stack.receiver import Receiver, receiving

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def spans_of(collector: Receiver) -> list[Span]:
    found = []
    for path, headers, body in list(collector.taken):
        assert (path, headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert named["service.name"] == "esker" and named["service.version"]
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def attributes(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@pytest.mark.slice
def test_requests_jobs_and_queries_are_traced(tmp_path: Path) -> None:
    with receiving() as collector, running(tmp_path, ESKER__TRACES__URL=collector.url) as server:
        collector.refuse = 1  # while the collector is unreachable, spans are lost, and nothing else
        server.catalog().create_namespace("shop")
        collector.wait_for(lambda: collector.refuse == 0)
        server.small_files("shop.orders")
        server.maintain("shop.orders", "compact")
        server.sql("SELECT count(*) FROM shop.orders WHERE id > 2")
        path = f"{server.rest}/v1/default/namespaces/shop/tables/orders"
        headers = {"authorization": f"Bearer {server.token}", "traceparent": f"00-{TRACE}-{CALLER}-01"}
        update = {"requirements": [], "updates": [{"action": "set-properties", "updates": {"a": "b"}}]}
        assert requests.post(path, json=update, headers=headers, timeout=10).ok
        not_sampled = {**headers, "traceparent": f"00-{'1' * 32}-{CALLER}-00"}
        assert requests.get(path, headers=not_sampled, timeout=10).ok

        def named(name: str) -> list[Span]:
            return [span for span in spans_of(collector) if span.name == name]

        def complete() -> bool:
            commits = named("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}")
            return (
                any(s.trace_id.hex() == TRACE for s in commits) and named("job") and named("query") and named("group")
            )

        collector.wait_for(complete)
        (request,) = [s for s in spans_of(collector) if s.trace_id.hex() == TRACE and s.kind == Span.SPAN_KIND_SERVER]
        assert request.parent_span_id.hex() == CALLER
        assert attributes(request)["status"] == 200 and attributes(request)["trace_id"] == TRACE
        (commit,) = [s for s in named("commit") if s.trace_id == request.trace_id]
        assert commit.parent_span_id == request.span_id
        (job,) = named("job")
        assert attributes(job)["table"] == "shop.orders" and not job.parent_span_id
        assert {group.trace_id for group in named("group")} == {job.trace_id}
        (query, *_) = named("query")
        assert attributes(query)["rows"] == 1
        assert not [s for s in spans_of(collector) if s.trace_id.hex() == "1" * 32]
