"""A sensor that waits until a table is healthy."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseSensorOperator

from esker_airflow.hook import EskerHook
from esker_airflow.triggers import EskerHealthTrigger


class EskerHealthSensor(BaseSensorOperator):
    """Succeeds when a table's health score is at least `min_score`.

    Deferrable; a deferred sensor returns the score.
    """

    template_fields = ("table", "warehouse")

    def __init__(
        self,
        *,
        table: str,
        min_score: int = 70,
        warehouse: str | None = None,
        esker_conn_id: str = EskerHook.default_conn_name,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table, self.min_score, self.warehouse = table, min_score, warehouse
        self.esker_conn_id, self.deferrable = esker_conn_id, deferrable

    def poke(self, context: Any) -> bool:
        health = EskerHook(self.esker_conn_id).health(self.table, self.warehouse)
        self.log.info("%s: score %s, %s", self.table, health["score"], [f["code"] for f in health["findings"]])
        return health["score"] >= self.min_score

    def execute(self, context: Any) -> Any:
        if self.poke(context) or not self.deferrable:
            return super().execute(context)
        trigger = EskerHealthTrigger(self.esker_conn_id, self.table, self.warehouse, self.min_score, self.poke_interval)
        return self.defer(trigger=trigger, method_name="finish")

    def finish(self, context: Any, event: dict) -> Any:
        """Returns the score that the trigger has seen."""
        return {"score": event["score"]}
