"""Logs of a real run reach a real OpenSearch node through the shipped rules and template, and can be searched."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import requests
from stack.base import ROOT
from stack.esker import Server, running
from stack.opensearch import VERSION, running_opensearch, running_rsyslog

DEPLOY = ROOT / "deploy" / "opensearch"

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("OpenSearch", versions=lambda: {"OpenSearch": VERSION}),
    pytest.mark.timeout(300),
]


def run_something(server: Server) -> tuple[str, str]:
    """Runs a job and a request that is refused. Returns their ids."""
    server.small_files("shop.orders")
    server.maintain("shop.orders", "compact")
    server.sql("SELECT count(*) FROM shop.orders")
    headers = {"authorization": f"Bearer {server.token}"}
    answer = requests.get(f"{server.rest}/v1/default/namespaces/shop/tables/nothing", headers=headers, timeout=10)
    assert answer.status_code == 404
    return server.api("GET", "/api/v1/jobs")[0]["id"], answer.headers["x-request-id"]


def test_logs_are_shipped_and_found_by_their_fields(tmp_path: Path) -> None:
    esker, node = tmp_path / "esker", tmp_path / "opensearch"
    esker.mkdir()
    node.mkdir()
    with running_opensearch(node) as url:
        template = json.loads((DEPLOY / "index-template.json").read_text())
        template["template"]["settings"] |= {"number_of_replicas": 0, "refresh_interval": "1s"}
        assert requests.put(f"{url}/_index_template/esker-logs", json=template, timeout=30).json()["acknowledged"]
        rules = tmp_path / "esker.conf"
        rules.write_text((DEPLOY / "rsyslog.conf").read_text().replace("http://opensearch:9200", url))
        settings = {
            "ESKER__LOG__FORMAT": "json",
            "ESKER__LOG__LEVEL": "info,esker_rest=debug",
            "ESKER__QUERY__SLOW_SECONDS": "0",
            "ESKER__AUDIT__LOG": "true",
        }
        log = esker / "esker.log"
        with running_rsyslog(tmp_path, rules, log) as output:
            with running(esker, **settings) as server:
                job, request = run_something(server)
                with log.open("a") as out:
                    out.write('thread "main" has overflowed its "stack"\n')

                def found(query: dict) -> list[dict]:
                    answer = requests.get(f"{url}/esker-logs-*/_search", json={"query": query, "size": 100}, timeout=30)
                    if answer.status_code == 503:
                        return []  # the index is being created
                    assert answer.ok, answer.text
                    return [hit["_source"] for hit in answer.json()["hits"]["hits"]]

                stderr, overflow = {"term": {"target": "stderr"}}, {"match": {"message": "overflowed"}}
                wanted = {
                    "a job's lines": {"term": {"job_id": job}},
                    "a request's line": {"term": {"request_id": request}},
                    "slow queries": {"bool": {"must": [{"term": {"level": "WARN"}}, {"exists": {"field": "sql"}}]}},
                    "a record of the audit trail": {
                        "bool": {
                            "must": [
                                {"term": {"target": "esker::audit"}},
                                {"term": {"operation": "startJob compact"}},
                            ]
                        }
                    },
                    "what is no JSON": {"bool": {"must": [stderr, overflow]}},
                }
                deadline = time.time() + 60
                while missing := [what for what, query in wanted.items() if not found(query)]:
                    assert time.time() < deadline, f"{missing}\n{output.read_text()[-3000:]}\n{log.read_text()[-3000:]}"
                    time.sleep(1)
                of_job = found(wanted["a job's lines"])
                spans = [span for line in of_job for span in line["spans"] if span["name"] == "job"]
                assert {span["table"] for span in spans} == {"shop.orders"}
                (refused,) = found(wanted["a request's line"])
                assert refused["status"] == 404 and refused["spans"][0]["method"] == "GET"
                (audited, *_) = found(wanted["a record of the audit trail"])
                assert (audited["principal"], audited["object"], audited["status"]) == ("admin", "shop.orders", 202)
                assert audited["request"] == audited["spans"][0]["request_id"] and audited["is_change"] is True
                (slow, *_) = found(wanted["slow queries"])
                assert slow["rows"] == 1 and slow["seconds"] > 0
            # Every line of the run is there once, and has a time.
            lines = [line for line in log.read_text().splitlines() if line]
            deadline = time.time() + 30
            while (count := requests.get(f"{url}/esker-logs-*/_count", timeout=10).json()["count"]) != len(lines):
                assert time.time() < deadline and count <= len(lines), f"{count} of {len(lines)} lines"
                time.sleep(1)
            by_time = {"range": {"timestamp": {"gte": "now-1h", "lte": "now+1h"}}}
            answer = requests.get(f"{url}/esker-logs-*/_count", json={"query": by_time}, timeout=10)
            assert answer.json()["count"] == len(lines)
