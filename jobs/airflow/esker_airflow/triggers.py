"""Triggers, which wait in the triggerer, so that a waiting task takes no worker slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from esker_airflow.hook import OVER, EskerHook


class EskerJobTrigger(BaseTrigger):
    """Fires when a job has ended, with its record. Cancels the job if the task is killed."""

    def __init__(self, esker_conn_id: str, job_id: str, poll_seconds: float = 5) -> None:
        super().__init__()
        self.esker_conn_id, self.job_id, self.poll_seconds = esker_conn_id, job_id, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        keys = ("esker_conn_id", "job_id", "poll_seconds")
        return "esker_airflow.triggers.EskerJobTrigger", {key: getattr(self, key) for key in keys}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        hook = EskerHook(self.esker_conn_id)
        while True:
            job = await asyncio.to_thread(hook.job, self.job_id)
            if job["state"] in OVER:
                yield TriggerEvent(job)
                return
            await asyncio.sleep(self.poll_seconds)

    async def on_kill(self) -> None:
        await asyncio.to_thread(EskerHook(self.esker_conn_id).cancel, self.job_id)


class EskerHealthTrigger(BaseTrigger):
    """Fires when a table's score is at least `min_score`, with the table's health."""

    def __init__(
        self, esker_conn_id: str, table: str, warehouse: str | None, min_score: int, poll_seconds: float = 30
    ) -> None:
        super().__init__()
        self.esker_conn_id, self.table, self.warehouse = esker_conn_id, table, warehouse
        self.min_score, self.poll_seconds = min_score, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        keys = ("esker_conn_id", "table", "warehouse", "min_score", "poll_seconds")
        return "esker_airflow.triggers.EskerHealthTrigger", {key: getattr(self, key) for key in keys}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        hook = EskerHook(self.esker_conn_id)
        while True:
            health = await asyncio.to_thread(hook.health, self.table, self.warehouse)
            if health["score"] >= self.min_score:
                yield TriggerEvent(health)
                return
            await asyncio.sleep(self.poll_seconds)
