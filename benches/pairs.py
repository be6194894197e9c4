"""Compares two builds of Esker, before and after a change. They run in turns, on their own tables with the same rows.

Run `benches/pairs.py BEFORE AFTER [PART…]`; parts: scans, tpch, lookups, deletes, s1, s2. SCALE is TPC-H's scale
factor, and sizes S1 and S2 as in `maintenance.py`. PAIRS is the number of runs of each. For each statement and job,
prints the median of after/before over the pairs, with an interval that contains it in at least 97 of 100 cases (order
statistics): for seconds, and for the server's CPU time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from maintenance import BIG, lineitem
from measure import interval, processor_seconds

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engines"))

from query import LOOKUP, SCANS, Esker  # noqa: E402
from stack import tpch  # noqa: E402
from stack.esker import Server, running  # noqa: E402
from stack.minio import running_minio  # noqa: E402

SCALE = float(os.environ.get("SCALE", "0.3"))
PAIRS = int(os.environ.get("PAIRS", "10"))
WAREHOUSE, NAMESPACE = "minio", "tpch"
Work = Callable[[], object]


class Side:
    """One of the two builds, with its own server and tables."""

    def __init__(self, stack: ExitStack, binary: str, directory: Path, reference) -> None:
        os.environ["ESKER_BIN"] = binary
        minio = stack.enter_context(running_minio(directory))
        self.server: Server = stack.enter_context(running(directory, **minio.esker()))
        tpch.load(reference, self.server.catalog(WAREHOUSE), NAMESPACE)
        self.engine = Esker(self.server)

    def ask(self, sql: str) -> list[tuple]:
        return self.engine.ask(tpch.qualified(sql, self.engine.prefix))

    def processor(self) -> float:
        """Returns the server's CPU time in seconds."""
        return processor_seconds(self.server.process)


def measured(side: Side, work: Work, times: int) -> tuple[float, float]:
    """Returns the seconds and the CPU seconds of a run, as the mean of several."""
    processor, started = side.processor(), time.monotonic()
    for _ in range(times):
        work()
    return (time.monotonic() - started) / times, (side.processor() - processor) / times


def compare(name: str, before: Side, after: Side, works: tuple[Work, Work]) -> dict:
    """Runs both builds in turns; the one that goes first alternates from pair to pair."""
    sides = list(zip((before, after), works, strict=True))
    took = [[], []]
    first = [measured(side, work, 1)[0] for side, work in sides]
    # Enough runs for the ticks of the CPU clock.
    times = max(1, int(0.3 / max(first)))
    for pair in range(PAIRS):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for i in order:
            took[i].append(measured(*sides[i], times))
    result = {"name": name, "before_s": statistics.median(t[0] for t in took[0])}
    for what, i in (("seconds", 0), ("processor", 1)):
        ratios = [b[i] / a[i] for a, b in zip(*took, strict=True) if a[i] > 0]
        if ratios:
            low, high = interval(ratios)
            result[what] = {"ratio": statistics.median(ratios), "low": low, "high": high}
    shown = "  ".join(
        f"{what} {r['ratio']:5.3f} [{r['low']:5.3f}, {r['high']:5.3f}]"
        for what in ("seconds", "processor")
        if (r := result.get(what))
    )
    print(f"{name:<34} before {result['before_s'] * 1e3:8.1f} ms  {shown}", flush=True)
    return result


def statements(sides: tuple[Side, Side], texts: list[tuple[str, str]]) -> Iterator[dict]:
    for name, sql in texts:
        before, after = (side.ask(sql) for side in sides)
        if not tpch.same(sorted(before, key=str), sorted(after, key=str)):
            print(f"{name}: {after[:2]}, not {before[:2]}")
        yield compare(name, *sides, tuple(partial(side.ask, sql) for side in sides))


def lookups(sides: tuple[Side, Side], reference) -> Iterator[dict]:
    keys = [
        row[0] for row in reference.execute("SELECT o_orderkey FROM orders USING SAMPLE 5 (reservoir, 7)").fetchall()
    ]
    for what in ("lookup", "lookup, compacted"):
        yield from statements(sides, [(f"{what} {key}", LOOKUP.format(t="", key=key)) for key in keys])
        for side in sides:
            options = {"rewrite-all": True, "splice": False}
            side.server.maintain(f"{NAMESPACE}.orders", "compact", options, WAREHOUSE)


def deletes(sides: tuple[Side, Side]) -> Iterator[dict]:
    """Compares scans of lineitem with a tenth of the rows deleted, by position deletes and by deletion vectors."""
    sums = "sum(l_quantity), sum(l_extendedprice * (1 - l_discount)), count(*)"
    for version in (2, 3):
        copy = f"copy{version}"
        for side in sides:
            catalog = side.server.catalog(WAREHOUSE)
            source = catalog.load_table(f"{NAMESPACE}.lineitem")
            properties = {"format-version": "2", "write.delete.mode": "merge-on-read"}
            table = catalog.create_table(f"{NAMESPACE}.{copy}", source.schema(), properties=properties)
            table.append(source.scan().to_arrow())
            if version == 3:
                upgrade = {"requirements": [], "updates": [{"action": "upgrade-format-version", "format-version": 3}]}
                side.server.api("POST", f"/v1/{WAREHOUSE}/namespaces/{NAMESPACE}/tables/{copy}", upgrade)
        name = f"{WAREHOUSE}.{NAMESPACE}.{copy}"

        def delete(side: Side, name: str = name) -> None:
            side.engine.ask(f"DELETE FROM {name} WHERE l_partkey % 10 = 3")

        for side in sides:
            delete(side)
        sql = f"SELECT l_returnflag, {sums} FROM {name} GROUP BY 1 ORDER BY 1"
        yield from statements(sides, [(f"deletes of version {version}", sql)])


def compaction(
    sides: tuple[Side, Side], name: str, files: int, rows: int, properties: dict, options: dict
) -> Iterator[dict]:
    for side in sides:
        catalog = side.server.catalog()
        catalog.create_namespace_if_not_exists("b")
        table = catalog.create_table(
            f"b.{name}", lineitem(1, 0).schema, properties={"format-version": "2"} | properties
        )
        for i in range(files):
            table.append(lineitem(rows, i))

    def job(side: Side) -> None:
        path = side.server.table(f"b.{name}", "/refs")
        snapshot = side.server.catalog().load_table(f"b.{name}").current_snapshot().snapshot_id
        side.server.maintain(f"b.{name}", "compact", options)
        side.server.api("POST", path, {"action": "rollback", "snapshot-id": snapshot})

    yield compare(f"compaction of {name}", *sides, tuple(partial(job, side) for side in sides))


def main() -> None:
    before, after, *chosen = sys.argv[1:]
    directory = Path(tempfile.mkdtemp(prefix="esker-pairs-"))
    print(f"TPC-H SF{SCALE:g}, MinIO on the same machine, {PAIRS} pairs, after over before")
    results = []
    with ExitStack() as stack:
        reference = tpch.generated(SCALE, directory)
        homes = [directory / "before", directory / "after"]
        for home in homes:
            home.mkdir()
        sides = Side(stack, before, homes[0], reference), Side(stack, after, homes[1], reference)
        limit = {"write.parquet.row-group-limit": str(int(400_000 * SCALE))}
        parts = {
            "scans": lambda: statements(sides, [(what, sql.replace("{t}", "")) for what, sql in SCANS.items()]),
            "tpch": lambda: statements(sides, [(f"Q{number}", sql) for number, sql in tpch.queries(reference)]),
            "lookups": lambda: lookups(sides, reference),
            "deletes": lambda: deletes(sides),
            "s1": lambda: compaction(sides, "s1", 200, int(30_000 * SCALE), {}, BIG),
            "s2": lambda: compaction(sides, "s2", 4, int(8 * 400_000 * SCALE), limit, BIG),
        }
        for part in chosen or parts:
            results += parts[part]()
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "pairs.json").write_text(json.dumps({"scale": SCALE, "pairs": PAIRS, "results": results}, indent=1))
    subprocess.run(["rm", "-rf", str(directory)], check=False)


if __name__ == "__main__":
    main()
