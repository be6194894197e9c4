"""A real Prometheus scrapes a real run: every expression of the dashboards and alert rules returns samples."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import requests
from stack.base import ROOT, free_port, stop, wait_until
from stack.debian import program, unpacked
from stack.esker import Server, running

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"


def binary(name: str) -> Path:
    home = None if shutil.which(name) else unpacked("prometheus", "prometheus")
    return program(name, home, "usr/bin")


def versions() -> dict[str, str]:
    printed = subprocess.run([binary("prometheus"), "--version"], check=True, capture_output=True, text=True)
    return {"Prometheus": re.search(r"version ([0-9.]+)", printed.stdout + printed.stderr)[1]}


pytestmark = [pytest.mark.slice, pytest.mark.engine("Prometheus", versions=versions)]


@contextmanager
def prometheus(directory: Path, server: Server) -> Iterator[str]:
    """Starts Prometheus, which scrapes a server every second with the scrape configuration in deploy/."""
    (directory / "esker.token").write_text(server.token)
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("esker:8181", server.rest.removeprefix("http://")).replace("15s", "1s").replace("60s", "1s")
    (directory / "prometheus.yml").write_text(config)
    (directory / "rules.yml").write_text(RULES.read_text())
    port, log = free_port(), directory / "prometheus.log"
    command = [
        binary("prometheus"), f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: requests.get(f"{url}/-/ready", timeout=1).ok, 30, process, log)
        yield url
    finally:
        stop(process)


def run_something(server: Server) -> None:
    """Makes samples of all metrics: a table with a job, queries, a conflict, and an event that a sink refuses."""
    catalog = server.catalog()
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.orders", pa.schema([("id", pa.int64())]))
    stale = catalog.load_table("shop.orders")
    for i in range(6):
        table.append(pa.table({"id": [i]}))
    stale.append(pa.table({"id": [99]}))  # the client refreshes and retries after a conflict, or the commit is merged
    update = {"requirements": [{"type": "assert-current-schema-id", "current-schema-id": 7}], "updates": []}
    path = f"{server.rest}/v1/default/namespaces/shop/tables/orders"
    headers = {"authorization": f"Bearer {server.token}"}
    assert requests.post(path, json=update, headers=headers, timeout=10).status_code == 409
    report = {"report-type": "scan-report", "table-name": "orders", "snapshot-id": 1, "filter": True, "schema-id": 0}
    report |= {"projected-field-ids": [], "projected-field-names": [], "metrics": {"result-data-files": {"value": 3}}}
    assert requests.post(f"{path}/metrics", json=report, headers=headers, timeout=10).ok
    for _ in range(100):
        jobs = server.api("GET", "/api/v1/jobs")
        if jobs and all(job["state"] == "succeeded" for job in jobs):
            break
        time.sleep(0.2)
    assert [job["principal"] for job in jobs] == ["autopilot"], jobs
    assert server.sql("SELECT count(*) FROM shop.orders") == [(7,)]


def expressions() -> list[tuple[str, str]]:
    """Returns expressions with their sources. Of an alert rule only the left side, because nothing is wrong here."""
    found = []
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    for rule in re.findall(r"expr: (.*)$", RULES.read_text(), re.MULTILINE):
        left, comparison, _ = re.fullmatch(r"(.*) (==|<|>) ([0-9.]+)", rule).groups()
        # Only a server with TLS has this one; the test of the rules has it.
        if "esker_tls_" not in left:
            found.append((f"rule: {rule}", left))
    return found


@pytest.mark.timeout(180)
def test_every_panel_and_rule_finds_something(tmp_path: Path) -> None:
    sink = f"http://127.0.0.1:{free_port()}/nobody"
    settings = {
        "ESKER__POLICY__AUTOPILOT": "true",
        "ESKER__MAINTENANCE__AUTOPILOT_SECONDS": "1",
        "ESKER__EVENTS__WEBHOOKS__AWAY__URL": sink,
    }
    with running(tmp_path, **settings) as server, prometheus(tmp_path, server) as url:
        run_something(server)
        variables = {"$warehouse": "default", "$namespace": "shop", "$table": "orders"}
        missing = dict(expressions())
        for _ in range(40):
            for place, expression in list(missing.items()):
                for name, value in variables.items():
                    expression = expression.replace(name, value)
                answer = requests.get(f"{url}/api/v1/query", params={"query": expression}, timeout=10).json()
                assert answer["status"] == "success", (place, expression, answer)
                if answer["data"]["result"]:
                    del missing[place]
            if not missing:
                break
            time.sleep(1)
        assert not missing, f"nothing is found by: {missing}"
        for _ in range(30):
            rules = requests.get(f"{url}/api/v1/rules", timeout=10).json()["data"]["groups"][0]["rules"]
            if all(rule["health"] != "unknown" for rule in rules):
                break
            time.sleep(0.5)
        assert {rule["health"] for rule in rules} == {"ok"}, rules
        # Every metric in a dashboard has a help text, and its name ends with its unit.
        targets = requests.get(f"{url}/api/v1/targets/metadata", timeout=10).json()["data"]
        names = {entry["metric"]: entry for entry in targets if entry["metric"].startswith("esker_")}
        assert len(names) > 40
        assert not [name for name, entry in names.items() if not entry["help"]]
        assert not [n for n, e in names.items() if (e["type"] == "counter") != n.endswith("_total")]


def test_rules_and_configuration_are_sound_and_the_runbook_knows_every_alert() -> None:
    promtool, where = binary("promtool"), DEPLOY / "prometheus"
    subprocess.run([promtool, "check", "rules", "rules.yml"], cwd=where, check=True, capture_output=True)
    done = subprocess.run([promtool, "test", "rules", "rules_test.yml"], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    book = (ROOT / "docs" / "runbook.md").read_text()
    for alert in re.findall(r"alert: (\w+)", RULES.read_text()):
        assert f"## {alert}\n" in book, alert


def test_dashboards_are_what_their_script_writes_and_whole() -> None:
    done = subprocess.run(["python3", ROOT / "scripts" / "dashboards.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    uids = set()
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        uids.add(board["uid"])
        variables = {v["name"] for v in board["templating"]["list"]}
        cells: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, panel["title"]
            own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not own & cells, f"{panel['title']} lies on another panel"
            cells |= own
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"]
            for target in panel["targets"]:
                assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables, panel["title"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len(uids) == 4
