"""Runs many random statements: Esker's answers are compared with DuckDB's, and with those of equivalent statements."""

from __future__ import annotations

import random
import re
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa

from ..engines import Stage
from ..known import Fault, known
from ..tables.compare import Tally
from . import answers, changes, queries
from .text import Text
from .world import Known, World

PER_WORLD = 150
# Kinds of faults whose first line has the features of the statement.
TAGGED = ("answer", "three values", "pruning", "changed", "not refused", "another answer the second time")


class Campaign:
    """A campaign of statements. It reports each kind of fault once; names and numbers do not count."""

    def __init__(self, stage: Stage, say: Callable[[str], None] = print) -> None:
        self.stage, self.say, self.tally = stage, say, Tally()
        self.faults: dict[str, str] = {}

    def world(self, seed: int, until: float | None = None) -> int:
        """Runs the statements of one world. Returns their number."""
        pick, done = random.Random(f"statements {seed}"), 0
        try:
            world = World(self.stage, seed)
        except Exception:
            self.fault(f"harness: world {seed}", traceback.format_exc(), seed)
            return 0
        try:
            for _ in range(PER_WORLD):
                if until and time.monotonic() > until:
                    break
                done += 1
                self.one(pick, world, seed)
        finally:
            with suppress(Exception):
                world.close()
        self.tally.note("worlds")
        self.tally["statements"] += done
        return done

    def one(self, pick: random.Random, world: World, seed: int) -> None:
        try:
            match pick.choices(["select", "partition", "change"], [7, 1.5, 2])[0]:
                case "select":
                    self.select(queries.some(pick, world), world)
                case "partition":
                    self.split(pick, world)
                case "change":
                    self.change(pick, world)
        except Fault as fault:
            self.fault(str(fault).split("\n")[0], str(fault), seed)
        except Exception:
            self.fault("harness: " + traceback.format_exc().splitlines()[-1], traceback.format_exc(), seed)

    def fault(self, kind: str, text: str, seed: int) -> None:
        if entry := known("esker", text):
            self.tally.note(f"waits to be mended: {entry.what}", text[:800])
            return
        kind = self.seen(re.sub(r"[\"'`].*?[\"'`]|\d+", "…", kind)[:160])
        self.tally.note(f"FAULT {kind}")
        if kind not in self.faults:
            self.faults[kind] = f"world {seed}: {text}"
            self.say(self.faults[kind][:3000] + "\n")

    def seen(self, kind: str) -> str:
        """Returns a known kind with a subset of the features, if there is one, because the others are not the cause."""
        what, _, tags = kind.partition(": ")
        if what in TAGGED:
            for earlier in self.faults:
                before, _, fewer = earlier.partition(": ")
                if before == what and set(fewer.split(", ")) <= set(tags.split(", ")):
                    return earlier
        return kind

    def ask(self, text: Text) -> pa.Table | Exception:
        try:
            return self.stage.esker.query(text.esker, list(text.bound) or None)
        except Exception as error:
            return error

    def select(self, query: queries.Query, world: World) -> None:
        ours, theirs = self.ask(query.text), asked(world, query.text)
        self.tally.note("comparisons")
        if isinstance(theirs, Exception):
            self.tally.note(
                "both refuse" if isinstance(ours, Exception) else "DuckDB refuses",
                f"{query.text.duckdb}: {theirs}"[:400],
            )
        elif isinstance(ours, Exception):
            raise Fault("refused", f"{message(ours)}\n{query.text.esker}\n{query.text.bound}")
        elif found := answers.difference(ours, theirs, query.ordered):
            again = self.ask(query.text)
            unsteady = not isinstance(again, Exception) and answers.difference(again, ours, query.ordered)
            note = " (and another answer the second time)" if unsteady else ""
            self.explain(query.text, found + note)
        elif self.tally["comparisons"] % 10 == 0:
            # Runs the statement again, now from caches.
            again = self.ask(query.text)
            if isinstance(again, Exception) or (found := answers.difference(again, ours, query.ordered)):
                raise Fault("another answer the second time", f"{query.text.esker}\n{again}\n{found}")

    def explain(self, text: Text, found: str) -> None:
        tags = ", ".join(sorted(text.features))
        raise Fault("answer", f"{tags}\n{found}\n{text.esker}\n{text.duckdb}\n{text.bound}")

    def split(self, pick: random.Random, world: World) -> None:
        """Checks that a predicate is true, false or unknown for each row, also in a form that can't prune."""
        table, e = queries.source(pick, pick.choice(world.tables), "a", False)
        e.tables = world.tables
        p = e.condition()
        parts = [
            f"SELECT a.rid FROM {table.esker} WHERE {part}"
            for part in (p.esker, f"NOT ({p.esker})", f"({p.esker}) IS NULL")
        ]
        found = [self.ask(Text(sql, "")) for sql in parts]
        hidden = self.ask(
            Text(f"SELECT a.rid FROM {table.esker} WHERE CASE WHEN {p.esker} THEN true ELSE false END", "")
        )
        whole = self.ask(Text(f"SELECT a.rid FROM {table.esker}", ""))
        self.tally.note("comparisons")
        for answer in (*found, hidden, whole):
            if isinstance(answer, Exception):
                if isinstance(asked(world, Text("", f"SELECT 1 FROM {table.duckdb} WHERE {p.duckdb}")), Exception):
                    return
                raise Fault("refused", f"{message(answer)}\n{p.esker}")
        rows = sorted(v for answer in found for v in answer.column(0).to_pylist())
        if rows != sorted(whole.column(0).to_pylist()):
            raise Fault(
                "three values",
                f"{', '.join(sorted(p.features))}\n{[a.num_rows for a in found]} of {whole.num_rows}\n{p.esker}",
            )
        if sorted(hidden.column(0).to_pylist()) != sorted(found[0].column(0).to_pylist()):
            raise Fault(
                "pruning",
                f"{', '.join(sorted(p.features))}\n{hidden.num_rows} unpruned, {found[0].num_rows} pruned\n"
                f"{p.esker}\n{table.esker}",
            )

    def change(self, pick: random.Random, world: World) -> None:
        target = pick.choice(world.tables)
        statement = changes.some(pick, world, target)
        theirs = asked(world, statement, change=True)
        try:
            ours: Any = self.stage.esker.change(statement.esker, list(statement.bound) or None)
        except Exception as error:
            ours = error
        self.tally.note("changes")
        content = self.content(world, target)
        ran = answers.difference(content[0], content[1], False)
        if ran or isinstance(ours, Exception) != isinstance(theirs, Exception):
            self.resettle(world, target)
        if isinstance(ours, Exception) and not isinstance(theirs, Exception):
            raise Fault("refused", f"{message(ours)}\n{statement.esker}")
        if isinstance(theirs, Exception) and not isinstance(ours, Exception):
            if "delete" in statement.features:
                # The error is on a row that another condition excludes; AND and OR do not guard (docs/sql.md).
                self.tally.note("DuckDB refuses", f"{statement.duckdb}: {theirs}"[:400])
                return
            raise Fault(
                "not refused", f"{', '.join(sorted(statement.features))}\n{statement.esker}\nDuckDB: {theirs}\n{ran}"
            )
        if ran:
            raise Fault("changed", f"{', '.join(sorted(statement.features))}\n{statement.esker}\n{ran}")
        if not isinstance(ours, Exception) and ours != theirs:
            raise Fault("count", f"{ours} rows, not {theirs}\n{statement.esker}")

    def content(self, world: World, target: Known) -> tuple[pa.Table, pa.Table]:
        columns = target.columns("a")
        esker, duck = (", ".join(getattr(c.text, side) for c in columns) for side in ("esker", "duckdb"))
        ours = self.stage.esker.query(f"SELECT {esker} FROM {target.esker} AS a")
        return ours, world.duckdb.execute(f"SELECT {duck} FROM {target.name} AS a").to_arrow_table()

    def resettle(self, world: World, target: Known) -> None:
        """Loads Esker's rows into DuckDB after the two differ."""
        target.state.refresh()
        target.state.rows = self.stage.esker.read(
            target.state.table, target.state.name, target.state.schema, None, None
        )
        world.load(target, target.name)


def asked(world: World, text: Text, change: bool = False) -> Any:
    try:
        found = world.duckdb.execute(text.duckdb)
        return found.fetchone()[0] if change else found.to_arrow_table()
    except Exception as error:
        return error


def message(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
