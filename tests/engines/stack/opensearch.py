"""Starts one OpenSearch node, and rsyslog, which sends logs to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from .base import ENGINES, free_port, jars_of_pom, java_class, stop, wait_until
from .debian import libraries, program, unpacked

VERSION = "2.19.1"


@contextmanager
def running_opensearch(directory: Path) -> Iterator[str]:
    jars = jars_of_pom("opensearch")
    node = java_class(ENGINES / "opensearch" / "Node.java", jars)
    port, log = free_port(), directory / "opensearch.log"
    url = f"http://127.0.0.1:{port}"
    command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{jars}/*:{node}", "Node"]
    with log.open("w") as out:
        arguments = [directory / "node", str(port), str(free_port())]
        process = subprocess.Popen([*command, *arguments], stdout=out, stderr=out, cwd=directory)
    try:
        wait_until(lambda: requests.get(f"{url}/_cluster/health", timeout=1).ok, 90, process, log)
        yield url
    finally:
        stop(process)


@contextmanager
def running_rsyslog(directory: Path, rules: Path, log: Path) -> Iterator[Path]:
    """Starts rsyslog with the rules. It reads a log file as if the lines came from the program `esker`."""
    home = unpacked("rsyslog", "rsyslog", "rsyslog-elasticsearch")
    # Packages that the machine has are not unpacked into the cache.
    found = {path.parent for place in (home, Path("/usr/lib")) for path in place.rglob("rsyslog/*.so")}
    modules = os.pathsep.join(str(place) for place in found)
    config, output = directory / "rsyslog.conf", directory / "rsyslog.log"
    config.write_text(
        f"""global(workDirectory="{directory}")
module(load="imfile" mode="polling" pollingInterval="1")
input(type="imfile" File="{log}" Tag="esker:" freshStartTail="off")
include(file="{rules}")
"""
    )
    command = [
        program("rsyslogd", home, "usr/sbin"),
        "-n",
        "-f",
        config,
        "-i",
        directory / "rsyslog.pid",
        "-M",
        modules,
    ]
    with output.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=libraries(home))
    try:
        yield output
    finally:
        stop(process)
