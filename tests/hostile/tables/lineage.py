"""First row ids as plans of the server tell them, and as manifests lead to them (specification, "Row Lineage")."""

from __future__ import annotations

from pyiceberg.avro.file import AvroFile
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
)

from . import craft
from .state import State

# Where PyIceberg, which has no names for them, keeps the first row id of a manifest, and of a data file.
OF_MANIFEST, OF_FILE = 15, 16


def inherited(state: State) -> dict[str, int | None]:
    """The id of each live data file's first row."""
    found = {}
    for manifest in craft.current_manifests(state.table):
        if manifest.content != ManifestContent.DATA:
            continue
        following = manifest._data[OF_MANIFEST]
        reader = AvroFile[ManifestEntry](
            state.table.io.new_input(manifest.manifest_path),
            MANIFEST_ENTRY_SCHEMAS[3],
            read_types={-1: ManifestEntry, 2: DataFile},
            read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
        )
        with reader as entries:
            for entry in entries:
                file = entry.data_file
                if entry.status == ManifestEntryStatus.DELETED:
                    continue
                first = file._data[OF_FILE]
                if first is None and following is not None:
                    first, following = following, following + file.record_count
                found[file.file_path] = first
    return found


def planned(state: State) -> dict[str, int | None]:
    answer = state.post("/plan", {})
    files = [task["data-file"] for task in answer["file-scan-tasks"]]
    return {file["file-path"]: file.get("first-row-id") for file in files}


def difference(state: State) -> str | None:
    """What a plan tells otherwise; nothing where the table has no row lineage."""
    if state.version < 3 or state.table.current_snapshot() is None:
        return None
    told, right = planned(state), inherited(state)
    wrong = {path: (told.get(path), first) for path, first in right.items() if told.get(path) != first}
    return f"first row ids, as planned and as they are: {wrong}" if wrong else None
