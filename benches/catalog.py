"""Measures Esker beside other catalogs in one run: on one machine, over one MinIO, with state that is on disk.

Run `benches/catalog.py ESKER LIGHT [CLIENTS…]`, where LIGHT is the built `benches/src/light.rs`.

PEERS="sqlite postgres reference nessie rustberg ducklake" are the catalogs, which `benches/peers.py` describes;
`before` is one more, another build of Esker. PARTS="tables appenders light static" is what is measured, and SECONDS=20
the time for which clients commit.

- tables: one client creates tables, commits to each, and loads them, by HTTP. Medians in milliseconds, and the server's
  CPU time of a load. Of DuckLake, a commit is an insert of one row, and nothing is loaded.
- appenders: `benches/appenders.py`, which has the bars of one table.
- light: commits a second to one table with `commit.merge = append`, by clients that write their own manifests, and the
  latency of a single client. The bar is 100 a second.
- static: the server's CPU time of a load of Esker, beside that of the same bytes served by the same HTTP stack, by
  turns: the median of the ratios, with an interval that contains it in at least 97 of 100 cases. The bar is 1.3.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import appenders
from measure import interval, processor_seconds
from peers import Peer, of_lake, started
from pyiceberg.exceptions import RESTError
from stack.minio import BUCKET, KEY, REGION, SECRET, Minio, running_minio

TABLES, LOADS, ROUNDS = 100, 5000, 12
WRITERS = 32
LIGHT_BAR, STATIC_BAR = 100, 1.3
COLUMNS = [{"id": i, "name": f"c{i}", "required": False, "type": "long"} for i in range(1, 21)]
SCHEMA = {"type": "struct", "schema-id": 0, "fields": COLUMNS}
Judged = list[tuple[str, float, float]]


class Client:
    """One connection to a server."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self.connection = http.client.HTTPConnection(address)
        self.headers = headers

    def ask(self, method: str, path: str, body: dict | None = None) -> bytes:
        """Sends a request that succeeds. Returns the body of the answer."""
        headers = self.headers | ({"content-type": "application/json"} if body else {})
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text[:500]!r}"
        return text


def client_of(peer: Peer) -> Client:
    return Client(peer.uri.partition("://")[2].partition("/")[0], peer.headers())


def median_ms(work: Callable[[int], object], times: int) -> float:
    """Returns the median duration of some calls in milliseconds."""
    taken = []
    for n in range(times):
        begun = time.perf_counter()
        work(n)
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


def tables(peer: Peer) -> dict:
    """Measures creates, commits and loads of many tables. Prints a line."""
    if peer.lake:
        found = json.loads(of_lake(peer, "many", str(TABLES)))
    else:
        client, namespaces = client_of(peer), peer.path("namespaces")
        client.ask("POST", namespaces, {"namespace": ["many"]})
        of_many = f"{namespaces}/many/tables"
        update = {"action": "set-properties", "updates": {"a": "b"}}
        create = median_ms(lambda n: client.ask("POST", of_many, {"name": f"t{n}", "schema": SCHEMA}), TABLES)
        commit = median_ms(
            lambda n: client.ask("POST", f"{of_many}/t{n}", {"requirements": [], "updates": [update]}), TABLES
        )

        def load(n: int) -> bytes:
            return client.ask("GET", f"{of_many}/t{n % TABLES}")

        # A Java server compiles what it does often.
        median_ms(load, LOADS)
        before = processor_seconds(peer.process)
        loaded = median_ms(load, LOADS)
        spent = (processor_seconds(peer.process) - before) / LOADS
        found = {"create_ms": create, "commit_ms": commit, "load_ms": loaded, "load_cpu_us": spent * 1e6}
    cells = [f"{found[key]:12.2f}" if key in found else f"{'-':>12}" for key in COLUMNS_OF_TABLES]
    print(f"{peer.name:11}{''.join(cells)}", flush=True)
    return {"peer": peer.name} | found


COLUMNS_OF_TABLES = ["create_ms", "commit_ms", "load_ms", "load_cpu_us"]


def light(peer: Peer, binary: str, seconds: float) -> tuple[list[dict], Judged]:
    """Measures commits of clients that write their own manifests: many, and one alone."""
    env = os.environ | {
        "LIGHT_URL": peer.uri,
        "LIGHT_TOKEN": peer.token,
        "LIGHT_ENDPOINT": peer.store,
        "LIGHT_ACCESS_KEY_ID": KEY,
        "LIGHT_SECRET_ACCESS_KEY": SECRET,
        "LIGHT_REGION": REGION,
    }
    found = []
    for writers in (1, WRITERS):
        command = [binary, "commits", peer.warehouse, f"light{writers}", str(writers), str(seconds)]
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        one = {"peer": peer.name} | json.loads(done.stdout)
        quarters = " ".join(f"{rate:.0f}" for rate in one["quarters"])
        print(
            f"{peer.name:11}{writers:4} writers {one['a_second']:8.1f} commits a second (by quarters {quarters}), "
            f"{one['refused']} refused; a commit takes {one['p50_ms']:.1f} ms p50, {one['p99_ms']:.1f} ms p99",
            flush=True,
        )
        found.append(one)
    return found, [(f"{peer.name}: commits a second, {WRITERS} light writers", found[-1]["a_second"], LIGHT_BAR)]


@contextmanager
def static(binary: str, body: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """Serves a file at every path, by the HTTP stack of Esker. Yields the address and the process."""
    process = subprocess.Popen([binary, "static", str(body)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()


def beside_static(peer: Peer, binary: str, directory: Path) -> tuple[dict, Judged]:
    """Measures the CPU time of loads beside that of the same bytes from memory, by turns."""
    client, namespaces = client_of(peer), peer.path("namespaces")
    client.ask("POST", namespaces, {"namespace": ["static"]})
    client.ask("POST", f"{namespaces}/static/tables", {"name": "t", "schema": SCHEMA})
    path = f"{namespaces}/static/tables/t"
    body = directory / "loaded.json"
    body.write_bytes(client.ask("GET", path))
    with static(binary, body) as (address, process):
        sides = ((Client(address, peer.headers()), process), (client, peer.process))
        assert sides[0][0].ask("GET", path) == body.read_bytes()

        def cpu_us(side: int) -> float:
            asking, served_by = sides[side]
            before = processor_seconds(served_by)
            for _ in range(LOADS):
                asking.ask("GET", path)
            return (processor_seconds(served_by) - before) / LOADS * 1e6

        pairs = []
        for n in range(ROUNDS + 1):
            order = (0, 1) if n % 2 == 0 else (1, 0)
            taken = {side: cpu_us(side) for side in order}
            pairs.append((taken[0], taken[1]))
    pairs = pairs[1:]  # the first round warms both
    ratios = [esker / bytes_alone for bytes_alone, esker in pairs]
    ratio, (low, high) = statistics.median(ratios), interval(ratios)
    of_bytes, of_esker = (statistics.median(column) for column in zip(*pairs, strict=True))
    size = body.stat().st_size
    print(
        f"{peer.name:11}loadTable {of_esker:.0f} µs CPU, the same {size:,} bytes alone {of_bytes:.0f} µs: "
        f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
        flush=True,
    )
    found = {"peer": peer.name, "esker_us": of_esker, "static_us": of_bytes, "ratio": ratio, "low": low, "high": high}
    # A ratio is the better the smaller it is.
    return found, [(f"{peer.name}: {STATIC_BAR} / CPU of a load beside its bytes alone", STATIC_BAR / ratio, 1)]


def measure(names: list[str], parts: list[str], directory: Path, minio: Minio, numbers: list[int]) -> Judged:
    """Measures all parts. Writes target/bench/catalog.json, and returns the bars."""
    binary, program = str(Path(sys.argv[1]).absolute()), str(Path(sys.argv[2]).absolute())
    seconds = float(os.environ.get("SECONDS", "20"))
    result: dict[str, list] = {part: [] for part in parts}
    judged: Judged = []
    headings = {
        "tables": lambda: print(f"{'':11}" + "".join(f"{name:>12}" for name in COLUMNS_OF_TABLES), flush=True),
        "appenders": appenders.heading,
    }
    for part in parts:
        print(f"\n{part}", flush=True)
        headings.get(part, lambda: None)()
        for name in names:
            if part in ("light", "static") and name not in ("sqlite", "postgres", "before"):
                continue
            with started(name, directory, minio, binary) as peer:
                if peer is None:
                    continue
                try:
                    match part:
                        case "tables":
                            result[part].append(tables(peer))
                        case "appenders":
                            result[part] += appenders.measure(peer, numbers, seconds)
                        case "light":
                            found, bars = light(peer, program, seconds)
                            result[part] += found
                            judged += [] if name == "before" else bars
                        case "static":
                            found, bars = beside_static(peer, program, directory)
                            result[part].append(found)
                            judged += [] if name == "before" else bars
                except (AssertionError, OSError, ValueError, RESTError, subprocess.SubprocessError) as error:
                    if peer.is_esker:
                        raise
                    print(f"{name} is left out of {part}: {error}", flush=True)
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "catalog.json").write_text(json.dumps(result, indent=1))
    return appenders.bars(result.get("appenders", [])) + judged


def main() -> None:
    numbers = [int(n) for n in sys.argv[3:]] or [1, 2, 8, 32]
    names = os.environ.get("PEERS", "sqlite postgres reference nessie rustberg ducklake").split()
    parts = os.environ.get("PARTS", "tables appenders light static").split()
    with tempfile.TemporaryDirectory(prefix="esker-bench-") as path:
        directory = Path(path)
        with running_minio(directory / "minio") as minio:
            print(f"bucket {BUCKET}, state on disk; medians of {TABLES} tables and {LOADS:,} loads")
            judged = measure(names, parts, directory, minio, numbers)
    print()
    if not appenders.judge(judged):
        sys.exit("a bar is missed")


if __name__ == "__main__":
    main()
