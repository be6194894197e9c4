"""Airflow on SQLite, with Esker's provider."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path

from .base import ROOT, python_of
from .esker import Server

PROVIDER = ROOT / "jobs" / "airflow"
VERSION = "3.3.2"


class Airflow:
    """An Airflow with the provider installed and the connection `esker_default`."""

    def __init__(self, home: Path, server: Server, dags: Path, **settings: str) -> None:
        self.python = python_of("airflow")
        host, port = server.rest.removeprefix("http://").split(":")
        connection = {"conn_type": "esker", "host": host, "port": int(port), "password": server.token, "schema": "http"}
        # The provider needs package metadata for its entry point. The sources are those of the repository.
        info = home / "site" / "esker_airflow-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: esker-airflow\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(
            "[apache_airflow_provider]\nprovider_info = esker_airflow:get_provider_info\n"
        )
        self.env = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_ESKER_DEFAULT": json.dumps(connection),
            "PYTHONPATH": f"{PROVIDER}{os.pathsep}{info.parent}",
            "NO_PROXY": "127.0.0.1",
            **settings,
        }
        self.home = home
        self("db", "migrate")

    def __call__(self, *command: str) -> str:
        return self.run(self.python.parent / "airflow", *command)

    def script(self, text: str) -> str:
        return self.run(self.python, "-c", textwrap.dedent(text))

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout
