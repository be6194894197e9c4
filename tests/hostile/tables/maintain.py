"""Maintenance steps of Esker. None of them changes a table's rows."""

from __future__ import annotations

import time

from . import lineage
from .state import Refused, State


class Failed(Exception):
    """A job failed, or the server answered an error of its own."""


def job(state: State, step: dict) -> None:
    options = dict(step["options"])
    before = [s.snapshot_id for s in state.table.snapshots()]
    if step["kind"] == "expire":
        # No snapshot is an hour old, so this keeps all of them.
        older = -3_600_000 if step.get("young") else 1000
        options["older-than-ms"] = int(time.time() * 1000) + older
    answer = state.api("POST", f"/{step['kind']}", options)
    if not answer.ok:
        raise (Failed if answer.status_code >= 500 else Refused)(f"{step['kind']}: {answer.status_code} {answer.text}")
    started = answer.json()["job-id"]
    record = ended(state, started)
    state.seen[f"{step['kind']} {record['state']}"] += 1
    if record["state"] != "succeeded":
        raise Failed(f"{step['kind']} {options}: {record['state']}: {record['error']}")
    if refused := (record["outcome"] or {}).get("refused"):
        raise Failed(f"{step['kind']} {options} left files alone: {refused}")
    state.jobs.append(started)
    if step.get("young"):
        state.refresh()
        left = {s.snapshot_id for s in state.table.snapshots()}
        if gone := [i for i in before if i not in left]:
            raise Failed(f"expire {options}: snapshots {gone} went, which are younger")


def ended(state: State, started: str) -> dict:
    for wait in range(1, 400):
        record = state.stage.api("GET", f"/api/v1/jobs/{started}").json()
        if record["state"] not in ("queued", "running"):
            return record
        time.sleep(min(0.002 * wait, 0.1))
    raise Failed(f"job {started} did not end")


def undo(state: State, step: dict) -> None:
    if not state.jobs:
        raise Refused("no job yet")
    chosen = state.jobs[step["job"] % len(state.jobs)]
    answer = state.stage.api("POST", f"/api/v1/warehouses/default/jobs/{chosen}/undo", {})
    state.seen["undo done" if answer.ok else "undo refused"] += 1
    if answer.status_code >= 500:
        raise Failed(f"undo: {answer.status_code} {answer.text}")


def sweep(state: State, step: dict) -> None:
    answer = state.stage.api("POST", "/api/v1/quarantine/sweep", {})
    if not answer.ok:
        raise Failed(f"sweep: {answer.status_code} {answer.text}")


def look(state: State, step: dict) -> None:
    """Sends the read requests of people and tools, which must work in every state of a table."""
    for what in ("/health", "/history", "/refs", "/quarantine"):
        answer = state.api("GET", what)
        if not answer.ok:
            raise Failed(f"{what}: {answer.status_code} {answer.text}")
    esker = state.stage.esker
    name = esker.table((*state.name[:-1], state.name[-1]))
    for metadata in ("files", "partitions", "snapshots", "manifests", "refs"):
        esker.query(f'SELECT * FROM {name[:-1]}${metadata}"')
    if wrong := lineage.difference(state):
        raise Failed(wrong)
    esker.query("SHOW TABLES")
    esker.query("SELECT count(*) FROM system.tables")
