"""Restores the state database from a copy: no acknowledged commit is lost, and none of its files is deleted."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from stack.esker import Server, running

from ..known import Fault

NAME = ("restored", "t")
NO_GRACE = {"ESKER__MAINTENANCE__GRACE_SECONDS": "0"}


def commit(server: Server, ids: list[int]) -> None:
    for n in ids:
        server.catalog().load_table(NAME).append(pa.table({"id": pa.array([n], pa.int64())}))


def held(server: Server) -> list[int]:
    return sorted(server.catalog().load_table(NAME).scan().to_arrow()["id"].to_pylist())


def copy_of_state(home: Path, kept: Path) -> None:
    kept.mkdir()
    for file in home.glob("esker.db*"):
        shutil.copy2(file, kept / file.name)


def put_back(home: Path, kept: Path) -> None:
    for file in home.glob("esker.db*"):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy2(file, home / file.name)


def recover(home: Path, *options: str) -> str:
    """Runs `esker recover` with the server's settings. Returns its output."""
    env = os.environ | {"ESKER__WAREHOUSES__DEFAULT__LOCATION": f"file://{home}/warehouse"}
    command = [os.environ["ESKER_BIN"], "recover", "--data-dir", str(home), *options]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    return found.stdout + found.stderr


def run(home: Path, seed: int) -> None:
    """Commits before the copy, after it and, if the server allows it, after the restore."""
    pick, kept = random.Random(f"restored {seed}"), home / "kept"
    before, after, later = ([base + n for n in range(pick.randrange(1, 4))] for base in (10, 20, 30))
    with running(home, **NO_GRACE) as server:
        catalog = server.catalog()
        catalog.create_namespace(NAME[0])
        catalog.create_table(NAME, pa.schema([("id", pa.int64())]))
        commit(server, before)
    copy_of_state(home, kept)
    with running(home, **NO_GRACE) as server:
        commit(server, after)
    put_back(home, kept)
    taken: list[int] = []
    with running(home, **NO_GRACE) as server:
        for n in later:
            # A refusal is right, because no person has decided yet.
            with suppress(Exception):
                commit(server, [n])
                taken.append(n)
        with suppress(AssertionError):
            # A server whose database is behind its warehouse deletes nothing.
            server.api("POST", "/api/v1/quarantine/sweep", {})
    said = recover(home, "--dry-run")
    if taken:
        raise Fault("restored", f"commits {taken} were taken though {after} were forgotten; esker recover says: {said}")
    tips = sorted((home / "warehouse").rglob("*.metadata.json"), key=lambda path: int(path.name.split("-")[0]))
    said = recover(home, "--reconcile")
    if "restored.t" in said and "--tip" in said:
        said = recover(home, "--tip", f"restored.t=file://{tips[-1]}", "--reconcile")
    with running(home, **NO_GRACE) as server:
        if (found := held(server)) != sorted(before + after):
            raise Fault("restored", f"{found}, not {sorted(before + after)}; esker recover says: {said}")
        commit(server, later)
        if (found := held(server)) != sorted(before + after + later):
            raise Fault("restored", f"{found} once it was reconciled")
