"""A DAG: dbt builds the marts with Trino and Spark, the tables' health is checked, and Esker runs the jobs that pay.

The environment of the workers configures it:

- ESKER_JOBS: the directory with `dbt` and `quality`
- ESKER_PYTHON: the Python that has dbt-trino, dbt-spark and Great Expectations
- TRINO_URL: as in `trino://user@host:port/catalog`
- ESKER_QUALITY: options of `check_health.py`, if any
- the variables of `jobs/dbt/profiles.yml`
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task
from esker_airflow.hook import EskerHook
from esker_airflow.operators import EskerJobOperator

JOBS = os.environ.get("ESKER_JOBS", "/opt/esker/jobs")
PYTHON = Path(os.environ.get("ESKER_PYTHON", "/opt/esker/venv/bin/python"))
DBT = f"{PYTHON.parent}/dbt build --no-use-colors --project-dir {JOBS}/dbt --profiles-dir {JOBS}/dbt"


@dag(
    schedule="30 1 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["esker", "iceberg", "dbt"],
)
def esker_dbt():
    def dbt(target: str) -> BashOperator:
        logs = "--target-path $(mktemp -d) --log-path $(mktemp -d)"
        command = f"{DBT} {logs} --target {target} --select tag:{target}"
        return BashOperator(task_id=f"dbt_{target}", bash_command=command, append_env=True)

    quality = BashOperator(
        task_id="quality",
        bash_command=f"{PYTHON} {JOBS}/quality/check_health.py $TRINO_URL $ESKER_QUALITY",
        append_env=True,
        retries=0,
    )

    # Maintenance also runs if the check fails, because it is what heals the tables.
    @task(trigger_rule="all_done")
    def recommended(limit: int = 50) -> list[dict]:
        found = EskerHook().recommendations(limit=limit)
        return [{key: job[key] for key in ("table", "kind", "options", "warehouse")} for job in found]

    jobs = recommended()
    dbt("trino") >> dbt("spark") >> quality >> jobs
    EskerJobOperator.partial(task_id="treat", max_active_tis_per_dag=4).expand_kwargs(jobs)


esker_dbt()
