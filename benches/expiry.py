"""Measures commits to one table beside the expiry of very many files of another, with the state on PostgreSQL.

Run `benches/expiry.py EXPIRY FILES`, where EXPIRY is the built `benches/src/expiry.rs`. A sample of the database's
locks every millisecond shows how long a transaction holds the write lock, under which all changes run one at a time.
Prints a table and writes target/bench/expiry.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "engines"))

from stack.postgres import connect, running_postgres  # noqa: E402

# The number of the write lock, in crates/state/src/database.rs.
WRITE_LOCK = 5062178905331
HOLDER = f"""
    SELECT virtualtransaction, extract(epoch FROM clock_timestamp()) * 1000 FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND ((classid::bigint << 32) | objid::bigint) = {WRITE_LOCK}
"""


class Holds(threading.Thread):
    """The times at which transactions held the write lock: the first and the last sample of each, in milliseconds."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.over = port, threading.Event()
        self.seen: dict[str, tuple[float, float]] = {}

    def run(self) -> None:
        with connect(self.port) as connection:
            while not self.over.is_set():
                for holder, now in connection.execute(HOLDER).fetchall():
                    first, _ = self.seen.get(holder, (float(now), 0.0))
                    self.seen[holder] = (first, float(now))
                time.sleep(0.001)

    def longest(self, from_ms: float, to_ms: float) -> float:
        return max((last - first for first, last in self.seen.values() if from_ms <= last <= to_ms), default=0.0)


def row(what: str, phase: dict, held: float) -> str:
    times = sorted(phase["latencies_ms"])
    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
    return f"  {what:<20}{len(times):>9}{times[len(times) // 2]:>11.1f}{p99:>9.1f}{times[-1]:>9.1f}{held:>12.1f}"


def main() -> None:
    binary, files = sys.argv[1], sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="esker-bench-") as directory, running_postgres(Path(directory)) as port:
        holds = Holds(port)
        holds.start()
        url = f"postgres://postgres@127.0.0.1:{port}"
        env = os.environ | {"ESKER_TEST_POSTGRES": url, "ESKER_TEST_STATE": "postgres"}
        done = subprocess.run([binary, files], env=env, check=True, stdout=subprocess.PIPE)
        holds.over.set()
        holds.join()
    found = json.loads(done.stdout)
    for name in ("idle", "busy"):
        found[name]["longest_hold_ms"] = holds.longest(found[name]["from_ms"], found[name]["to_ms"])
    seconds = (found["finished_ms"] - found["started_ms"]) / 1000
    print(f"an expiry of {files} files took {seconds:.1f} s; times in ms")
    print(f"  {'':<20}{'commits':>9}{'median':>11}{'p99':>9}{'max':>9}{'lock held':>12}")
    print(row("idle", found["idle"], found["idle"]["longest_hold_ms"]))
    print(row("during the expiry", found["busy"], found["busy"]["longest_hold_ms"]))
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "expiry.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
