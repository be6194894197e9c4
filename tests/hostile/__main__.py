"""python -m hostile tables|statements --seed S --count N [--new] [--resume FILE]; python -m hostile replay SCRIPT."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from .engines import stage
from .statements.campaign import Campaign as Statements
from .tables.campaign import Campaign, summary
from .tables.compare import Tally

# Number of worlds of tables for which one server is used.
WORLDS = 20


def tables(options: argparse.Namespace) -> int:
    done = progress(options)
    started, faults = time.monotonic(), []
    tally = Tally()
    tally.update(done["tally"])
    tally.examples |= done.get("examples", {})
    while done["next"] < options.seed + options.count:
        # The server is replaced now and then, so that leftovers of tables do not accumulate.
        with (
            tempfile.TemporaryDirectory() as home,
            stage(Path(home), bool(os.environ.get("ESKER_HOSTILE_SPARK"))) as on,
        ):
            campaign = Campaign(on, options.kept)
            campaign.tally = tally
            for _ in range(min(100, options.seed + options.count - done["next"])):
                if not campaign.alive():
                    break
                seed, done["next"] = done["next"], done["next"] + 1
                # An engine may crash this process. Then the next run skips this table and reports it.
                crashed = f"crashed: an engine, with this process, by seed {seed}"
                tally[crashed] += 1
                keep(options, done["next"], tally)
                del tally[crashed]
                campaign.table(seed, options.shrink, options.new)
                keep(options, done["next"], tally)
            if campaign.alive():
                campaign.restored(done["next"], Path(home) / "restored")
            faults += campaign.faults
            if options.seconds and time.monotonic() - started > options.seconds:
                break
    print(summary(tally, started))
    examples(tally)
    return 1 if faults or any(kind.startswith("FAULT") for kind in tally) else 0


def statements(options: argparse.Namespace) -> int:
    done = progress(options)
    started, faults = time.monotonic(), {}
    tally = Tally()
    tally.update(done["tally"])
    seed = done["next"]
    until = started + options.seconds if options.seconds else None
    while tally["statements"] < options.count and not (until and time.monotonic() > until):
        # Every second server runs without caches.
        with tempfile.TemporaryDirectory() as home, stage(Path(home), cached=seed // WORLDS % 2 == 0) as on:
            campaign = Statements(on)
            campaign.tally, campaign.faults = tally, faults
            for _ in range(WORLDS):
                if tally["statements"] >= options.count or (until and time.monotonic() > until):
                    break
                campaign.world(seed, until)
                seed += 1
                if options.resume:
                    options.resume.write_text(json.dumps({"next": seed, "tally": tally}))
    print(summary(tally, started))
    examples(tally)
    return 1 if any(kind.startswith("FAULT") for kind in tally) else 0


def examples(tally: Tally) -> None:
    for kind, some in sorted(tally.examples.items()):
        for example in some:
            print(f"- {kind}: {' '.join(example.split())[:500]}")


def keep(options: argparse.Namespace, following: int, tally: Tally) -> None:
    if options.resume:
        kept = {"next": following, "tally": tally, "examples": tally.examples}
        options.resume.write_text(json.dumps(kept, indent=1))


def progress(options: argparse.Namespace) -> dict:
    if options.resume and options.resume.exists():
        return json.loads(options.resume.read_text())
    return {"next": options.seed, "tally": {}}


def replay(options: argparse.Namespace) -> int:
    script = json.loads(options.script.read_text())
    with tempfile.TemporaryDirectory() as home, stage(Path(home), bool(os.environ.get("ESKER_HOSTILE_SPARK"))) as on:
        fault = Campaign(on, options.kept).attempt(script, Tally(), replay=True)
    print(fault or "it holds")
    return 1 if fault else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    commands = parser.add_subparsers(required=True)
    kept = Path(os.environ.get("ESKER_HOSTILE_KEPT") or Path(os.environ["ESKER_CACHE"]) / "hostile")
    for name, command in (("tables", tables), ("statements", statements), ("replay", replay)):
        sub = commands.add_parser(name)
        sub.set_defaults(command=command, kept=kept)
        if name == "replay":
            sub.add_argument("script", type=Path)
            continue
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--count", type=int, default=13)
        sub.add_argument("--seconds", type=float, default=0, help="stop after so many, between servers")
        sub.add_argument("--shrink", type=float, default=30, help="seconds for making a failing history smaller")
        if name == "tables":
            sub.add_argument("--new", action="store_true", help="version 3, with its types in every table")
        sub.add_argument("--resume", type=Path, help="keeps how far it came, and goes on from there")
    options = parser.parse_args()
    return options.command(options)


if __name__ == "__main__":
    sys.exit(main())
