"""A real Airflow runs the provider's DAGs: a kill cancels the job, and a retry never starts a second one."""

from __future__ import annotations

from pathlib import Path

import adbc_driver_manager
import pytest
from stack.airflow import PROVIDER, VERSION, Airflow
from stack.esker import Server, running
from stack.roles import assert_each_is_needed, give

pytestmark = [
    pytest.mark.engine("Airflow", versions=lambda: {"Airflow": VERSION, "Python": "3.11"}),
    pytest.mark.timeout(300),
]


def mess(server: Server, tables: int) -> None:
    for n in range(tables):
        server.small_files(f"shop.t{n}")


@pytest.mark.slice
def test_the_dag_does_what_is_recommended_and_a_second_run_of_the_same_is_no_second_job(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    with running(tmp_path) as server:
        mess(server, 3)
        airflow = Airflow(tmp_path / "airflow", server, PROVIDER / "dags")
        assert "No data found" in airflow("dags", "list-import-errors")
        assert "esker" in airflow("providers", "list")
        for _ in range(2):
            text = airflow("dags", "test", "esker_maintenance", "2026-11-25")
            jobs = server.api("GET", "/api/v1/jobs?kind=compact")
            assert len(jobs) == 3 and {job["state"] for job in jobs} == {"succeeded"}, text[-3000:]
        assert server.api("GET", "/api/v1/warehouses/default/recommendations") == []
        files = [server.sql(f'SELECT count(*) FROM shop."t{n}$files"') for n in range(3)]
        assert files == [[(1,)]] * 3


@pytest.mark.slice
def test_a_killed_task_cancels_its_job_and_a_retry_is_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    # This server starts no job, so that the task waits until it is killed.
    with running(tmp_path, ESKER__MAINTENANCE__JOBS="0") as server:
        mess(server, 2)
        airflow = Airflow(tmp_path / "airflow", server, tmp_path / "no-dags")
        text = airflow.script(
            """
            import asyncio, json
            from types import SimpleNamespace
            from airflow.exceptions import TaskDeferred
            from esker_airflow.hook import EskerError, EskerHook
            from esker_airflow.operators import EskerCompactOperator
            from esker_airflow.triggers import EskerJobTrigger

            def begin(table, attempt, task="c"):
                operator = EskerCompactOperator(task_id=task, table=table, retries=2)
                ti = SimpleNamespace(dag_id="d", run_id="r", task_id=task, map_index=-1, try_number=attempt)
                try:
                    operator.execute({"ti": ti})
                except TaskDeferred as deferred:
                    return operator, deferred.trigger
                raise SystemExit("it was not deferred")

            hook = EskerHook()
            first, trigger = begin("shop.t0", 1)
            again, _ = begin("shop.t0", 2)
            assert first.job_id == again.job_id, "a retry is the same job"
            path, arguments = trigger.serialize()
            asyncio.run(EskerJobTrigger(**arguments).on_kill())
            assert hook.job(first.job_id)["state"] == "cancelled"
            cleared, _ = begin("shop.t0", 4)
            assert cleared.job_id != first.job_id, "cleared by hand after all retries: meant to be done anew"
            other, _ = begin("shop.t1", 1, "other")
            other.on_kill()
            assert hook.job(other.job_id)["state"] == "cancelled"
            event = asyncio.run(anext(EskerJobTrigger(**arguments).run()))
            try:
                first.finish({}, event.payload)
                raise SystemExit("a cancelled job is no success")
            except EskerError as error:
                assert "cancelled" in str(error)
            try:
                hook.start("shop.nothing", "compact", {}, "k")
                raise SystemExit("there is no such table")
            except EskerError as error:
                assert "shop.nothing" in str(error), error
            print("all well")
            """
        )
        assert text.endswith("all well\n"), text


MAINTAIN = """
from datetime import datetime
from airflow.sdk import dag
from esker_airflow.operators import EskerMaintainOperator

@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def maintain():
    EskerMaintainOperator(task_id="t", table="shop.t0", poll_seconds=0.2)

maintain()
"""


def test_a_table_is_maintained_by_recommendation_until_nothing_more_pays(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "maintain.py").write_text(MAINTAIN)
    with running(tmp_path) as server:
        mess(server, 2)
        airflow = Airflow(tmp_path / "airflow", server, tmp_path / "dags")
        text = airflow("dags", "test", "maintain", "2026-11-25")
        jobs = server.api("GET", "/api/v1/jobs")
        assert {job["table"] for job in jobs} == {"shop.t0"} and {job["state"] for job in jobs} == {"succeeded"}, text[
            -3000:
        ]
        left = server.api("GET", "/api/v1/warehouses/default/recommendations")
        assert {job["table"] for job in left} == {"shop.t1"}
        assert server.sql('SELECT count(*) FROM shop."t0$files"') == [(1,)]
        assert server.sql('SELECT count(*) FROM shop."t1$files"') == [(6,)]


@pytest.mark.slice
def test_the_role_of_the_maintainers_is_enough_for_the_dag_and_for_no_more(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    with running(tmp_path) as admin:
        mess(admin, 2)
        admin.small_files("hr.salaries")
        admin.control_access()
        maintainer = give(admin, "maintainers", "default")
        airflow = Airflow(tmp_path / "airflow", maintainer, PROVIDER / "dags")
        printed = airflow("dags", "test", "esker_maintenance", "2026-11-25")
        jobs = admin.api("GET", "/api/v1/jobs?kind=compact")
        assert sorted((job["table"], job["state"]) for job in jobs) == [
            ("shop.t0", "succeeded"),
            ("shop.t1", "succeeded"),
        ], printed[-3000:]

        def work() -> None:
            job = maintainer.job("shop.t0", "manifests")
            assert maintainer.api("GET", "/api/v1/warehouses/default/recommendations?namespace=shop") == []
            assert maintainer.api("GET", maintainer.table("shop.t0", "/health"))["score"] > 0
            assert [one["id"] for one in maintainer.api("GET", "/api/v1/jobs")][0] == job["id"]

        assert_each_is_needed(admin, "maintainers", work)
        # With it, a refusal names the privilege. Without it, the table does not exist.
        admin.sql("GRANT LIST ON NAMESPACE default.shop TO ROLE maintainers")
        text = airflow.script(
            """
            from esker_airflow.hook import EskerError, EskerHook

            hook = EskerHook()

            def refused(words, what, *arguments, **options):
                try:
                    what(*arguments, **options)
                except EskerError as error:
                    assert words in str(error), error
                else:
                    raise SystemExit(f"{arguments} was not refused")

            refused("lacks ERASE", hook.start, "shop.t0", "erase", {"where": "id = 1"}, "a")
            refused("lacks READ_DATA", hook.start, "shop.t0", "compact", {"where": "id = 1"}, "b")
            refused("Table does not exist: hr.salaries", hook.start, "hr.salaries", "compact", {}, "c")
            table = "/v1/default/namespaces/shop/tables/t0"
            refused("lacks DROP", hook.request, "DELETE", table)
            refused("lacks SET_PROPERTIES", hook.request, "POST", table, {
                "requirements": [], "updates": [{"action": "set-properties", "updates": {"a": "b"}}]})
            refused("lacks READ_DATA", hook.request, "POST", f"{table}/plan", {})
            refused("lacks MANAGE_ACCESS", hook.request, "PUT", "/api/v1/access/mode", {"mode": "off"})
            refused("lacks MANAGE_SERVER", hook.request, "POST", "/api/v1/quarantine/sweep", {})
            print("all well")
            """
        )
        assert text.endswith("all well\n"), text
        with pytest.raises(adbc_driver_manager.Error, match="airflow lacks READ_DATA on table shop.t0"):
            maintainer.sql("SELECT * FROM default.shop.t0")
