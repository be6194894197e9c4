"""The Flight SQL JDBC driver of Apache Arrow, which logs in with a user and a password."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .base import ENGINES, artifact, java_class

VERSION = "18.3.0"


@dataclass
class Answer:
    """What a command printed: rows, whose columns are separated by bars, or an error."""

    rows: list[str]
    error: str | None


def jdbc(url: str, user: str, password: str, *commands: str) -> list[Answer]:
    """Runs commands of `jdbc/FlightJdbc.java` over one connection. A refused connection is the only answer."""
    driver = artifact(f"org.apache.arrow:flight-sql-jdbc-driver:{VERSION}")
    classes = java_class(ENGINES / "jdbc" / "FlightJdbc.java", driver)
    command = [
        "java", "-Xmx512m", "-XX:+UseSerialGC", "--add-opens=java.base/java.nio=ALL-UNNAMED",
        "-cp", f"{driver}{os.pathsep}{classes}", "FlightJdbc", url, *commands,
    ]  # fmt: skip
    env = os.environ | {"JDBC_USER": user, "JDBC_PASSWORD": password}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-4000:]
    answers: list[Answer] = []
    rows: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("ROW "):
            rows.append(line.removeprefix("ROW "))
        elif line == "DONE" or line.startswith("ERROR "):
            answers.append(Answer(rows, None if line == "DONE" else line.removeprefix("ERROR ")))
            rows = []
    return answers


def url(flight: str, ca: Path | None = None) -> str:
    """Returns the driver's URL of a Flight SQL server, whose scheme says whether it speaks TLS."""
    scheme, place = flight.split("://")
    if scheme == "grpc":
        return f"jdbc:arrow-flight-sql://{place}/?useEncryption=false"
    return f"jdbc:arrow-flight-sql://{place}/?useEncryption=true{f'&tlsRootCerts={ca}' if ca else ''}"
