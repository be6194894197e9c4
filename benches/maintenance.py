"""Compares maintenance jobs with their bounds (`benches/src/bound.rs`) and with other engines, one after the other.

All use one store, one catalog and the same files. Run `benches/maintenance.py ESKER BOUND [DATASET…]`. SCALE=1 is for
two cores: S1 has 6 M rows in 200 files. V1, with variants, needs Spark 4 and runs only if it is named. Prints a table,
and writes target/bench/maintenance.json. A run that changes the rows counts as failed and has no time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engines"))

from stack import minio as minio_stack  # noqa: E402
from stack.esker import Server, running  # noqa: E402
from stack.minio import running_minio  # noqa: E402
from stack.spark import spark_session  # noqa: E402
from stack.trino import running_trino  # noqa: E402

SCALE = float(os.environ.get("SCALE", "1"))
BIG = {"target-file-size-bytes": 512 << 20, "rewrite-all": True, "courtesy-seconds": 0, "min-input-files": 2}
WORDS = np.array(
    ["carefully", "quickly", "furiously", "final", "deposits", "ironic", "requests", "pending", "accounts"]
)


def lineitem(rows: int, seed: int) -> pa.Table:
    """Generates rows like TPC-H's lineitem: 16 columns, some with few distinct values and some with many."""
    r = np.random.default_rng(seed)
    day = r.integers(8036, 10561, rows).astype("int32")
    words = [WORDS[r.integers(0, len(WORDS), rows)] for _ in range(3)]
    comment = np.char.add(np.char.add(words[0], " "), np.char.add(np.char.add(words[1], " "), words[2]))
    quantity = r.integers(1, 51, rows)
    pick = lambda values: pa.array(np.array(values)[r.integers(0, len(values), rows)])  # noqa: E731
    return pa.table(
        {
            "l_orderkey": np.sort(r.integers(0, rows * 40, rows)),
            "l_partkey": r.integers(1, 200_000, rows),
            "l_suppkey": r.integers(1, 10_000, rows),
            "l_linenumber": pa.array(r.integers(1, 8, rows).astype("int32")),
            "l_quantity": quantity.astype("float64"),
            "l_extendedprice": quantity * (r.integers(90_000, 105_000, rows) / 100),
            "l_discount": r.integers(0, 11, rows) / 100,
            "l_tax": r.integers(0, 9, rows) / 100,
            "l_returnflag": pick(["A", "N", "R"]),
            "l_linestatus": pick(["O", "F"]),
            "l_shipdate": pa.array(day, pa.date32()),
            "l_commitdate": pa.array(day + r.integers(-30, 60, rows).astype("int32"), pa.date32()),
            "l_receiptdate": pa.array(day + r.integers(1, 31, rows).astype("int32"), pa.date32()),
            "l_shipinstruct": pick(["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]),
            "l_shipmode": pick(["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"]),
            "l_comment": pa.array(comment),
        }
    )


class Bench:
    def __init__(self, server: Server, bound: str, directory: Path, endpoint: str) -> None:
        self.server, self.bound, self.directory, self.endpoint = server, bound, directory, endpoint
        self.catalog = server.catalog()
        self.catalog.create_namespace("b")
        self.results: list[dict] = []
        self.spark = None

    def note(self, name: str, value: float, unit: str, bar: str = "", holds: bool | None = None) -> None:
        self.results.append({"name": name, "value": value, "unit": unit, "bar": bar, "holds": holds})
        verdict = "" if holds is None else ("  holds" if holds else "  MISSED")
        print(f"{name:<58} {value:>10.3f} {unit:<6} {bar}{verdict}", flush=True)

    def create(self, name: str, files: int, rows: int, version: int = 2, **properties: str):
        schema = lineitem(1, 0).schema
        # PyIceberg writes versions 1 and 2 only, so a table of version 3 is created as version 2 and upgraded.
        table = self.catalog.create_table(f"b.{name}", schema, properties={"format-version": "2"} | properties)
        for i in range(files):
            table.append(lineitem(rows, i))
        if version == 3:
            self.ask_spark(f"ALTER TABLE default.b.{name} SET TBLPROPERTIES ('format-version'='3')")

    def files(self, name: str) -> list[str]:
        tasks = self.catalog.load_table(f"b.{name}").scan().plan_files()
        return [task.file.file_path.removeprefix("file://") for task in tasks]

    def head(self, name: str) -> int:
        return self.catalog.load_table(f"b.{name}").current_snapshot().snapshot_id

    def back(self, name: str, snapshot: int) -> None:
        self.server.api(
            "POST", self.server.table(f"b.{name}", "/refs"), {"action": "rollback", "snapshot-id": snapshot}
        )

    def content(self, name: str) -> list[tuple]:
        sums = "sum(l_orderkey), sum(l_partkey * l_linenumber), count(DISTINCT l_comment), max(l_shipdate)"
        return self.server.sql(f"SELECT count(*), {sums} FROM b.{name}")

    def esker(self, name: str, options: dict, runs: int = 3, gate: bool = True) -> tuple[float, dict]:
        """Returns the job's median seconds, with its commit, and the last outcome. Restores the table each time."""
        snapshot, before = self.head(name), self.content(name) if gate else None
        times, outcome = [], {}
        for _ in range(runs):
            outcome = self.server.maintain(f"b.{name}", "compact", options)
            times.append(outcome["seconds"])
            assert not gate or self.content(name) == before, "a run that fails its gate has no time"
            self.back(name, snapshot)
        return statistics.median(times), outcome

    def peak_mb(self, pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def peak_of(self, name: str, options: dict) -> float:
        """Returns the server's peak memory while a job runs, including what it held before."""
        snapshot = self.head(name)
        Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5")
        self.server.maintain(f"b.{name}", "compact", options)
        self.back(name, snapshot)
        return self.peak_mb(self.server.process.pid)

    def bounds(self, name: str) -> dict:
        done = subprocess.run(
            [self.bound, self.directory], input="\n".join(self.files(name)), capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    def ask_spark(self, sql: str) -> list:
        if self.spark is None:
            os.environ["PYSPARK_SUBMIT_ARGS"] = "--driver-memory 3g pyspark-shell"
            self.spark = spark_session(self.server, self.endpoint)
        return self.spark.sql(sql).collect()

    def run_spark(self, name: str, runs: int = 3) -> tuple[float, float]:
        """Returns the seconds of the first run in a new JVM, with its start, and the median of the later runs."""
        snapshot, before, times = self.head(name), self.content(name), []
        cold = self.spark is None
        for _ in range(runs + 1):
            started = time.monotonic()
            self.ask_spark(
                f"CALL default.system.rewrite_data_files(table => 'b.{name}', options => map('rewrite-all', 'true', "
                "'target-file-size-bytes', '536870912', 'max-concurrent-file-group-rewrites', '2'))"
            )
            times.append(time.monotonic() - started)
            assert self.content(name) == before
            self.back(name, snapshot)
        return times[0] if cold else float("nan"), statistics.median(times[1:])

    def run_trino(self, name: str, runs: int = 3) -> float:
        snapshot, times = self.head(name), []
        with running_trino(Path(tempfile.mkdtemp(dir=self.directory)), self.server, self.endpoint) as trino:
            trino.ask("SELECT 1")
            for _ in range(runs):
                started = time.monotonic()
                trino.ask(f"ALTER TABLE b.{name} EXECUTE optimize(file_size_threshold => '512MB')")
                times.append(time.monotonic() - started)
                self.back(name, snapshot)
        return statistics.median(times)

    def s1(self) -> None:
        self.create("s1", 200, int(30_000 * SCALE))
        bytes_in = sum(Path(f).stat().st_size for f in self.files("s1"))
        self.note("S1 input", bytes_in / 1e6, "MB")
        # Comes first, because the allocator would hold the memory of queries in the same process.
        small = self.peak_of("s1", BIG | {"memory-bytes": 256 << 20})
        self.note("S1 esker, 256 MiB a job, peak memory of the server", small, "MB")
        peak = self.peak_of("s1", BIG)
        bound = self.bounds("s1")
        for what, seconds in bound.items():
            self.note(f"S1 bound: {what}", seconds, "s")
        seconds, outcome = self.esker("s1", BIG)
        ratio = bound["naive"] / seconds
        self.note("S1 esker, checksums", seconds, "s", "naive bound / 0.9", ratio >= 0.9)
        self.note("S1 esker against naive on one thread", ratio, "x", ">= 0.9", ratio >= 0.9)
        self.note("S1 esker against naive on two threads", bound["naive_two"] / seconds, "x")
        self.note("S1 esker, processor time", outcome["cpu_seconds"], "s")
        small, _ = self.esker("s1", BIG | {"memory-bytes": 256 << 20})
        self.note("S1 esker, 256 MiB a job", small, "s")
        self.note("S1 esker, verify=full", self.esker("s1", BIG | {"verify": "full"})[0], "s")
        self.note("S1 esker, sort", self.esker("s1", BIG | {"strategy": "sort", "sort-order": "l_shipdate"}, 1)[0], "s")
        if os.environ.get("PEERS", "1") == "1":
            cold, warm = self.run_spark("s1")
            spark_peak = self.peak_mb(self.spark_pid())
            self.note("S1 spark, cold (JVM start included)", cold, "s")
            self.note("S1 spark, warm", warm, "s")
            self.note("S1 esker against warm spark", warm / seconds, "x", ">= 3.4, goal 6", warm / seconds >= 3.4)
            self.note("S1 trino optimize", self.run_trino("s1"), "s")
            self.note("S1 spark, peak memory", spark_peak, "MB")
            self.note("S1 esker, peak memory", peak, "MB", "<= a quarter of spark's", peak <= spark_peak / 4)

    def v1(self) -> None:
        """Measures variants, which Spark 4 writes: needs ESKER_SPARK=4 and the Python of tests/engines/spark4."""
        rows, files = int(20_000 * SCALE), 50
        self.ask_spark("CREATE TABLE default.b.v1 (id bigint, v variant) TBLPROPERTIES ('format-version'='3')")
        value = (
            """concat('{"a":', id, ',"b":"text ', pmod(id * 7919, 1000003), '","c":{"d":', pmod(id * 31, 1000), """
            """',"e":[', id, ',"x",', id / 4, ']}}')"""
        )
        for n in range(files):
            source = f"range({n * rows}, {(n + 1) * rows}, 1, 1)"
            self.ask_spark(f"INSERT INTO default.b.v1 SELECT id, parse_json({value}) FROM {source}")

        def content() -> list[tuple]:
            parts = "sum(variant_get(v, '$.a', 'bigint')), sum(variant_get(v, '$.c.d', 'int'))"
            parts += ", count(DISTINCT to_json(v))"
            return self.server.sql(f"SELECT count(*), {parts} FROM b.v1")

        def head() -> int:
            return self.server.api("GET", self.path("v1"))["metadata"]["current-snapshot-id"]

        def median(compact: Callable[[], object]) -> float:
            times = []
            for _ in range(4):
                started = time.monotonic()
                compact()
                times.append(time.monotonic() - started)
                assert content() == before, "a run that fails its gate has no time"
                self.back("v1", snapshot)
            return statistics.median(times[1:])

        snapshot, before = head(), content()
        ours = median(lambda: self.server.maintain("b.v1", "compact", BIG))
        options = "map('rewrite-all', 'true', 'target-file-size-bytes', '536870912')"
        call = f"CALL default.system.rewrite_data_files(table => 'b.v1', options => {options})"
        theirs = median(lambda: self.ask_spark(call))
        self.note("V1 esker, variants, from order to answer", ours, "s")
        self.note("V1 spark 4, warm", theirs, "s")
        self.note("V1 esker against warm spark 4", theirs / ours, "x", ">= 1", theirs >= ours)

    def path(self, name: str) -> str:
        return f"/v1/default/namespaces/b/tables/{name}"

    def spark_pid(self) -> int:
        return self.spark._jvm.java.lang.ProcessHandle.current().pid()

    def s2(self) -> None:
        limit = {"write.parquet.row-group-limit": str(int(400_000 * SCALE))}
        self.create("s2", 4, int(8 * 400_000 * SCALE), **limit)
        copied, outcome = self.esker("s2", BIG)
        encoded, _ = self.esker("s2", BIG | {"splice": False})
        self.note("S2 input", outcome["bytes_in"] / 1e6, "MB")
        self.note("S2 row groups copied", outcome["row_groups_spliced"], "")
        self.note("S2 esker, splice, checksums", copied, "s")
        self.note("S2 esker, re-encode", encoded, "s")
        self.note("S2 splice against re-encode", encoded / copied, "x", ">= 6", encoded / copied >= 6)
        self.note("S2 byte copy with fsync", self.bounds_copy("s2"), "s")

    def bounds_copy(self, name: str) -> float:
        started = time.monotonic()
        with (self.directory / "copy").open("wb") as out:
            for file in self.files(name):
                out.write(Path(file).read_bytes())
            out.flush()
            os.fsync(out.fileno())
        return time.monotonic() - started

    def s3(self) -> None:
        from pyiceberg.transforms import MonthTransform

        table = self.catalog.create_table("b.s3", lineitem(1, 0).schema)
        with table.update_spec() as update:
            update.add_field("l_shipdate", MonthTransform(), "month")
        table = self.catalog.load_table("b.s3")
        for i in range(int(24 * SCALE)):
            table.append(lineitem(60_000, i))
        seconds, outcome = self.esker("s3", BIG)
        self.note("S3 files", outcome["files_in"], "")
        self.note("S3 groups", outcome["groups"], "")
        self.note("S3 esker, one commit a group", seconds, "s")
        self.note("S3 esker, ten commits", self.esker("s3", BIG | {"partial-progress.max-commits": 10})[0], "s")
        if os.environ.get("PEERS", "1") == "1":
            self.note("S3 spark, warm", self.run_spark("s3", 1)[1], "s")

    def s4(self) -> None:
        self.create("s4", 5, 1_500)
        seconds, outcome = self.esker("s4", BIG, 5)
        self.note("S4 input", outcome["bytes_in"] / 1e3, "KB")
        self.note("S4 esker", seconds, "s", "< 0.3", seconds < 0.3)

    def d1(self) -> None:
        for granularity in ("file", "partition"):
            name = f"d1_{granularity}"
            properties = {"write.delete.mode": "merge-on-read", "write.delete.granularity": granularity}
            self.create(name, 50, int(30_000 * SCALE), **properties)
            clean, _ = self.esker(name, BIG)
            self.ask_spark(f"DELETE FROM default.b.{name} WHERE l_partkey % 10 = 3")
            seconds, outcome = self.esker(name, BIG)
            self.note(f"D1 {granularity}-scoped position deletes, rows deleted", outcome["deleted_records"], "")
            self.note(f"D1 {granularity}-scoped against no deletes", seconds / clean, "x")

    def d4(self) -> None:
        self.create("d4", 50, int(30_000 * SCALE), 3, **{"write.delete.mode": "merge-on-read"})
        clean, _ = self.esker("d4", BIG)
        self.ask_spark("DELETE FROM default.b.d4 WHERE l_partkey % 10 = 3")
        ids = "SELECT count(*), sum(_row_id), sum(_last_updated_sequence_number) FROM default.b.d4"
        before = self.ask_spark(ids)
        outcome = self.server.maintain("b.d4", "compact", BIG)
        assert self.ask_spark(ids) == before, "row lineage is kept"
        self.note("D4 deletion vectors, rows deleted", outcome["deleted_records"], "")
        self.note("D4 deletion vectors and row lineage against none deleted", outcome["seconds"] / clean, "x")

    def equality(self, name: str, commits: int, keys: int, space: int, key) -> None:
        """Makes commits of one data file and one equality delete file each, with Iceberg's own library."""
        self.ask_spark(
            f"CREATE TABLE default.b.{name} (id string, n bigint) USING iceberg TBLPROPERTIES ('format-version'='2')"
        )
        jvm, gateway = self.spark._jvm, self.spark.sparkContext._gateway
        table = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(self.spark._jsparkSession, f"default.b.{name}")
        ids = gateway.new_array(gateway.jvm.int, 1)
        ids[0] = 1
        field = lambda n, t, i: pa.field(n, t, metadata={"PARQUET:field_id": str(i)})  # noqa: E731
        random = np.random.default_rng(7)
        data = Path(table.location().removeprefix("file://")) / "data"
        data.mkdir(parents=True, exist_ok=True)
        for _ in range(commits):
            chosen = [key(i) for i in random.integers(0, space, keys)]
            rows = pa.table(
                {"id": chosen, "n": range(keys)},
                schema=pa.schema([field("id", pa.string(), 1), field("n", pa.int64(), 2)]),
            )
            paths = data / f"{uuid.uuid4()}.parquet", data / f"{uuid.uuid4()}-eq.parquet"
            pq.write_table(rows, paths[0], compression="zstd")
            pq.write_table(rows.select(["id"]), paths[1], compression="zstd")
            added = (
                jvm.org.apache.iceberg.DataFiles.builder(table.spec())
                .withPath(f"file://{paths[0]}")
                .withFormat("parquet")
            )
            added = added.withRecordCount(keys).withFileSizeInBytes(paths[0].stat().st_size).build()
            deleted = jvm.org.apache.iceberg.FileMetadata.deleteFileBuilder(table.spec()).ofEqualityDeletes(ids)
            deleted = deleted.withPath(f"file://{paths[1]}").withFormat("parquet").withRecordCount(keys)
            deleted = deleted.withFileSizeInBytes(paths[1].stat().st_size).build()
            table.newRowDelta().addRows(added).addDeletes(deleted).commit()

    def d2(self) -> None:
        taken, queried = {}, {}
        for commits in (int(250 * SCALE), int(1000 * SCALE)):
            name = f"d2_{commits}"
            self.equality(name, commits, 400, 1_000_000, str)
            count = f"SELECT count(*), count(DISTINCT id) FROM b.{name}"
            started = time.monotonic()
            before = self.server.sql(count)
            queried[commits] = time.monotonic() - started
            self.note(f"D2 {commits} upserts, a query that nothing is cached for", queried[commits], "s")
            seconds, outcome = self.esker(name, BIG, gate=False)
            self.server.maintain(f"b.{name}", "compact", BIG)
            assert self.server.sql(count) == before
            taken[commits] = seconds
            self.note(f"D2 {commits} upserts, {outcome['deleted_records']} rows deleted", seconds, "s")
        few, many = sorted(taken)
        growth = (taken[many] / taken[few]) / (many / few)
        self.note("D2 growth of time over growth of table", growth, "x", "<= 1.3 (linear)", growth <= 1.3)
        growth = (queried[many] / queried[few]) / (many / few)
        self.note("D2 the query: growth of time over growth of table", growth, "x", "<= 1.3 (linear)", growth <= 1.3)

    def d3(self) -> None:
        cap = 256 << 20
        keys = int(400_000 * SCALE)
        self.equality(
            "d3",
            10,
            keys,
            keys * 20,
            lambda i: str(uuid.UUID(int=int(i) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)),
        )
        before = self.peak_mb(self.server.process.pid)
        expected = self.ask_spark("SELECT count(*), sum(n) FROM default.b.d3")
        Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5")
        outcome = self.server.maintain("b.d3", "compact", BIG | {"memory-bytes": cap})
        peak = self.peak_mb(self.server.process.pid)
        assert self.ask_spark("SELECT count(*), sum(n) FROM default.b.d3") == expected
        self.note("D3 equality deletes", keys * 10 / 1e6, "M keys")
        self.note("D3 esker, 256 MiB a job", outcome["seconds"], "s")
        grown, limit = peak - before, cap / (1 << 20)
        self.note("D3 peak memory of the server, less what it held before", grown, "MB", "<= 256", grown <= limit)

    def w1(self) -> None:
        """Measures compactions while a writer appends, and deletes rows of the same files, every second."""
        self.create("w1", 60, int(30_000 * SCALE), 3, **{"write.delete.mode": "merge-on-read"})
        expected = {"rows": self.content("w1")[0][0]}
        self.ask_spark("SELECT 1")
        tries, failed, over = [0], [0], threading.Event()

        def write() -> None:
            for i in range(20):
                self.ask_spark("INSERT INTO default.b.w1 SELECT * FROM default.b.w1 LIMIT 1000")
                expected["rows"] += 1_000
                condition = f"l_partkey % 101 = {i}"
                gone = self.ask_spark(f"SELECT count(*) FROM default.b.w1 WHERE {condition}")[0][0]
                tries[0] += 1
                try:
                    self.ask_spark(f"DELETE FROM default.b.w1 WHERE {condition}")
                    expected["rows"] -= gone
                except Exception:
                    failed[0] += 1
                time.sleep(1)
            over.set()

        writer = threading.Thread(target=write)
        writer.start()
        outcomes = []
        while not over.is_set():
            outcomes.append(self.server.maintain("b.w1", "compact", BIG))
        writer.join()
        assert self.content("w1")[0][0] == expected["rows"], "a run that fails its gate has no time"
        refused = sum(len(outcome["refused"]) for outcome in outcomes)
        self.note("W1 compactions", len(outcomes), "")
        self.note("W1 groups given up", refused, "", "0", refused == 0)
        self.note("W1 late deletes moved", sum(outcome["late_deletes_moved"] for outcome in outcomes), "")
        share = sum(outcome["commit_seconds"] for outcome in outcomes) / sum(outcome["seconds"] for outcome in outcomes)
        self.note("W1 share of time in commits (the rebase)", share * 100, "%")
        self.note("W1 deletes of the writer that failed by their own check (no courtesy)", failed[0], f"of {tries[0]}")

    def m1(self) -> None:
        """Measures the expiry of all snapshots but the newest, and the same with Spark on an equal table."""
        sizes, taken = [int(n * SCALE) for n in (400, 800, 1600)], {}
        for snapshots in sizes:
            name = f"m1_{snapshots}"
            self.history(name, snapshots)
            options = {"older-than-ms": int(time.time() * 1000) + 1000, "retain-last": 1}
            started = time.monotonic()
            outcome = self.server.maintain(f"b.{name}", "expire", options)
            taken[snapshots] = time.monotonic() - started
            what = f"M1 {outcome['snapshots']} snapshots, {outcome['quarantined_files']} files, planning and all"
            self.note(what, taken[snapshots], "s")
        growth = (taken[sizes[-1]] / taken[sizes[0]]) / (sizes[-1] / sizes[0])
        self.note("M1 growth of time over growth of table", growth, "x", "<= 1.3 (linear)", growth <= 1.3)
        if os.environ.get("PEERS", "1") == "1":
            self.history("m1_warm", 10)
            self.history("m1_spark", sizes[-1])
            for name in ("m1_warm", "m1_spark"):
                started = time.monotonic()
                self.ask_spark(
                    f"CALL default.system.expire_snapshots(table => 'b.{name}', older_than => TIMESTAMP "
                    f"'2100-01-01 00:00:00', retain_last => 1, max_concurrent_deletes => 4)"
                )
                seconds = time.monotonic() - started
            self.note(f"M1 spark, warm, {sizes[-1]} snapshots", seconds, "s")
            ratio = seconds / taken[sizes[-1]]
            self.note("M1 esker against warm spark", ratio, "x", ">= 10", ratio >= 10)

    def history(self, name: str, snapshots: int) -> None:
        """Creates a table with so many snapshots of inserts, and a compaction after every fifty."""
        properties = {"format-version": "2", "esker.expire.min-age-ms": "0"}
        self.catalog.create_table(f"b.{name}", pa.schema([("n", pa.int64())]), properties=properties)
        for i in range(snapshots):
            self.server.sql(f"INSERT INTO b.{name} VALUES ({i})")
            if i % 50 == 49:
                self.server.maintain(f"b.{name}", "compact", BIG)

    def o1(self) -> None:
        """Measures orphan scans of a table on MinIO, with more and more unreferenced files."""
        import boto3
        from botocore.config import Config

        catalog = self.server.catalog("minio")
        catalog.create_namespace("b")
        table = catalog.create_table("b.o1", pa.schema([("n", pa.int64())]))
        table.append(pa.table({"n": [1, 2, 3]}))
        bucket, _, prefix = table.location().removeprefix("s3://").partition("/")
        keys = {"aws_access_key_id": minio_stack.KEY, "aws_secret_access_key": minio_stack.SECRET}
        config = Config(max_pool_connections=16)
        s3 = boto3.client("s3", endpoint_url=self.endpoint, region_name=minio_stack.REGION, config=config, **keys)
        put = lambda i: s3.put_object(Bucket=bucket, Key=f"{prefix}/data/{uuid.uuid4()}.parquet", Body=b"x")  # noqa: E731
        path = self.server.table("b.o1", "/orphans?dry-run=true", "minio")
        made, taken, raw = 0, {}, {}
        for files in [int(n * SCALE) for n in (10_000, 20_000, 40_000)]:
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(put, range(files - made)))
            made = files
            Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5")
            started = time.monotonic()
            report = self.server.api("POST", path, {})
            taken[files] = time.monotonic() - started
            assert report["listed"] >= files, report["listed"]
            self.note(f"O1 {files} files, a look", taken[files], "s")
            raw[files] = self.raw_listing(s3, bucket, f"{prefix}/data/")
            self.note("O1 the same listing, raw, 17 parts beside one another", raw[files], "s")
        share = raw[made] / taken[made]
        self.note("O1 share of the raw rate", share * 100, "%", ">= 80", share >= 0.8)
        growth = (taken[made] / taken[made // 4]) / 4
        self.note("O1 growth of time over growth of listing", growth, "x", "<= 1.3 (linear)", growth <= 1.3)
        of_store = (raw[made] / raw[made // 4]) / 4
        self.note("O1 growth of the raw listing's time over its growth: the store's own", of_store, "x")
        self.note("O1 peak memory of the server", self.peak_mb(self.server.process.pid), "MB", "< 512")

    def raw_listing(self, s3, bucket: str, prefix: str) -> float:
        def pages(first: str) -> int:
            found = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + first)
            return sum(page["KeyCount"] for page in found)

        started = time.monotonic()
        with ThreadPoolExecutor(17) as pool:
            list(pool.map(pages, "0123456789abcdef"))
        return time.monotonic() - started


def main() -> None:
    esker, bound, *chosen = sys.argv[1:]
    os.environ["ESKER_BIN"] = esker
    directory = Path(tempfile.mkdtemp(prefix="esker-bench-"))
    print(f"two cores, SCALE={SCALE}, dev profile with hot crates optimised, local files")
    with running_minio(directory) as minio, running(directory, **minio.esker()) as server:
        bench = Bench(server, bound, directory, minio.endpoint)
        for dataset in chosen or ["s4", "s1", "s2", "s3", "d1", "d4", "d2", "d3", "w1", "m1", "o1"]:
            getattr(bench, dataset)()
        if bench.spark is not None:
            bench.spark.stop()
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "maintenance.json").write_text(json.dumps({"scale": SCALE, "results": bench.results}, indent=1))
    subprocess.run(["rm", "-rf", str(directory)], check=False)


if __name__ == "__main__":
    main()
