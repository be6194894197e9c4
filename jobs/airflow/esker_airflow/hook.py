"""Talks to Esker's management API."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import requests
from airflow.sdk import BaseHook

OVER = ("succeeded", "failed", "cancelled")


class EskerError(Exception):
    """Esker refused; the message is its own."""


class EskerHook(BaseHook):
    """A connection of the type `esker`: host, port and schema (`http` or `https`) say where, the password is the token,
    the extra `warehouse` is the one that is meant where nothing else is said."""

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
        """`namespace.table`, the namespace possibly of several levels."""
        *levels, name = table.split(".")
        if not levels:
            raise EskerError(f"{table!r} is not NAMESPACE.TABLE")
        namespace = quote("\x1f".join(levels), safe="")
        return f"{self.warehouse_path(warehouse)}/namespaces/{namespace}/tables/{quote(name, safe='')}"

    def start(self, table: str, kind: str, options: dict | None, key: str, warehouse: str | None = None) -> str:
        """Starts a job and returns its id; the same key is the same job."""
        path = f"{self.table_path(table, warehouse)}/{kind}"
        return self.request("POST", path, options or {}, **{"Idempotency-Key": key})["job-id"]

    def job_kinds(self) -> list[dict]:
        """The kinds of jobs that the server has, with what can be done with each."""
        return self.request("GET", "/api/v1/job-kinds")

    def job(self, job_id: str) -> dict:
        return self.request("GET", f"/api/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> str:
        return self.request("POST", f"/api/v1/jobs/{job_id}/cancel", {})["state"]

    def health(self, table: str, warehouse: str | None = None) -> dict:
        return self.request("GET", f"{self.table_path(table, warehouse)}/health")

    def recommendations(self, warehouse: str | None = None, **wanted: str | int) -> list[dict]:
        """Jobs that would pay, the best first: `namespace`, `kind` and `limit` narrow them."""
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in wanted.items())
        return self.request("GET", f"{self.warehouse_path(warehouse)}/recommendations?{query}")
