"""Measures the server: start-up until the first answer, idle memory, and loadTable latency with one client."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PORT = 18181
LOADS = 3000
COLUMNS = [{"id": i, "name": f"c{i}", "required": False, "type": "long"} for i in range(1, 21)]
SCHEMA = {"type": "struct", "fields": COLUMNS}


def call(connection: http.client.HTTPConnection, method: str, path: str, body: dict | None = None) -> bytes:
    connection.request(method, path, json.dumps(body) if body else None)
    response = connection.getresponse()
    text = response.read()
    assert response.status < 300, text
    return text


def main() -> None:
    binary = Path(sys.argv[1])
    env = os.environ | {
        "ESKER__AUTH__ANONYMOUS": "true",
        "ESKER__SERVER__REST_PORT": str(PORT),
        "ESKER__SERVER__FLIGHT_PORT": "0",
    }
    with tempfile.TemporaryDirectory() as directory:
        command = [binary, "serve", "--data-dir", directory]
        starts = []
        for _ in range(4):  # the first start creates the database
            started = time.perf_counter()
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while True:
                try:
                    call(http.client.HTTPConnection("127.0.0.1", PORT), "GET", "/v1/config")
                    break
                except OSError:
                    time.sleep(0.001)
            starts.append(time.perf_counter() - started)
            if len(starts) < 4:
                process.terminate()
                process.wait()
        status = Path(f"/proc/{process.pid}/status").read_text()
        idle = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        call(connection, "POST", "/v1/default/namespaces", {"namespace": ["n"]})
        call(connection, "POST", "/v1/default/namespaces/n/tables", {"name": "t", "schema": SCHEMA})
        times = []
        for _ in range(LOADS):
            begun = time.perf_counter()
            call(connection, "GET", "/v1/default/namespaces/n/tables/t")
            times.append(time.perf_counter() - begun)
        process.terminate()
        process.wait()
    times.sort()
    print(f"binary                      {binary.stat().st_size / 1e6:8.1f} MB")
    print(f"first start                 {starts[0] * 1000:8.1f} ms to the first answer")
    print(f"later starts, median        {statistics.median(starts[1:]) * 1000:8.1f} ms")
    print(f"idle memory                 {int(idle) / 1024:8.1f} MiB")
    print(f"loadTable p50, one client   {times[LOADS // 2] * 1000:8.2f} ms")
    print(f"loadTable p99, one client   {times[LOADS * 99 // 100] * 1000:8.2f} ms")


if __name__ == "__main__":
    main()
