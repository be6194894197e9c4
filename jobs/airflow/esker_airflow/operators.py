"""Operators that run Esker's jobs.

A retry of a task gets the same job, never a second one: the idempotency key is made of the run, the task and its map
index.
"""

from __future__ import annotations

import time
from typing import Any

from airflow.sdk import BaseOperator

from esker_airflow.hook import OVER, EskerError, EskerHook
from esker_airflow.triggers import EskerJobTrigger


class EskerJobOperator(BaseOperator):
    """Starts a job of any kind that the server lists, waits for it, and returns its outcome.

    Deferrable: a waiting task takes no worker slot.
    """

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
        # A retry repeats the same job. A task that a person cleared gets a new one.
        cleared = (max(instance.try_number, 1) - 1) // (self.retries + 1) if self.retries is not None else 0
        return f"airflow/{instance.dag_id}/{instance.run_id}/{instance.task_id}/{place}/{cleared}"[-200:]

    def execute(self, context: Any) -> Any:
        job = self.do_job(self.key(context))
        return self.finish(context, job)

    def check_kind(self) -> None:
        """Fails if the server does not list the kind, before anything is started. The error names the kinds."""
        kinds = [kind["kind"] for kind in self.hook.job_kinds()]
        if self.kind not in kinds:
            raise EskerError(f"{self.kind!r} is no kind of job; the server lists {', '.join(kinds)}")

    def do_job(self, key: str, **later: Any) -> dict:
        """Starts the job. Returns it once it has ended, or defers to `finish`, which gets `later` as arguments."""
        self.check_kind()
        self.job_id = self.hook.start(self.table, self.kind, self.options, key, self.warehouse)
        self.log.info("job %s: %s of %s", self.job_id, self.kind, self.table)
        job = self.hook.job(self.job_id)
        if job["state"] not in OVER and self.deferrable:
            trigger = EskerJobTrigger(self.esker_conn_id, self.job_id, self.poll_seconds)
            self.defer(trigger=trigger, method_name="finish", kwargs=later)
        while job["state"] not in OVER:
            time.sleep(self.poll_seconds)
            job = self.hook.job(self.job_id)
        return job

    def finish(self, context: Any, event: dict) -> Any:
        """Returns the outcome of a job that has ended, and fails if it did not succeed."""
        if event["state"] != "succeeded":
            reason = event.get("error") or "without a reason"
            raise EskerError(f"job {event['id']} of {event['table']}: {event['state']}, {reason}")
        self.log.info("job %s: %s", event["id"], event["outcome"])
        return event["outcome"]

    def on_kill(self) -> None:
        if self.job_id:
            self.log.info("job %s is cancelled: %s", self.job_id, self.hook.cancel(self.job_id))


def of_kind(name: str, kind: str) -> type[EskerJobOperator]:
    """Returns an operator of one kind, with its name in earlier releases.

    Deprecated: these operators go with release 0.3. Use EskerJobOperator.
    """

    def __init__(self: EskerJobOperator, *, table: str, **kwargs: Any) -> None:
        EskerJobOperator.__init__(self, table=table, kind=kind, **kwargs)

    members = {"__init__": __init__, "__doc__": f"A job of the kind {kind}.", "__module__": __name__}
    return type(name, (EskerJobOperator,), members)


EskerCompactOperator = of_kind("EskerCompactOperator", "compact")
EskerExpireOperator = of_kind("EskerExpireOperator", "expire")
EskerOrphansOperator = of_kind("EskerOrphansOperator", "orphans")
EskerManifestsOperator = of_kind("EskerManifestsOperator", "manifests")
EskerStatisticsOperator = of_kind("EskerStatisticsOperator", "statistics")


class EskerMaintainOperator(EskerJobOperator):
    """Runs the jobs that Esker recommends for a table, one after the other, until none pays. Returns their outcomes.

    Each kind runs once: a job that is recommended again right after it ran would gain nothing.
    """

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(table=table, kind="", **kwargs)

    def execute(self, context: Any) -> list[dict]:
        return self.go_on(context, [])

    def go_on(self, context: Any, done: list[dict]) -> list[dict]:
        while True:
            kinds = {job["kind"] for job in done}
            found = self.hook.recommendations(self.warehouse, namespace=self.table.rpartition(".")[0])
            found = [job for job in found if job["table"] == self.table and job["kind"] not in kinds]
            if not found:
                return done
            self.kind, self.options = found[0]["kind"], found[0]["options"]
            job = self.do_job(f"{self.key(context)[-180:]}/{self.kind}", done=done)
            done = [*done, self.outcome(context, job)]

    def outcome(self, context: Any, job: dict) -> dict:
        return {"kind": job["kind"], "outcome": super().finish(context, job)}

    def finish(self, context: Any, event: dict, done: list[dict] | None = None) -> list[dict]:
        return self.go_on(context, [*(done or []), self.outcome(context, event)])
