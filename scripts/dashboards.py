# ruff: noqa: E501
"""Writes the Grafana dashboards in deploy/grafana/dashboards. With --check, fails if they differ from what it would write."""

import json
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
THIRD, HALF, WHOLE = 8, 12, 24
TABLE = '{warehouse="$warehouse",namespace="$namespace",table="$table"}'
W = '{warehouse=~"$warehouse"}'


def stat(title: str, expr: str, unit: str = "short", width: int = 4, thresholds: tuple = ()) -> dict:
    steps = [{"color": "green", "value": None}, *({"color": color, "value": value} for value, color in thresholds)]
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}
    return _panel("stat", title, [(expr, "")], width, 4, {"defaults": defaults, "overrides": []}, instant=True)


def graph(title: str, *exprs: tuple[str, str], unit: str = "short", width: int = HALF, stack: bool = False) -> dict:
    custom = {"lineWidth": 1, "fillOpacity": 20 if stack else 5, "stacking": {"mode": "normal" if stack else "none"}}
    return _panel("timeseries", title, exprs, width, 8, {"defaults": {"unit": unit, "custom": custom}, "overrides": []})


def listing(title: str, expr: str, *, width: int = WHOLE, unit: str = "short") -> dict:
    panel = _panel("table", title, [(expr, "")], width, 9, {"defaults": {"unit": unit}, "overrides": []}, instant=True)
    hidden = {name: True for name in ("Time", "__name__", "instance", "job")}
    panel["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return panel


def _panel(kind: str, title: str, exprs, width: int, height: int, config: dict, instant: bool = False) -> dict:
    targets = []
    for i, (expr, legend) in enumerate(exprs):
        target = {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
        if instant:
            target |= {"instant": True, "range": False, "format": "table" if kind == "table" else "time_series"}
        targets.append(target)
    size = {"w": width, "h": height}
    return {
        "type": kind, "title": title, "datasource": SOURCE, "gridPos": size, "fieldConfig": config, "targets": targets, "options": {},
    }  # fmt: skip


def variable(name: str, query: str, several: bool = False) -> dict:
    many = {"includeAll": True, "multi": True, "allValue": ".*"} if several else {}
    current = {"text": "All", "value": "$__all"} if several else {}
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        "current": current,
        **many,
    }


def dashboard(uid: str, title: str, panels: list[dict], variables: list[dict]) -> dict:
    x = y = row = 0
    for number, panel in enumerate(panels, 1):
        size = panel["gridPos"]
        if x + size["w"] > WHOLE:
            x, y, row = 0, y + row, 0
        panel["id"], panel["gridPos"] = number, {"x": x, "y": y, **size}
        x, row = x + size["w"], max(row, size["h"])
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}}
    links = [{"title": "Esker", "type": "dashboards", "tags": ["esker"], "asDropdown": True, "keepTime": True}]
    return {
        "uid": uid, "title": title, "tags": ["esker"], "timezone": "browser", "schemaVersion": 39, "version": 1, "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "editable": True, "links": links,
        "templating": {"list": [source, *variables]}, "panels": panels,
    }  # fmt: skip


ANY = [variable("warehouse", "label_values(esker_table_health_score, warehouse)", several=True)]
ONE = [
    variable("warehouse", "label_values(esker_table_health_score, warehouse)"),
    variable("namespace", 'label_values(esker_table_health_score{warehouse="$warehouse"}, namespace)'),
    variable("table", 'label_values(esker_table_health_score{warehouse="$warehouse",namespace="$namespace"}, table)'),
]

FLEET = dashboard("esker-fleet", "Esker: fleet", [
    stat("Tables", "esker_tables"),
    stat("Poor", 'sum(esker_tables_by_score{class=~"0-49|50-69"})', thresholds=((1, "orange"), (10, "red"))),
    stat("Can't be assessed", 'sum(esker_tables_by_score{class="unknown"})', thresholds=((1, "red"),)),
    stat("Data", "sum(esker_warehouse_data_bytes)", "bytes"),
    stat("Data files", "sum(esker_warehouse_data_files)"),
    stat("In quarantine", "esker_quarantine_bytes", "bytes"),
    graph("Tables by score", ("esker_tables_by_score", "{{class}}"), stack=True),
    graph("Tables by finding", ("sum by (code) (esker_tables_with_finding)", "{{code}}")),
    graph("Data files a warehouse", ("esker_warehouse_data_files", "{{warehouse}}")),
    graph("What the autopilot thinks", ("esker_autopilot_tables", "{{verdict}}"), stack=True),
    listing("The worst tables", f"bottomk(25, esker_table_health_score{W})"),
    listing("The most files that need not be", f"topk(25, esker_table_excess_files{W})", width=HALF),
    listing("The most deletes", f"topk(25, sum by (warehouse, namespace, table) (esker_table_deletes{W}))", width=HALF),
    graph("Tables beyond the limit of /metrics/tables", ("esker_tables_not_exported", "not exported")),
    graph("Deletes switched off", ("esker_warehouse_deletes_off", "{{warehouse}}")),
], ANY)  # fmt: skip

ONE_TABLE = dashboard("esker-table", "Esker: table", [
    stat("Score", f"esker_table_health_score{TABLE}"),
    stat("Data", f"esker_table_data_bytes{TABLE}", "bytes"),
    stat("Data files", f"esker_table_data_files{TABLE}"),
    stat("Rows", f"esker_table_records{TABLE}"),
    stat("Snapshots", f"esker_table_snapshots{TABLE}"),
    stat("Last commit", f"esker_table_last_commit_timestamp_seconds{TABLE} * 1000", "dateTimeFromNow"),
    graph("Score", (f"esker_table_health_score{TABLE}", "score")),
    graph("Data files", (f"esker_table_data_files{TABLE}", "files"), (f"esker_table_excess_files{TABLE}", "more than needed")),
    graph("Files by size", (f"esker_table_data_files_by_size{TABLE}", "up to {{le}} bytes")),
    graph("Delete files", (f"esker_table_delete_files{TABLE}", "{{kind}}"), stack=True),
    graph("Deletes", (f"esker_table_deletes{TABLE}", "{{kind}}"), stack=True),
    graph("Bytes", (f"esker_table_data_bytes{TABLE}", "data"), unit="bytes"),
    graph("Metadata file", (f"esker_table_metadata_bytes{TABLE}", "bytes"), unit="bytes"),
    graph("Manifests", (f"esker_table_manifests{TABLE}", "manifests")),
    graph("Scans and commits in seven days, as engines report them",
          (f"esker_table_reported_scans{TABLE}", "scans"), (f"esker_table_reported_commits{TABLE}", "commits"),
          (f"esker_table_reported_commit_attempts{TABLE}", "attempts at commits")),
    listing("When jobs last succeeded", f"esker_table_last_success_timestamp_seconds{TABLE} * 1000", width=HALF,
            unit="dateTimeFromNow"),
], ONE)  # fmt: skip

JOBS = dashboard("esker-jobs", "Esker: jobs", [
    stat("At work", 'sum(esker_jobs{state="running"})'),
    stat("Waiting", 'sum(esker_jobs{state="queued"})'),
    stat("Longest wait", "max(esker_job_longest_wait_seconds)", "s", thresholds=((600, "orange"), (3600, "red"))),
    stat("Failed in a day", 'sum(increase(esker_job_attempts_total{state="failed"}[1d])) or vector(0)', thresholds=((1, "orange"),)),
    stat("Rewritten in a day", 'sum(increase(esker_job_bytes_total{direction="written"}[1d]))', "bytes"),
    stat("In quarantine", "esker_quarantine_files"),
    graph("The queue", ("sum by (state) (esker_jobs)", "{{state}}"), stack=True),
    graph("Attempts", ("sum by (kind, state) (rate(esker_job_attempts_total[5m]))", "{{kind}} {{state}}"), unit="ops"),
    graph("Seconds an attempt", (
        "sum by (kind) (rate(esker_job_seconds_total[5m])) / sum by (kind) (rate(esker_job_attempts_total[5m]))", "{{kind}}"),
        unit="s"),
    graph("Bytes", ("sum by (kind, direction) (rate(esker_job_bytes_total[5m]))", "{{kind}} {{direction}}"), unit="Bps"),
    graph("Processor", ("sum by (kind) (rate(esker_job_cpu_seconds_total[5m]))", "{{kind}}"), unit="short"),
    graph("Quarantine", ("esker_quarantine_bytes", "bytes"), unit="bytes"),
], [])  # fmt: skip

SERVICE = dashboard("esker-service", "Esker: service", [
    stat("Requests a second", "sum(rate(esker_http_request_duration_seconds_count[5m]))", "reqps"),
    stat("Errors of the server", 'sum(rate(esker_http_request_duration_seconds_count{status=~"5.."}[5m])) or vector(0)', "reqps",
         thresholds=((0.001, "red"),)),
    stat("p99", "histogram_quantile(0.99, sum by (le) (rate(esker_http_request_duration_seconds_bucket[5m])))", "s"),
    stat("Commits a second", "sum(rate(esker_commits_total[5m]))", "ops"),
    stat("Queries at work", "esker_queries_running"),
    stat("Cache", "sum(esker_cache_bytes)", "bytes"),
    graph("Requests", ("sum by (route) (rate(esker_http_request_duration_seconds_count[5m]))", "{{route}}"), unit="reqps"),
    graph("Latency",
          ("histogram_quantile(0.5, sum by (le) (rate(esker_http_request_duration_seconds_bucket[5m])))", "p50"),
          ("histogram_quantile(0.99, sum by (le) (rate(esker_http_request_duration_seconds_bucket[5m])))", "p99"), unit="s"),
    graph("Commits", ("sum by (result) (rate(esker_commits_total[5m]))", "{{result}}"), unit="ops"),
    graph("Commits a metadata file",
          ("rate(esker_commit_batch_size_sum[5m]) / rate(esker_commit_batch_size_count[5m])", "commits")),
    graph("Queries", ("sum by (result) (rate(esker_queries_total[5m]))", "{{result}}"), unit="ops"),
    graph("Parts of files that queries read", ("sum by (found) (rate(esker_cache_parts_total[5m]))", "{{found}}"), unit="ops"),
], [])  # fmt: skip

BOARDS = {"fleet": FLEET, "table": ONE_TABLE, "jobs": JOBS, "service": SERVICE}


def main() -> None:
    stale = []
    for name, board in BOARDS.items():
        path, text = OUT / f"{name}.json", json.dumps(board, indent=1) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what scripts/dashboards.py writes; run `make docs`")


main()
