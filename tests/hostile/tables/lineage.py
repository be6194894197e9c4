"""Compares first row ids in scan plans of the server with those of the manifests (specification, "Row Lineage")."""

from __future__ import annotations

from . import manifests
from .state import State

# Field ids (specification, "Manifests", "Manifest Lists").
OF_MANIFEST, OF_FILE, RECORDS = 520, 142, 103


def inherited(state: State) -> dict[str, int | None]:
    """Returns the first row id of each live data file."""
    found = {}
    for manifest in manifests.of_current(state):
        if manifest.content:
            continue
        following = manifest.values.get(OF_MANIFEST)
        for status, file in manifests.files(state, manifest.path):
            if status == manifests.DELETED:
                continue
            first = file.get(OF_FILE)
            if first is None and following is not None:
                first, following = following, following + file[RECORDS]
            found[file[manifests.PATH_OF_FILE]] = first
    return found


def planned(state: State) -> dict[str, int | None]:
    answer = state.post("/plan", {})
    files = [task["data-file"] for task in answer["file-scan-tasks"]]
    return {file["file-path"]: file.get("first-row-id") for file in files}


def difference(state: State) -> str | None:
    """Returns a difference between plan and manifests, or None. Tables without row lineage have none."""
    if state.version < 3 or state.table.current_snapshot() is None:
        return None
    planned_ids, right = planned(state), inherited(state)
    wrong = {path: (planned_ids.get(path), first) for path, first in right.items() if planned_ids.get(path) != first}
    return f"first row ids, as planned and as they are: {wrong}" if wrong else None
