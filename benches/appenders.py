"""Measures many PyIceberg clients that append to one table, with default retries.

Run `benches/appenders.py ESKER [CLIENTS…]`; CLIENTS are 1, 2, 8 and 32. SECONDS=20 says for how long they append. Each
client is a process that appends one row at a time in a loop. All begin at the same time, after they have loaded the
table. Each number of clients runs with late commits taking turns (the default), and without turns
(`commit.turn_ms = 0`).

- `succeeded` is the part of the appends that did not raise, and `a second` the number of those in a second. The bar for
  32 clients with turns is 99 %.
- `slowest` is the longest append that succeeded, in seconds.
- `fewest` is the smallest number of appends of one client: nobody starves.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException

BAR = 0.99
TABLE = "n.t"
# The server does nothing beside the requests.
QUIET = {"ESKER__MAINTENANCE__AUTOPILOT_SECONDS": "0", "ESKER__MAINTENANCE__JOBS": "0"}


def client() -> None:
    """Runs one client: reads its catalog, says that it is ready, and appends once it is told for how long."""
    # PyIceberg warns of each retry.
    logging.disable(logging.WARNING)
    catalog = load_catalog("esker", **json.loads(sys.stdin.readline()))
    table, rows = catalog.load_table(TABLE), pa.table({"id": pa.array([1], pa.int64())})
    print("ready", flush=True)
    seconds = float(sys.stdin.readline())
    succeeded, failed, slowest = 0, 0, 0.0
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        try:
            table.append(rows)
            succeeded += 1
            slowest = max(slowest, time.monotonic() - begun)
        except CommitFailedException:
            failed += 1
            table.refresh()
    print(json.dumps({"succeeded": succeeded, "failed": failed, "slowest": slowest}), flush=True)


def run(rest: str, token: str, clients: int, seconds: float) -> list[dict]:
    """Lets clients append to a new table. Returns what each of them counted."""
    properties = {"type": "rest", "uri": rest, "token": token, "warehouse": "default"}
    catalog = load_catalog("esker", **properties)
    catalog.create_namespace_if_not_exists("n")
    if catalog.table_exists(TABLE):
        catalog.drop_table(TABLE)
    catalog.create_table(TABLE, pa.schema([("id", pa.int64())]))
    command = [sys.executable, __file__, "--client"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(clients)]

    def tell(line: str) -> None:
        for process in processes:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    tell(json.dumps(properties))
    for process in processes:
        assert process.stdout.readline() == "ready\n", "a client could not load the table"
    tell(str(seconds))
    counted = [json.loads(process.stdout.readline()) for process in processes]
    for process in processes:
        process.wait()
    return counted


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engines"))
    from stack.esker import running

    binary, numbers = sys.argv[1], [int(n) for n in sys.argv[2:]] or [1, 2, 8, 32]
    seconds, missed = float(os.environ.get("SECONDS", "20")), False
    print(f"{'':14}{'clients':>8}{'succeeded':>11}{'a second':>10}{'slowest':>9}{'fewest':>8}")
    for name, turns in (("turns", {}), ("without turns", {"ESKER__COMMIT__TURN_MS": "0"})):
        for clients in numbers:
            with (
                tempfile.TemporaryDirectory() as directory,
                running(Path(directory), binary, **QUIET, **turns) as server,
            ):
                counted = run(server.rest, server.token, clients, seconds)
            succeeded, failed = (sum(count[key] for count in counted) for key in ("succeeded", "failed"))
            share, fewest = succeeded / (succeeded + failed), min(count["succeeded"] for count in counted)
            slowest = max(count["slowest"] for count in counted)
            print(
                f"{name:14}{clients:8}{share:11.1%}{succeeded / seconds:10.1f}{slowest:8.1f}s{fewest:8}", flush=True
            )
            missed |= name == "turns" and share < BAR
    if missed:
        sys.exit(f"fewer than {BAR:.0%} of the appends succeeded with turns")


if __name__ == "__main__":
    if sys.argv[1:] == ["--client"]:
        client()
    else:
        main()
