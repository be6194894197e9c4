"""The Airflow provider of Esker: operators, a sensor, triggers, and the hook that they share."""

from __future__ import annotations


def get_provider_info() -> dict:
    return {
        "package-name": "esker-airflow",
        "name": "Esker",
        "description": "Maintenance of Apache Iceberg tables by Esker",
        "versions": ["0.1.0"],
        "connection-types": [{"connection-type": "esker", "hook-class-name": "esker_airflow.hook.EskerHook"}],
    }
