"""A client of Esker's management API, as an Airflow hook."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import requests
from airflow.sdk import BaseHook

OVER = ("succeeded", "failed", "cancelled")


class EskerError(Exception):
    """A request that Esker refused, or a job that did not succeed. The message is Esker's."""


class EskerHook(BaseHook):
    """A connection of the type `esker`.

    Host, port and schema (`http` or `https`) are those of the server, the password is the token. The extra `warehouse`
    is the default warehouse.
    """

    conn_name_attr = "esker_conn_id"
    default_conn_name = "esker_default"
    conn_type = "esker"
    hook_name = "Esker"

    def __init__(self, esker_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.esker_conn_id = esker_conn_id
        self._connection: Any = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict:
        return {
            "hidden_fields": ["login"],
            "relabeling": {"password": "Token", "schema": "Scheme (http or https)"},
            "placeholders": {"extra": '{"warehouse": "default"}'},
        }

    @property
    def connection(self) -> Any:
        if self._connection is None:
            self._connection = self.get_connection(self.esker_conn_id)
        return self._connection

    @property
    def warehouse(self) -> str:
        return self.connection.extra_dejson.get("warehouse", "default")

    def request(self, method: str, path: str, body: dict | None = None, **headers: str) -> Any:
        connection = self.connection
        scheme = connection.schema or "http"
        port = f":{connection.port}" if connection.port else ""
        if connection.password:
            headers["Authorization"] = f"Bearer {connection.password}"
        url = f"{scheme}://{connection.host}{port}{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=60)
        if answer.ok:
            return answer.json() if answer.content else None
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError):
            message = answer.text[:500]
        raise EskerError(f"{method} {path}: {answer.status_code} {message}")

    def warehouse_path(self, warehouse: str | None = None) -> str:
        return f"/api/v1/warehouses/{quote(warehouse or self.warehouse, safe='')}"

    def table_path(self, table: str, warehouse: str | None = None) -> str:
        """Returns the path of a table given as `namespace.table`; the namespace may have several levels."""
        *levels, name = table.split(".")
        if not levels:
            raise EskerError(f"{table!r} is not NAMESPACE.TABLE")
        namespace = quote("\x1f".join(levels), safe="")
        return f"{self.warehouse_path(warehouse)}/namespaces/{namespace}/tables/{quote(name, safe='')}"

    def start(self, table: str, kind: str, options: dict | None, key: str, warehouse: str | None = None) -> str:
        """Starts a job and returns its id. A repetition with the same key returns the same job."""
        path = f"{self.table_path(table, warehouse)}/{kind}"
        return self.request("POST", path, options or {}, **{"Idempotency-Key": key})["job-id"]

    def job_kinds(self) -> list[dict]:
        """Returns the kinds of jobs that the server has, with their properties."""
        return self.request("GET", "/api/v1/job-kinds")

    def job(self, job_id: str) -> dict:
        return self.request("GET", f"/api/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> str:
        return self.request("POST", f"/api/v1/jobs/{job_id}/cancel", {})["state"]

    def health(self, table: str, warehouse: str | None = None) -> dict:
        return self.request("GET", f"{self.table_path(table, warehouse)}/health")

    def recommendations(self, warehouse: str | None = None, **wanted: str | int) -> list[dict]:
        """Returns the jobs that would pay, the best first. `namespace`, `kind` and `limit` narrow the list."""
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in wanted.items())
        return self.request("GET", f"{self.warehouse_path(warehouse)}/recommendations?{query}")
