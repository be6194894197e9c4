"""Measures many clients that append to one table, with their default retries and without.

Run `benches/appenders.py ESKER [CLIENTS…]`; CLIENTS are 1, 2, 8 and 32. SECONDS=20 says for how long they append, and
PEERS="sqlite no-turns" which catalogs are measured (`benches/peers.py` lists them). Each client is a process that
appends one row at a time in a loop: of PyIceberg, and of DuckDB for DuckLake. All begin at the same time, after they
have loaded the table.

Esker is also measured with `commit.merge = append`, without retries, and with each client on a table of its own.

- `succeeded` is the part of the appends that did not raise, and `a second` the number of those in a second.
- `slowest` is the longest append that succeeded, in seconds.
- `fewest` is the smallest number of appends of one client: nobody starves.
- `lost` is the number of appends that succeeded and whose rows are not in the table.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, RESTError

NAMESPACE = "appenders"
NO_RETRIES = {"commit.retry.num-retries": "0"}
MERGED = {"esker.commit.merge": "append"}
# The bars of Esker: the least part that succeeds with turns, and the least rate on one table beside as many tables.
SUCCEEDED, BESIDE_OWN_TABLES = 0.99, 0.8


def client() -> None:
    """Runs one client: reads its settings, says that it is ready, and appends once it is told for how long."""
    # PyIceberg warns of each retry.
    logging.disable(logging.WARNING)
    settings = json.loads(sys.stdin.readline())
    table = load_catalog("bench", **settings["properties"]).load_table(settings["table"])
    rows = pa.table({"id": pa.array([1], pa.int64())})
    print("ready", flush=True)
    seconds = float(sys.stdin.readline())
    succeeded, failed, slowest = 0, 0, 0.0
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        try:
            table.append(rows)
            succeeded += 1
            slowest = max(slowest, time.monotonic() - begun)
        except (CommitFailedException, RESTError):
            failed += 1
            with suppress(RESTError):
                table.refresh()
    print(json.dumps({"succeeded": succeeded, "failed": failed, "slowest": slowest}), flush=True)


def run(command: list, settings: list[dict], seconds: float) -> list[dict]:
    """Runs a client with each of the settings. Returns what each of them counted."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in settings]

    def tell(process: subprocess.Popen, line: str) -> None:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()

    for process, own in zip(processes, settings, strict=True):
        tell(process, json.dumps(own))
    for process in processes:
        assert process.stdout.readline() == "ready\n", "a client could not load the table"
    for process in processes:
        tell(process, str(seconds))
    counted = [json.loads(process.stdout.readline()) for process in processes]
    for process in processes:
        process.wait()
    return counted


@dataclass
class Mode:
    """How clients append."""

    name: str
    # The properties of the table, by which PyIceberg retries or not.
    properties: dict[str, str]
    # Each client has a table of its own.
    own_tables: bool = False

    @property
    def retries(self) -> bool:
        return not NO_RETRIES.items() <= self.properties.items()


MODES = [Mode("default retries", {}), Mode("no retries", NO_RETRIES)]
MERGES = [Mode("merged, no retries", NO_RETRIES | MERGED), Mode("own tables", NO_RETRIES | MERGED, own_tables=True)]


def rows_of(catalog: Catalog, table: str) -> int:
    """Returns the number of rows in a table, as its snapshot counts them."""
    snapshot = catalog.load_table(table).current_snapshot()
    return int(snapshot.summary["total-records"]) if snapshot else 0


def append(peer, mode: Mode, clients: int, seconds: float) -> tuple[list[dict], int]:
    """Lets clients append to new tables. Returns what each of them counted, and the number of rows that are there."""
    # Imported here, because the clients need none of it.
    from peers import ROOT, of_lake

    names = [f"t{mode.name.replace(', ', '_').replace(' ', '_')}_{clients}"]
    if mode.own_tables:
        names = [f"{names[0]}_{n}" for n in range(clients)]
    of_client = [names[n % len(names)] for n in range(clients)]
    if peer.lake:
        of_lake(peer, "create", table=names[0])
        command = [peer.python, ROOT / "benches" / "ducklake" / "client.py"]
        settings = [peer.lake | {"retries": mode.retries, "table": table} for table in of_client]
        counted = run(command, settings, seconds)
        return counted, int(of_lake(peer, "rows", table=names[0]))
    catalog = load_catalog("bench", **peer.pyiceberg())
    catalog.create_namespace_if_not_exists(NAMESPACE)
    for table in names:
        catalog.create_table(f"{NAMESPACE}.{table}", pa.schema([("id", pa.int64())]), properties=mode.properties)
    command = [sys.executable, __file__, "--client"]
    settings = [{"properties": peer.pyiceberg(), "table": f"{NAMESPACE}.{table}"} for table in of_client]
    counted = run(command, settings, seconds)
    return counted, sum(rows_of(catalog, f"{NAMESPACE}.{table}") for table in names)


def heading() -> None:
    columns = f"{'clients':>8}{'succeeded':>11}{'a second':>10}{'slowest':>9}{'fewest':>8}{'lost':>6}"
    print(f"{'':11}{'':20}{columns}")


def measure(peer, numbers: list[int], seconds: float) -> list[dict]:
    """Measures a catalog in all its modes. Prints and returns one row for each mode and number of clients."""
    found = []
    for mode in MODES + (MERGES if peer.name in ("sqlite", "postgres") else []):
        for clients in numbers:
            counted, there = append(peer, mode, clients, seconds)
            succeeded, failed = (sum(count[key] for count in counted) for key in ("succeeded", "failed"))
            row = {
                "peer": peer.name,
                "mode": mode.name,
                "clients": clients,
                "succeeded": succeeded / max(succeeded + failed, 1),
                "a_second": succeeded / seconds,
                "slowest": max(count["slowest"] for count in counted),
                "fewest": min(count["succeeded"] for count in counted),
                "lost": max(succeeded - there, 0),
            }
            figures = f"{row['succeeded']:11.1%}{row['a_second']:10.1f}{row['slowest']:8.1f}s"
            counts = f"{row['fewest']:8}{row['lost']:6}"
            print(f"{peer.name:11}{mode.name:20}{clients:8}{figures}{counts}", flush=True)
            found.append(row)
    return found


def bars(rows: list[dict]) -> list[tuple[str, float, float]]:
    """Returns the bars of Esker, each as what it is of, the figure that was measured, and the least that it may be."""
    most = max((row["clients"] for row in rows), default=0)
    found = []
    for peer in ("sqlite", "postgres"):
        of = {row["mode"]: row for row in rows if row["peer"] == peer and row["clients"] == most}
        if not of:
            continue
        turns, merged, own = (of[mode] for mode in ("default retries", "merged, no retries", "own tables"))
        found.append((f"{peer}: part that succeeds with turns, {most} clients", turns["succeeded"], SUCCEEDED))
        found.append((f"{peer}: part that succeeds merged without retries", merged["succeeded"], 1.0))
        beside = merged["a_second"] / max(own["a_second"], 0.01)
        found.append((f"{peer}: rate on one table beside {most} tables", beside, BESIDE_OWN_TABLES))
        lost = sum(row["lost"] for row in rows if row["peer"] == peer)
        found.append((f"{peer}: appends that were lost (0 is the bar)", -lost, 0))
    return found


def judge(checked: list[tuple[str, float, float]]) -> bool:
    """Prints figures beside their bars. Returns whether all are reached."""
    reached = True
    for what, figure, least in checked:
        reached &= figure >= least
        print(f"{what:<60}{figure:9.3f}    bar {least:g}{'' if figure >= least else '    MISSED'}", flush=True)
    return reached


def main() -> None:
    from peers import started
    from stack.minio import running_minio

    binary, numbers = sys.argv[1], [int(n) for n in sys.argv[2:]] or [1, 2, 8, 32]
    seconds = float(os.environ.get("SECONDS", "20"))
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="esker-bench-") as path:
        directory = Path(path)
        with running_minio(directory / "minio") as minio:
            heading()
            for name in os.environ.get("PEERS", "sqlite no-turns").split():
                with started(name, directory, minio, binary) as peer:
                    if peer:
                        rows += measure(peer, numbers, seconds)
    if not judge(bars(rows)):
        sys.exit("a bar is missed")


if __name__ == "__main__":
    if sys.argv[1:] == ["--client"]:
        client()
    else:
        main()
