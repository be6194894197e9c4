"""A DAG that runs the jobs that Esker recommends, one task each, and assesses the tables again.

It is for teams that want to see maintenance in Airflow. With `autopilot = true` in Esker's policy no DAG is needed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag, task
from esker_airflow.hook import EskerHook
from esker_airflow.operators import EskerJobOperator


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["esker", "iceberg"],
)
def esker_maintenance():
    @task
    def recommended(limit: int = 50) -> list[dict]:
        found = EskerHook().recommendations(limit=limit)
        return [{key: job[key] for key in ("table", "kind", "options", "warehouse")} for job in found]

    @task(trigger_rule="all_done")
    def look_again(jobs: list[dict]) -> dict[str, int]:
        hook = EskerHook()
        return {job["table"]: hook.health(job["table"], job["warehouse"])["score"] for job in jobs}

    jobs = recommended()
    treated = EskerJobOperator.partial(task_id="treat", max_active_tis_per_dag=4).expand_kwargs(jobs)
    treated >> look_again(jobs)


esker_maintenance()
