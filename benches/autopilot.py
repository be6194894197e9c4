# ruff: noqa: E501
"""The autopilot on twenty tables under streaming writes: Flink upserts into six, Spark streams into four, PyIceberg appends to ten.

Run `benches/autopilot.py ESKER`. SECONDS is the duration of the writes (180). Trino and DuckDB report the files that a query opens,
during the run and again after all tables were compacted. Prints a table, and writes target/bench/autopilot.json and the curve
docs/images/autopilot.svg, or the path in CURVE.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "engines"))

from stack import tpch  # noqa: E402
from stack.esker import Server, running  # noqa: E402
from stack.flink import Flink  # noqa: E402
from stack.spark import spark_session  # noqa: E402
from stack.trino import running_trino  # noqa: E402

SECONDS = int(os.environ.get("SECONDS", "180"))
CURVE = Path(os.environ.get("CURVE", ROOT / "docs" / "images" / "autopilot.svg"))
UPSERTS, STREAMS, APPENDS = 6, 4, 10
# Files are small, so that twenty tables fit. Only their number matters.
TARGET, BASE_FILES, BASE_ROWS = 64 << 10, 40, 4096
KEYS, UPSERT_RATE, STREAM_RATE, APPEND_SECONDS = 2000, 100, 50, 2.0
BAR = 2.0
SETTINGS = {
    "ESKER__POLICY__AUTOPILOT": "true",
    "ESKER__POLICY__ORPHANS__SCHEDULE": "",
    "ESKER__POLICY__BUDGET__BYTES": "20GiB",
    "ESKER__MAINTENANCE__AUTOPILOT_SECONDS": "5",
}
NAMES = [f"u{i}" for i in range(UPSERTS)] + [f"s{i}" for i in range(STREAMS)] + [f"a{i}" for i in range(APPENDS)]


def fill(server: Server) -> None:
    """Gives every table forty files of the target size."""
    catalog = server.catalog()
    chance = random.Random(7)

    def one(name: str) -> None:
        table = catalog.load_table(f"mess.{name}")
        for part in range(BASE_FILES):
            ids = range(10**9 + part * BASE_ROWS, 10**9 + (part + 1) * BASE_ROWS)
            numbers = [chance.getrandbits(62) for _ in ids]
            table.append(pa.table({"id": list(ids), "n": numbers}, schema=table.schema().as_arrow()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, NAMES))


class Writers:
    """All writers, which run at the same time. A commit counts as failed if the client's own retries failed too."""

    def __init__(self, server: Server, flink: Flink, directory: Path) -> None:
        self.server, self.flink, self.directory = server, flink, directory
        self.failed: list[str] = []
        self.appended = dict.fromkeys(NAMES, 0)
        self.until = time.monotonic() + SECONDS

    def note(self, what: str, work) -> None:
        try:
            work()
        except Exception as error:
            self.failed.append(f"{what}: {str(error)[:300]}")

    def run(self, spark) -> None:
        threads = [threading.Thread(target=self.note, args=("flink", self.upsert))]
        threads += [threading.Thread(target=self.append, args=(f"a{i}",)) for i in range(APPENDS)]
        for thread in threads:
            thread.start()
        self.note("spark", lambda: self.stream(spark))
        for thread in threads:
            thread.join()

    def upsert(self) -> None:
        last = SECONDS * UPSERT_RATE - 1
        source = "default_catalog.default_database.src"
        inserts = " ".join(
            f"INSERT INTO `default`.mess.u{i} SELECT MOD(n, {KEYS}), n FROM {source};" for i in range(UPSERTS)
        )
        self.flink.run(
            f"CREATE TEMPORARY TABLE {source} (n BIGINT) WITH ('connector'='datagen', 'rows-per-second'='{UPSERT_RATE}', "
            f"'fields.n.kind'='sequence', 'fields.n.start'='0', 'fields.n.end'='{last}');\n"
            f"EXECUTE STATEMENT SET BEGIN {inserts} END;\n"
        )

    def stream(self, spark) -> None:
        queries = []
        for i in range(STREAMS):
            rows = spark.readStream.format("rate").option("rowsPerSecond", STREAM_RATE).load()
            writer = rows.selectExpr("value AS id", "value AS n").writeStream.format("iceberg").outputMode("append")
            writer = writer.trigger(processingTime="3 seconds").option(
                "checkpointLocation", str(self.directory / f"s{i}")
            )
            queries.append(writer.toTable(f"default.mess.s{i}"))
        while time.monotonic() < self.until and not any(query.exception() for query in queries):
            time.sleep(1)
        for query in queries:
            if query.exception():
                self.failed.append(f"spark: {str(query.exception())[:300]}")
            query.stop()

    def append(self, name: str) -> None:
        catalog = self.server.catalog()
        while time.monotonic() < self.until:
            at = self.appended[name]
            rows = pa.table({"id": list(range(at, at + 10)), "n": [at] * 10})

            def once(rows=rows) -> None:
                table = catalog.load_table(f"mess.{name}")
                table.append(rows.cast(table.schema().as_arrow()))

            before = len(self.failed)
            self.note(name, once)
            self.appended[name] += 10 if len(self.failed) == before else 0
            time.sleep(APPEND_SECONDS * random.uniform(0.7, 1.3))


class DuckDb:
    def __init__(self, server: Server, home: Path) -> None:
        self.connection = duckdb.connect(config={"home_directory": str(home), "threads": 1})
        for name in ("avro", "httpfs", "iceberg"):
            self.connection.load_extension(tpch.extension(name))
        self.connection.execute(f"CREATE SECRET esker (TYPE iceberg, TOKEN '{server.token}')")
        self.connection.execute(
            f"ATTACH 'default' AS lake (TYPE iceberg, SECRET esker, ENDPOINT '{server.rest}', ACCESS_DELEGATION_MODE 'none')"
        )

    def opened(self, table: str) -> int:
        plan = self.connection.execute(f"EXPLAIN ANALYZE SELECT sum(n) FROM lake.mess.{table}").fetchall()
        found = re.findall(r"Total Files Read: (\d+)", str(plan))
        return sum(map(int, found))


def by_trino(trino, table: str) -> int:
    """Returns the number of files that a scan by Trino opens."""
    return trino.ask(f'SELECT count(*) FROM (SELECT DISTINCT "$path" FROM mess.{table})')[0][0]


def sample(duck: DuckDb, trino) -> dict[str, list[int]]:
    return {name: [duck.opened(name), by_trino(trino, name)] for name in NAMES}


def curve(points: list[tuple[float, float, float]], jobs: int) -> str:
    """Draws the files opened per query, relative to compacted tables, over the seconds, as SVG."""
    width, height, most = 720, 260, max(2.5, *(max(a, b) for _, a, b in points))
    end = max(seconds for seconds, *_ in points)

    def line(which: int, colour: str) -> str:
        at = [
            f"{50 + p[0] / end * (width - 70):.1f},{height - 30 - p[which] / most * (height - 60):.1f}" for p in points
        ]
        return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(at)}"/>'

    level = height - 30 - BAR / most * (height - 60)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fbfaf8"/>
<text x="50" y="18">Files opened per query, in multiples of freshly compacted: 20 tables, {jobs} jobs of the autopilot</text>
<line x1="50" x2="{width - 20}" y1="{level:.1f}" y2="{level:.1f}" stroke="#b3261e" stroke-dasharray="4"/>
<text x="18" y="{level + 4:.1f}">2x</text><text x="18" y="{height - 30 - (height - 60) / most + 4:.1f}">1x</text>
<line x1="50" x2="{width - 20}" y1="{height - 30}" y2="{height - 30}" stroke="#5c6670"/>
<text x="50" y="{height - 12}">0 s</text><text x="{width - 60}" y="{height - 12}">{end:.0f} s</text>
{line(1, "#1f5fa8")}<text x="{width - 180}" y="40" fill="#1f5fa8">DuckDB</text>
{line(2, "#8a5b00")}<text x="{width - 110}" y="40" fill="#8a5b00">Trino</text>
</svg>
"""


def main(esker: str) -> None:
    os.environ["ESKER_BIN"] = esker
    directory = Path(tempfile.mkdtemp(prefix="esker-bench-"))
    for name in ("trino", "duck", "flink", "spark"):
        (directory / name).mkdir()
    with (
        # The stacks of Flink and Trino expect a warehouse of this name too.
        running(directory, **SETTINGS, ESKER__WAREHOUSES__MINIO__LOCATION=f"file://{directory}/other") as server,
        running_trino(directory / "trino", server, "http://127.0.0.1:1") as trino,
    ):
        flink = Flink(server, directory / "flink")
        spark = spark_session(server, "http://127.0.0.1:1")
        server.catalog().create_namespace("mess")
        sized = f"'write.target-file-size-bytes'='{TARGET}'"
        flink.run("".join(
            f"CREATE TABLE `default`.mess.u{i} (id BIGINT NOT NULL, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH "
            f"('format-version'='2', 'write.upsert.enabled'='true', {sized});\n"
            for i in range(UPSERTS)
        ))  # fmt: skip
        for name in NAMES[UPSERTS:]:
            spark.sql(f"CREATE TABLE default.mess.{name} (id bigint, n bigint) USING iceberg TBLPROPERTIES ({sized})")
        fill(server)
        duck = DuckDb(server, directory / "duck")
        writers = Writers(server, flink, directory / "spark")
        began = time.monotonic()
        writing = threading.Thread(target=writers.run, args=(spark,))
        writing.start()
        samples = []
        while writing.is_alive():
            samples.append((time.monotonic() - began, sample(duck, trino)))
            writing.join(10)
        spark.stop()
        jobs = server.api("GET", "/api/v1/jobs?limit=1000")
        unfinished = [job for job in jobs if job["state"] not in ("succeeded", "queued", "running")]
        for name in NAMES:  # compacted tables are what the run is compared with
            server.maintain(f"mess.{name}", "compact", {"strategy": "convert-deletes", "courtesy-seconds": 0})
            server.maintain(
                f"mess.{name}", "compact", {"min-input-files": 2, "delete-file-threshold": 1, "courtesy-seconds": 0}
            )
        fresh = sample(duck, trino)
        points = [
            (seconds, *(statistics.mean(found[n][i] / fresh[n][i] for n in NAMES) for i in (0, 1)))
            for seconds, found in samples
        ]
        worst = max(max(a, b) for _, a, b in points)
        rows = {n: server.sql(f"SELECT count(*), count(DISTINCT id) FROM mess.{n}")[0] for n in NAMES}
    base = BASE_FILES * BASE_ROWS
    wrong = [n for n in NAMES if n[0] == "u" and rows[n] != (base + KEYS, base + KEYS)]
    wrong += [n for n in NAMES if n[0] == "a" and rows[n][0] != base + writers.appended[n]]
    assert not wrong, f"rows are missing or too many: { {n: rows[n] for n in wrong} }"
    CURVE.write_text(curve(points, len(jobs)))
    for seconds, a, b in points:
        print(f"{seconds:6.0f} s   DuckDB {a:5.2f}x   Trino {b:5.2f}x")
    by_kind = {kind: sum(job["kind"] == kind for job in jobs) for kind in {job["kind"] for job in jobs}}
    print(f"jobs: {by_kind}, not succeeded: {[(j['kind'], j['table'], j['error']) for j in unfinished]}")
    print(f"commits that failed: {len(writers.failed)} {writers.failed[:3]}")
    results = [
        {
            "name": "files opened per query beside freshly compacted, worst",
            "value": worst,
            "unit": "x",
            "bar": BAR,
            "holds": worst <= BAR,
        },
        {"name": "failed commits", "value": len(writers.failed), "unit": "", "bar": 0, "holds": not writers.failed},
    ]
    for result in results:
        print(
            f"{result['name']}: {result['value']:.2f} (bar {result['bar']}) {'holds' if result['holds'] else 'MISSED'}"
        )
    out = ROOT / "target" / "bench" / "autopilot.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seconds": SECONDS, "points": points, "jobs": by_kind, "results": results}, indent=1))


main(sys.argv[1])
