"""Compares queries over a MinIO warehouse with DuckDB and Trino: same catalog, same files, both cores, one at a time.

Run `benches/query.py ESKER [PART…]`. SCALE is TPC-H's scale factor, RUNS the number of runs of a hot query. Parts:
scans, tpch, deletes, lookups, within (fields of variants and bounding boxes of geometries, over WITHIN_ROWS rows).
Prints a table, and writes target/bench/query.json. A query whose answer differs from DuckDB's has no time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import duckdb
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engines"))

from stack import minio as store  # noqa: E402
from stack import tpch  # noqa: E402
from stack.esker import running  # noqa: E402
from stack.minio import running_minio  # noqa: E402
from stack.trino import running_trino  # noqa: E402

SCALE = float(os.environ.get("SCALE", "1"))
RUNS = int(os.environ.get("RUNS", "5"))
# Number of runs of a query on a table with deletes, and of those on the clean table between them.
PAIRS = 15
# Number of hot runs of a lookup, which takes milliseconds.
LOOKUPS = 15
TRINO_HEAP_MB = 6000
PEERS = os.environ.get("PEERS", "duckdb,parquet,trino").split(",")
WAREHOUSE, NAMESPACE = "minio", "tpch"
# Number of rows of the tables with variants and geometries.
WITHIN_ROWS = int(os.environ.get("WITHIN_ROWS", "5000000"))

SCANS = {
    "count": "SELECT count(*) FROM {t}lineitem",
    "min and max": "SELECT min(l_orderkey), max(l_shipdate) FROM {t}lineitem",
    "one column": "SELECT sum(l_quantity) FROM {t}lineitem",
    "all columns": "SELECT " + ", ".join(
        f"max({c})" for c in ["l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity", "l_extendedprice",
                              "l_discount", "l_tax", "l_returnflag", "l_linestatus", "l_shipdate", "l_commitdate",
                              "l_receiptdate", "l_shipinstruct", "l_shipmode", "l_comment"]) + " FROM {t}lineitem",
    "filter on text": "SELECT count(*) FROM {t}lineitem WHERE l_comment LIKE '%final deposits%'",
    "top 100": "SELECT l_orderkey, l_extendedprice FROM {t}lineitem ORDER BY 2 DESC, 1 LIMIT 100",
}  # fmt: skip
LOOKUP = "SELECT o_orderkey, o_custkey, o_totalprice, o_comment FROM {t}orders WHERE o_orderkey = {key}"


class Esker:
    def __init__(self, server) -> None:
        options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {server.token}"}
        self.connection = flight_sql.connect(server.flight, db_kwargs=options, autocommit=True)
        self.prefix = f"{WAREHOUSE}.{NAMESPACE}."

    def ask(self, sql: str) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()


class Duck:
    """DuckDB: its Iceberg extension on the catalog or, with `parquet`, its Parquet reader on the same files."""

    def __init__(self, server, minio, home: Path, parquet: bool) -> None:
        self.connection = duckdb.connect(config={"home_directory": str(home), "threads": 2})
        for name in ("avro", "httpfs", "iceberg", "spatial"):
            self.connection.load_extension(tpch.extension(name))
        self.connection.execute(
            f"CREATE SECRET lake (TYPE s3, KEY_ID '{store.KEY}', SECRET '{store.SECRET}', REGION '{store.REGION}', "
            f"ENDPOINT '{minio.endpoint.removeprefix('http://')}', URL_STYLE 'path', USE_SSL false)"
        )
        self.prefix = f"lake.{NAMESPACE}."
        if parquet:
            self.prefix = ""
            for name in tpch.TABLES:
                tasks = server.catalog(WAREHOUSE).load_table(f"{NAMESPACE}.{name}").scan().plan_files()
                files = [task.file.file_path for task in tasks]
                self.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files})")
            return
        self.connection.execute(f"CREATE SECRET esker (TYPE iceberg, TOKEN '{server.token}')")
        self.connection.execute(
            f"ATTACH '{WAREHOUSE}' AS lake (TYPE iceberg, SECRET esker, ENDPOINT '{server.rest}', "
            "ACCESS_DELEGATION_MODE 'none')"
        )
        self.connection.execute(f"USE lake.{NAMESPACE}")

    def ask(self, sql: str) -> list[tuple]:
        return self.connection.execute(sql).fetchall()


class Trino:
    prefix = f"{NAMESPACE}."

    def __init__(self, trino) -> None:
        self.trino = trino

    def ask(self, sql: str) -> list[tuple]:
        return self.trino.ask(sql, WAREHOUSE)


def timed(work: Callable[[], list[tuple]]) -> tuple[float, list[tuple]]:
    started = time.monotonic()
    rows = work()
    return time.monotonic() - started, rows


class Bench:
    def __init__(self, server, engines: dict, reference: duckdb.DuckDBPyConnection) -> None:
        self.server, self.engines, self.reference = server, engines, reference
        self.results: list[dict] = []

    def note(self, name: str, value: float, unit: str, bar: str = "", holds: bool | None = None) -> None:
        self.results.append({"name": name, "value": value, "unit": unit, "bar": bar, "holds": holds})
        verdict = "" if holds is None else ("  holds" if holds else "  MISSED")
        print(f"{name:<58} {value:>10.4f} {unit:<6} {bar}{verdict}", flush=True)

    def texts(self, sql: str) -> dict[str, str]:
        """Returns the statement for each engine, with its names of the tables."""
        return {name: tpch.qualified(sql, engine.prefix) for name, engine in self.engines.items()}

    def compare(
        self, what: str, sql: str, expected: list[tuple] | None, runs: int = RUNS
    ) -> dict[str, tuple[float, float]]:
        """Measures the cold and the median hot seconds of each engine whose answer is right."""
        times: dict[str, list[float]] = {}
        for name, text in self.texts(sql).items():
            ask = partial(self.engines[name].ask, text)
            try:
                seconds, rows = timed(ask)
            except Exception as error:
                print(f"  {what}: {name} failed: {str(error).splitlines()[0][:150]}")
                continue
            if expected is not None and not tpch.same(rows, expected):
                print(f"  {what}: {name} answers otherwise: {rows[:2]} for {expected[:2]}")
                continue
            # Not in turns: the cores would still do background work of the engine before.
            times[name] = [seconds, *(timed(ask)[0] for _ in range(runs))]
        found = {name: (t[0], statistics.median(t[1:])) for name, t in times.items()}
        line = "  ".join(f"{name} {cold * 1e3:7.1f} {hot * 1e3:7.1f}" for name, (cold, hot) in found.items())
        print(f"{what:<16} cold, hot ms: {line}", flush=True)
        for name, (cold, hot) in found.items():
            self.results.append({"name": f"{what}, {name}, cold", "value": cold, "unit": "s"})
            self.results.append({"name": f"{what}, {name}, hot", "value": hot, "unit": "s"})
        return found

    def ratios(self, what: str, all_times: list[dict[str, tuple[float, float]]]) -> None:
        for peer, hot, cold in [
            ("duckdb", ("<= 2, goal 1.2", lambda r: r <= 2), None),
            ("parquet", None, None),
            ("trino", (">= 4", lambda r: 1 / r >= 4), (">= 2", lambda r: 1 / r >= 2)),
        ]:
            for temperature, at, bar in (("hot", 1, hot), ("cold", 0, cold)):
                pairs = [t["esker"][at] / t[peer][at] for t in all_times if "esker" in t and peer in t]
                if not pairs:
                    continue
                ratio = statistics.median(pairs)
                shown = 1 / ratio if peer == "trino" else ratio
                text, holds = bar if bar else ("", None)
                how = "times faster than" if peer == "trino" else "time over"
                verdict = holds(ratio) if holds else None
                self.note(f"{what}: {temperature}, median {how} {peer} ({len(pairs)})", shown, "x", text, verdict)

    def tpch(self) -> None:
        found = []
        for number, sql in tpch.queries(self.reference):
            expected = self.reference.execute(sql).fetchall()
            found.append(self.compare(f"Q{number}", sql, expected))
        self.ratios(f"TPC-H SF{SCALE:g}", found)
        answered = sum("esker" in times for times in found)
        self.note("TPC-H queries answered as DuckDB does", answered, "of 22", "22", answered == 22)

    def scans(self) -> None:
        found = []
        for what, sql in SCANS.items():
            plain = sql.replace("{t}", "")
            found.append(self.compare(what, plain, self.reference.execute(plain).fetchall()))
        self.ratios("scans", found)
        newest = self.server.sql("SELECT sql, requests, bytes_cached FROM system.queries ORDER BY id DESC LIMIT 1")[0]
        self.note("requests of the last hot scan", newest[1], "", "0", newest[1] == 0)

    def lookups(self) -> None:
        keys = [row[0] for row in self.reference.execute("SELECT o_orderkey FROM orders USING SAMPLE 5").fetchall()]
        hot = self.look_up("lookup", keys)
        self.note("lookup, hot, in files without page indexes", hot * 1e3, "ms")
        # Esker must encode the rows: copied row groups would have no page index, because the source has none.
        options = {"rewrite-all": True, "splice": False}
        self.server.maintain(f"{NAMESPACE}.orders", "compact", options, WAREHOUSE)
        hot = self.look_up("compacted", keys)
        self.note("lookup, hot, once compacted", hot * 1e3, "ms", "< 10", hot < 0.01)

    def look_up(self, what: str, keys: list[int]) -> float:
        """Returns the median hot seconds of a lookup."""
        found = []
        for key in keys:
            sql = LOOKUP.format(t="", key=key)
            found.append(self.compare(f"{what} {key}", sql, self.reference.execute(sql).fetchall(), LOOKUPS))
        self.ratios(f"{what}s", found)
        return statistics.median(times["esker"][1] for times in found)

    def deletes(self) -> None:
        """Measures queries on a copy of lineitem with a tenth of the rows deleted by Trino, and on a clean copy."""
        trino = self.engines["trino"]
        for copy in ("clean", "deleted"):
            trino.ask(f"CREATE TABLE tpch.{copy} WITH (format_version = 2) AS SELECT * FROM tpch.lineitem")
        sums = "sum(l_quantity), sum(l_extendedprice * (1 - l_discount)), count(*)"
        sql = f"SELECT l_returnflag, {sums} FROM {{}} GROUP BY 1 ORDER BY 1"
        trino.ask("DELETE FROM tpch.deleted WHERE l_partkey % 10 = 3")
        rows = self.engines["esker"].ask(sql.format(f"{WAREHOUSE}.{NAMESPACE}.deleted"))
        expected = self.reference.execute(sql.format("(FROM lineitem WHERE l_partkey % 10 <> 3)")).fetchall()
        assert tpch.same(rows, expected), (rows, expected)
        ratio, deleted = self.beside_clean(sql, "deleted")
        self.note("position deletes on 10 % of rows over clean, hot", ratio, "x", "<= 1.3", ratio <= 1.3)
        theirs = statistics.median(
            timed(lambda: self.engines["duckdb"].ask(sql.format("lake.tpch.deleted")))[0] for _ in range(RUNS)
        )
        self.note("the same query on it, time over duckdb", deleted / theirs, "x")
        self.vectors(sql, expected)

    def within(self) -> None:
        """Measures filters on a field of shredded variants, which DuckDB writes, and on the places of points."""
        duck = self.engines["duckdb"].connection
        base = f"/v1/{WAREHOUSE}/namespaces/{NAMESPACE}/tables"
        for name, type in (("variants", "variant"), ("points", "geometry")):
            fields = [
                {"id": 1, "name": "id", "type": "long", "required": False},
                {"id": 2, "name": "v", "type": type, "required": False},
            ]
            schema = {"type": "struct", "fields": fields}
            body = {"name": name, "schema": schema, "properties": {"format-version": "3"}}
            self.server.api("POST", base, body)
        value = "{'a': i, 'b': 'text ' || (i * 7919) % 1000003, 'c': {'d': (i * 31) % 1000}}::VARIANT"
        duck.execute(f"INSERT INTO lake.tpch.variants SELECT i, {value} FROM range({WITHIN_ROWS}) t(i)")
        # The points follow a spiral, so that consecutive rows are near each other.
        esker, points = self.engines["esker"], f"{WAREHOUSE}.{NAMESPACE}.points"
        for start in range(0, WITHIN_ROWS, 500_000):
            rows = f"SELECT value AS i FROM generate_series({start}, {min(start + 500_000, WITHIN_ROWS) - 1})"
            place = "ST_Point(i / 1e5 * cos(i / 1e6), i / 1e5 * sin(i / 1e6))"
            esker.ask(f"INSERT INTO {points} SELECT i, {place} FROM ({rows})")
        half = WITHIN_ROWS // 2
        between = f"BETWEEN {half} AND {half + 999}"
        table = f"{WAREHOUSE}.{NAMESPACE}.variants"
        for what, ours, theirs in (
            (
                "a part of a variant, one row in 5,000",
                f"SELECT count(*), min(id) FROM {table} WHERE variant_get(v, '$.a', 'bigint') {between}",
                f"SELECT count(*), min(id) FROM lake.tpch.variants WHERE v.a::BIGINT {between}",
            ),
            (
                "a part of a variant, all row groups",
                f"SELECT count(*), sum(id) FROM {table} WHERE variant_get(v, '$.c.d', 'int') = 7",
                "SELECT count(*), sum(id) FROM lake.tpch.variants WHERE v.c.d::INT = 7",
            ),
            (
                "a box around points",
                f"SELECT count(*), min(id) FROM {points} WHERE ST_Intersects(v, ST_GeomFromText("
                "'POLYGON ((10 10, 12 10, 12 12, 10 12, 10 10))'))",
                "SELECT count(*), min(id) FROM lake.tpch.points WHERE ST_Intersects(v, ST_GeomFromText("
                "'POLYGON ((10 10, 12 10, 12 12, 10 12, 10 10))'))",
            ),
        ):
            self.by_turns(what, ours, theirs)

    def by_turns(self, what: str, ours: str, theirs: str) -> None:
        """Measures the hot seconds of a query and of DuckDB's, in turns. Checks that the answers are equal."""
        took: dict[str, list[float]] = {"esker": [], "duckdb": []}
        for _ in range(RUNS + 1):
            answers = []
            for name, sql in (("esker", ours), ("duckdb", theirs)):
                seconds, rows = timed(lambda name=name, sql=sql: self.engines[name].ask(sql))
                took[name].append(seconds)
                answers.append([tuple(row) for row in rows])
            assert answers[0] == answers[1], (what, answers)
        mine, other = (statistics.median(seconds[1:]) for seconds in took.values())
        self.note(f"{what}: esker, hot", mine * 1e3, "ms")
        self.note(f"{what}: time over duckdb, hot", mine / other, "x", "<= 2", mine / other <= 2)

    def beside_clean(self, sql: str, table: str) -> tuple[float, float]:
        """Returns a query's time on a table relative to the clean copy, run in turns, and the seconds on the table."""
        esker = self.engines["esker"]
        took: dict[str, list[float]] = {"clean": [], table: []}
        for _ in range(PAIRS + 1):
            for name, seconds in took.items():
                seconds.append(timed(lambda name=name: esker.ask(sql.format(f"{WAREHOUSE}.{NAMESPACE}.{name}")))[0])
        clean, other = (statistics.median(seconds[1:]) for seconds in took.values())
        return other / clean, other

    def vectors(self, sql: str, expected: list[tuple]) -> None:
        """Measures the query on a table with deletion vectors, which Esker's own DELETE writes."""
        self.engines["trino"].ask("CREATE TABLE tpch.vectors WITH (format_version = 2) AS SELECT * FROM tpch.lineitem")
        upgrade = {"requirements": [], "updates": [{"action": "upgrade-format-version", "format-version": 3}]}
        self.server.api("POST", f"/v1/{WAREHOUSE}/namespaces/{NAMESPACE}/tables/vectors", upgrade)
        esker, name = self.engines["esker"], f"{WAREHOUSE}.{NAMESPACE}.vectors"
        seconds, _ = timed(lambda: esker.ask(f"DELETE FROM {name} WHERE l_partkey % 10 = 3"))
        self.note("esker's DELETE of 10 % of rows, by deletion vectors", seconds, "s")
        rows = esker.ask(sql.format(name))
        assert tpch.same(rows, expected), (rows, expected)
        ratio, _ = self.beside_clean(sql, "vectors")
        self.note("deletion vectors on 10 % of rows over clean, hot", ratio, "x", "<= 1.3", ratio <= 1.3)


def main() -> None:
    esker, *chosen = sys.argv[1:]
    os.environ["ESKER_BIN"] = esker
    directory = Path(tempfile.mkdtemp(prefix="esker-bench-"))
    print(f"two cores, TPC-H SF{SCALE:g}, MinIO on the same machine, {RUNS} hot runs")
    with ExitStack() as stack:
        minio = stack.enter_context(running_minio(directory))
        server = stack.enter_context(running(directory, **minio.esker()))
        reference = tpch.generated(SCALE, directory)
        tpch.load(reference, server.catalog(WAREHOUSE), NAMESPACE)
        engines: dict = {"esker": Esker(server)}
        if "duckdb" in PEERS:
            engines["duckdb"] = Duck(server, minio, directory, parquet=False)
        if "parquet" in PEERS:
            engines["parquet"] = Duck(server, minio, directory, parquet=True)
        if "trino" in PEERS:
            home = Path(tempfile.mkdtemp(dir=directory))
            trino = stack.enter_context(running_trino(home, server, minio.endpoint, TRINO_HEAP_MB))
            trino.ask("SELECT 1", WAREHOUSE)
            engines["trino"] = Trino(trino)
        reference.execute("SET threads = 2")
        bench = Bench(server, engines, reference)
        for part in chosen or ["scans", "tpch", "deletes", "lookups"]:
            getattr(bench, part)()
        peak = int(Path(f"/proc/{server.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        bench.note("esker, peak memory", peak, "MB")
        if keep := os.environ.get("PAUSE"):
            print(f"{server.flight} token {server.token} rest {server.rest}", flush=True)
            time.sleep(float(keep))
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "query.json").write_text(json.dumps({"scale": SCALE, "results": bench.results}, indent=1))
    subprocess.run(["rm", "-rf", str(directory)], check=False)


if __name__ == "__main__":
    main()
