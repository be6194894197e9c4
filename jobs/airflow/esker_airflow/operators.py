"""Jobs of Esker as tasks. A retry of a task is the same job, never a second one: the key is the run, the task and its
place in a map."""

from __future__ import annotations

import time
from typing import Any

from airflow.sdk import BaseOperator

from esker_airflow.hook import OVER, EskerError, EskerHook
from esker_airflow.triggers import EskerJobTrigger


class EskerJobOperator(BaseOperator):
    """Enters a job on a table and waits for it; returns what it did. Deferrable: waiting holds no worker."""

    template_fields = ("table", "kind", "options", "warehouse")
    ui_color = "#dce7f3"

    def __init__(
        self,
        *,
        table: str,
        kind: str,
        options: dict | None = None,
        warehouse: str | None = None,
        esker_conn_id: str = EskerHook.default_conn_name,
        deferrable: bool = True,
        poll_seconds: float = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table, self.kind, self.options, self.warehouse = table, kind, options, warehouse
        self.esker_conn_id, self.deferrable, self.poll_seconds = esker_conn_id, deferrable, poll_seconds
        self.job_id: str | None = None

    @property
    def hook(self) -> EskerHook:
        return EskerHook(self.esker_conn_id)

    def key(self, context: Any) -> str:
        instance = context["ti"]
        place = getattr(instance, "map_index", -1)
        # A task that failed for good and is cleared by hand is meant to be done anew; a retry is not.
        cleared = (max(instance.try_number, 1) - 1) // (self.retries + 1) if self.retries is not None else 0
        return f"airflow/{instance.dag_id}/{instance.run_id}/{instance.task_id}/{place}/{cleared}"[-200:]

    def execute(self, context: Any) -> Any:
        self.job_id = self.hook.start(self.table, self.kind, self.options, self.key(context), self.warehouse)
        self.log.info("job %s: %s of %s", self.job_id, self.kind, self.table)
        job = self.hook.job(self.job_id)
        if job["state"] in OVER:
            return self.finish(context, job)
        if self.deferrable:
            trigger = EskerJobTrigger(self.esker_conn_id, self.job_id, self.poll_seconds)
            self.defer(trigger=trigger, method_name="finish")
        while job["state"] not in OVER:
            time.sleep(self.poll_seconds)
            job = self.hook.job(self.job_id)
        return self.finish(context, job)

    def finish(self, context: Any, event: dict) -> Any:
        """The job is over."""
        if event["state"] != "succeeded":
            reason = event.get("error") or "without a reason"
            raise EskerError(f"job {event['id']} of {event['table']}: {event['state']}, {reason}")
        self.log.info("job %s: %s", event["id"], event["outcome"])
        return event["outcome"]

    def on_kill(self) -> None:
        if self.job_id:
            self.log.info("job %s is cancelled: %s", self.job_id, self.hook.cancel(self.job_id))


class EskerCompactOperator(EskerJobOperator):
    """Rewrites data files, or deletes into better ones."""

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(table=table, kind="compact", **kwargs)


class EskerExpireOperator(EskerJobOperator):
    """Removes snapshots that retention does not ask for any more."""

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(table=table, kind="expire", **kwargs)


class EskerOrphansOperator(EskerJobOperator):
    """Puts files that belong to nothing into quarantine."""

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(table=table, kind="orphans", **kwargs)


class EskerManifestsOperator(EskerJobOperator):
    """Writes manifests anew, fewer of them."""

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(table=table, kind="manifests", **kwargs)


class EskerStatisticsOperator(EskerJobOperator):
    """Counts distinct values, for the planners of Spark and Trino."""

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(table=table, kind="statistics", **kwargs)
