"""Measures what access control costs the server, beside the same server that lets everybody in.

Run `benches/security.py ESKER [ROUNDS]`. Two servers have the same 10,000 tables in one namespace. `anonymous` asks for
no token, and its mode is off. `authorised` has the mode on, with 1,000 roles and 10,000 grants, one on each table.

- loadTable: requests by turns, and the ratio of the CPU times, with an interval that contains the median in at least 97
  of 100 cases (order statistics). The client has 20 roles. The bar is 1.15.
- The first use of a token, which looks it up in the database, beside the second.
- Lists of all tables, for who sees them all and for who sees 200 of them. The bar is 100 ms.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from measure import interval, processor_seconds

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engines"))

from stack.esker import Server, running  # noqa: E402

TABLES, ROLES, HELD = 10_000, 1_000, 20
LOADS, LISTS, TOKENS, WRITERS = 3_000, 20, 200, 8
BARS = {"load": 1.15, "list_ms": 100}
COLUMNS = [{"id": i, "name": f"c{i}", "required": False, "type": "long"} for i in range(1, 21)]
SCHEMA = {"type": "struct", "fields": COLUMNS}
TABLES_PATH = "/v1/default/namespaces/n/tables"
# The server does nothing beside the requests.
QUIET = {"ESKER__MAINTENANCE__AUTOPILOT_SECONDS": "0", "ESKER__MAINTENANCE__JOBS": "0"}


class Client:
    """One connection to a server, with a token or without."""

    def __init__(self, server: Server, token: str | None = None) -> None:
        self.server = server
        self.headers = {"authorization": f"Bearer {token}"} if token else {}
        self.connection = http.client.HTTPConnection(server.rest.removeprefix("http://"))

    def call(self, method: str, path: str, body: dict | None = None) -> tuple[int, bytes]:
        """Sends a request. Returns the status and the body of the answer."""
        headers = self.headers | ({"content-type": "application/json"} if body else {})
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def ask(self, method: str, path: str, body: dict | None = None) -> bytes:
        """Sends a request that succeeds. Returns the body of the answer."""
        status, text = self.call(method, path, body)
        assert status < 300, f"{method} {path}: {status} {text[:500]!r}"
        return text

    def load(self, table: str = "t0") -> None:
        self.ask("GET", f"{TABLES_PATH}/{table}")

    def listed(self) -> int:
        """Lists the tables in one answer. Returns their number."""
        return len(json.loads(self.ask("GET", TABLES_PATH))["identifiers"])

    def measured(self, work: Callable[[], object], times: int) -> tuple[float, float]:
        """Returns the seconds and the server's CPU seconds of some runs, as the mean of one."""
        processor, started = processor_seconds(self.server.process), time.perf_counter()
        for _ in range(times):
            work()
        taken = time.perf_counter() - started
        return taken / times, (processor_seconds(self.server.process) - processor) / times


def fill(server: Server) -> None:
    """Creates the tables."""
    Client(server, server.token).ask("POST", "/v1/default/namespaces", {"namespace": ["n"]})

    def create(part: int) -> None:
        client = Client(server, server.token)
        for n in range(part, TABLES, WRITERS):
            client.ask("POST", TABLES_PATH, {"name": f"t{n}", "schema": SCHEMA})

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(create, range(WRITERS)))


def rule(server: Server) -> None:
    """Switches access control on, with one role, one client in it, and one grant on a table."""
    server.control_access()
    server.add_role("role-0", "client:some")
    server.grant("role:role-0", "USE", "warehouse default")
    server.grant("role:role-0", "SELECT", "table default.n.t0")


def multiply(database: Path) -> None:
    """Copies the rows of a stopped server's rules. Over the API, each change would read the rules anew.

    The table of number n is granted to the role of number n % 1,000. The client `some` has 20 roles, and `all` has all.
    """
    grant = """INSERT INTO access_grant SELECT ?, member_kind, member_issuer, ?, on_kind, warehouse_id, namespace, ?,
        function_name, privileges, future_kind, copied_from, created_by, created_ms FROM access_grant WHERE id = ?"""
    member = """INSERT INTO access_member SELECT ?, member_kind, member_issuer, ?, created_by, created_ms
        FROM access_member WHERE role = 'role-0' AND member_name = 'some'"""
    role = "INSERT INTO access_role SELECT ?, created_by, created_ms FROM access_role WHERE name = 'role-0'"
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = dict(connection.execute("SELECT name, id FROM tabular WHERE name LIKE 't%'").fetchall())
        ((first,),) = connection.execute("SELECT id FROM access_grant WHERE on_kind = 'table'").fetchall()
        connection.executemany(role, [(f"role-{n}",) for n in range(1, ROLES)])
        connection.executemany(member, [(f"role-{n}", "some") for n in range(1, HELD)])
        connection.executemany(member, [(f"role-{n}", "all") for n in range(ROLES)])
        rows = [(str(uuid.uuid4()), f"role-{n % ROLES}", tables[f"t{n}"], first) for n in range(1, TABLES)]
        connection.executemany(grant, rows)
        connection.execute("UPDATE access_state SET version = version + 1")


def loads(anonymous: Client, some: Client, rounds: int) -> dict:
    """Measures loadTable of both servers by turns; the one that goes first alternates."""
    took: tuple[list, list] = ([], [])
    sides = (anonymous, some)
    for client in sides:
        client.measured(client.load, LOADS // 10)
    for round in range(rounds):
        for i in (0, 1) if round % 2 == 0 else (1, 0):
            took[i].append(sides[i].measured(sides[i].load, LOADS))
    ratios = [b[1] / a[1] for a, b in zip(*took, strict=True)]
    low, high = interval(ratios)
    means = [statistics.median(processor for _, processor in of) * 1e3 for of in took]
    ratio = statistics.median(ratios)
    print(f"loadTable, CPU: anonymous   {means[0]:8.3f} ms")
    print(f"loadTable, CPU: authorised  {means[1]:8.3f} ms")
    print(f"ratio                       {ratio:8.3f}    [{low:.3f}, {high:.3f}], the bar is {BARS['load']}", flush=True)
    return {"anonymous_ms": means[0], "authorised_ms": means[1], "ratio": ratio, "low": low, "high": high}


def first_uses(server: Server, made: list[str]) -> dict:
    """Measures the first use of each token beside the second. The processor's time is of all tokens together."""
    clients = [Client(server, token) for token in made]
    for client in clients:
        client.connection.connect()
    result = {}
    for use in ("first", "second"):
        times = []
        processor = processor_seconds(server.process)
        # An entry of the cache of tokens lives for 3 seconds. All uses of this loop take less time.
        for client in clients:
            started = time.perf_counter()
            client.load()
            times.append((time.perf_counter() - started) * 1e3)
        spent = (processor_seconds(server.process) - processor) * 1e3 / len(clients)
        times.sort()
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"{use + ' use of a token':<27} {p50:8.3f} ms p50, {p99:.3f} ms p99, {spent:.3f} ms CPU", flush=True)
        result[use] = {"p50_ms": p50, "p99_ms": p99, "processor_ms": spent}
    for client in clients:
        client.connection.close()
    return result


def lists(clients: dict[str, tuple[Client, int]]) -> dict:
    """Measures lists of all tables, of each client by turns."""
    for name, (client, number) in clients.items():
        found = client.listed()
        assert found == number, f"{name} sees {found} tables, not {number}"
    took = {name: [] for name in clients}
    for _ in range(LISTS):
        for name, (client, _) in clients.items():
            # Parsing the list is the client's work.
            took[name].append(client.measured(lambda client=client: client.ask("GET", TABLES_PATH), 1))
    result = {}
    for name, (_, number) in clients.items():
        p50 = statistics.median(taken for taken, _ in took[name]) * 1e3
        spent = statistics.mean(processor for _, processor in took[name]) * 1e3
        shown = f"list of {TABLES:,}, sees {number:,}"
        print(f"{shown:<27} {p50:8.1f} ms, {spent:.1f} ms CPU ({name}), the bar is {BARS['list_ms']} ms", flush=True)
        result[name] = {"seen": number, "p50_ms": p50, "processor_ms": spent}
    return result


def main() -> None:
    binary = str(Path(sys.argv[1]).absolute())
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    directory = Path(tempfile.mkdtemp(prefix="esker-security-"))
    plain, ruled = directory / "anonymous", directory / "authorised"
    plain.mkdir()
    # Both servers read the same files of tables; nothing changes them any more.
    settings = QUIET | {"ESKER__WAREHOUSES__DEFAULT__LOCATION": f"file://{directory}/warehouse"}
    try:
        with running(plain, binary, **settings) as server:
            fill(server)
        shutil.copytree(plain, ruled)
        with running(ruled, binary, **settings) as server:
            rule(server)
        multiply(ruled / "esker.db")
        with (
            running(plain, binary, **settings, ESKER__AUTH__ANONYMOUS="true") as open_server,
            running(ruled, binary, **settings) as server,
        ):
            token = {who: server.api("POST", "/api/v1/tokens", {"principal": who})["token"] for who in ("some", "all")}
            made = [server.api("POST", "/api/v1/tokens", {"principal": "some"})["token"] for _ in range(TOKENS)]
            anonymous, some = Client(open_server), Client(server, token["some"])
            # The rules count: this table is granted to a role that the client does not have.
            assert some.call("GET", f"{TABLES_PATH}/t{HELD}")[0] == 404
            assert Client(server).call("GET", f"{TABLES_PATH}/t0")[0] == 401
            print(f"{TABLES:,} tables, {ROLES:,} roles, {TABLES:,} grants; {rounds} rounds of {LOADS:,} loads")
            result = {
                "load": loads(anonymous, some, rounds),
                "token": first_uses(server, made),
                "list": lists(
                    {
                        "anonymous": (anonymous, TABLES),
                        "all roles": (Client(server, token["all"]), TABLES),
                        f"{HELD} roles": (some, TABLES // ROLES * HELD),
                    }
                ),
            }
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "security.json").write_text(json.dumps({"rounds": rounds, "bars": BARS} | result, indent=1))


if __name__ == "__main__":
    main()
