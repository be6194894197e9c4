"""A DAG that lets Spark run Esker's external jobs: compactions of more bytes than `compact.spark-over`.

ESKER_SPARK in the environment of the workers is the command, such as `spark-submit --master yarn
/opt/esker/jobs/spark/esker_spark.py --catalog lake`, or `python …` with SPARK_REMOTE for Spark Connect. Esker shows
the jobs like its own, with progress, log and history, and can cancel them.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag

COMMAND = os.environ.get("ESKER_SPARK", "spark-submit /opt/esker/jobs/spark/esker_spark.py --catalog lake")


@dag(
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["esker", "iceberg", "spark"],
)
def esker_spark():
    url = "{{ conn.esker_default.schema or 'http' }}://{{ conn.esker_default.host }}:{{ conn.esker_default.port }}"
    BashOperator(
        task_id="rewrite",
        bash_command=COMMAND,
        env={"ESKER_URL": url, "ESKER_TOKEN": "{{ conn.esker_default.password or '' }}"},
        append_env=True,
    )


esker_spark()
