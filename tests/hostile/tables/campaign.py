"""Runs many histories by seed. A failing one is shrunk, and stored as a script that can be replayed."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import requests

from .. import predicates
from ..engines import Stage
from ..known import Fault, known
from . import history, restored, shrink
from .compare import Tally


class Campaign:
    def __init__(self, stage: Stage, kept: Path, say: Callable[[str], None] = print) -> None:
        self.stage, self.kept, self.say = stage, kept, say
        self.tally, self.faults, self.tries = Tally(), [], 0

    def table(self, seed: int, shrink_seconds: float, new: bool = False) -> None:
        script = history.beginning(seed, new)
        fault = self.attempt(script, self.tally)
        if fault is None:
            return
        if known("esker", str(fault)):
            self.report(fault, "")
            return
        if script["steps"] and fault.where:
            script["steps"][-1]["asked"] = predicates.as_json(fault.where)
        if shrink_seconds and fault.kind not in ("harness", "server") and self.alive():
            attempt = lambda smaller: self.attempt(smaller, Tally(), replay=True, sparing=True)  # noqa: E731
            script = shrink.shrunk(script, fault, attempt, shrink_seconds)
            fault = self.attempt(script, Tally(), replay=True, sparing=True) or fault
        self.kept.mkdir(parents=True, exist_ok=True)
        path = self.kept / f"table-{seed}.json"
        path.write_text(json.dumps(script | {"fault": str(fault)}, ensure_ascii=False, indent=1))
        about = f"seed {seed} ({script['theme']}, version {script['version']}, {len(script['steps'])} steps)"
        self.report(fault, f"{about}: {str(fault)[:1500]}\n  again: python -m hostile replay {path}\n")

    def restored(self, seed: int, home: Path) -> None:
        """Runs a server whose state database is restored from a copy."""
        home.mkdir()
        try:
            restored.run(home, seed)
        except Fault as fault:
            self.report(fault, f"restored {seed}: {str(fault)[:1500]}")

    def report(self, fault: Fault, text: str) -> bool:
        """Counts a fault. Returns True if it is not a known one."""
        if entry := known("esker", str(fault)):
            self.tally.note(f"waits to be mended: {entry.what}", str(fault)[:500])
            return False
        self.tally.note(f"FAULT {fault.kind}")
        self.faults.append(text)
        self.say(text)
        return True

    def attempt(self, script: dict, tally: Tally, replay: bool = False, sparing: bool = False) -> Fault | None:
        """Runs a script on its own table, which is dropped afterwards. Returns the fault that it shows, if any."""
        self.tries += 1
        name = f"{script['table']} {self.tries}" if replay else script["table"]
        try:
            history.run(self.stage, script, tally, name, replay, sparing)
        except Fault as fault:
            return fault
        except requests.ConnectionError as error:
            return Fault("server", f"it does not answer: {error}")
        except Exception:
            return Fault("harness", traceback.format_exc(limit=-3))
        return None

    def alive(self) -> bool:
        return self.stage.server.process.poll() is None


def summary(tally: Tally, started: float) -> str:
    faults = sum(n for kind, n in tally.items() if kind.startswith("FAULT"))
    foreign = sum(n for kind, n in tally.items() if kind.startswith("foreign"))
    refused = sum(n for kind, n in tally.items() if kind.startswith("refused"))
    waits = sum(n for kind, n in tally.items() if kind.startswith("waits"))
    made = (
        f"{tally['statements']} statements"
        if tally["statements"]
        else f"{tally['tables']} tables held, {tally['steps']} steps"
    )
    head = (
        f"{made}, {tally['comparisons']} comparisons; {faults} faults, "
        f"{waits} known faults that wait, {foreign} foreign disagreements, {refused} refused, "
        f"{time.monotonic() - started:.0f} s"
    )
    lines = [
        f"  {n:6} {kind}"
        for kind, n in sorted(tally.items())
        if kind not in ("tables", "steps", "comparisons", "statements")
    ]
    return "\n".join([head, *lines])
