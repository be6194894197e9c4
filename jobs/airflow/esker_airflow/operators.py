"""Jobs of Esker as tasks. A retry of a task is the same job, never a second one: the key is the run, the task and its
place in a map."""

from __future__ import annotations

import time
from typing import Any

from airflow.sdk import BaseOperator

from esker_airflow.hook import OVER, EskerError, EskerHook
from esker_airflow.triggers import EskerJobTrigger


class EskerJobOperator(BaseOperator):
    """Starts a job of any kind that the server lists, waits for it, and returns its outcome.

    Deferrable: waiting holds no worker.
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
        # A task that failed for good and is cleared by hand is meant to be done anew; a retry is not.
        cleared = (max(instance.try_number, 1) - 1) // (self.retries + 1) if self.retries is not None else 0
        return f"airflow/{instance.dag_id}/{instance.run_id}/{instance.task_id}/{place}/{cleared}"[-200:]

    def execute(self, context: Any) -> Any:
        job = self.do_job(self.key(context))
        return self.finish(context, job)

    def check_kind(self) -> None:
        """An unknown kind is refused before anything is started, with the kinds that the server lists."""
        kinds = [kind["kind"] for kind in self.hook.job_kinds()]
        if self.kind not in kinds:
            raise EskerError(f"{self.kind!r} is no kind of job; the server lists {', '.join(kinds)}")

    def do_job(self, key: str, **later: Any) -> dict:
        """Enters the job; returns it once it is over, or defers to `finish`, which gets what is for later as well."""
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
        """The job is over."""
        if event["state"] != "succeeded":
            reason = event.get("error") or "without a reason"
            raise EskerError(f"job {event['id']} of {event['table']}: {event['state']}, {reason}")
        self.log.info("job %s: %s", event["id"], event["outcome"])
        return event["outcome"]

    def on_kill(self) -> None:
        if self.job_id:
            self.log.info("job %s is cancelled: %s", self.job_id, self.hook.cancel(self.job_id))


def of_kind(name: str, kind: str) -> type[EskerJobOperator]:
    """The operator of one kind, under the name of earlier releases. They go with release 0.3: use EskerJobOperator."""

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
    """Does what Esker recommends for a table, one job after the other, until nothing more pays; returns what each did.

    Each kind is done once: what is recommended again right after it was done would gain nothing.
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
