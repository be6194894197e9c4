"""Reads files of tables with PyIceberg's parsers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pyiceberg.avro.file import AvroFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,
)
from pyiceberg.table.metadata import TableMetadataUtil
from pyiceberg.table.puffin import PuffinFile
from pyiceberg.typedef import Record
from pyiceberg.view.metadata import ViewMetadata

IO = PyArrowFileIO()


def found(read) -> Any:
    """Returns what PyIceberg finds, or the class of its error."""
    try:
        return read()
    except Exception as error:
        return {"error": type(error).__name__}


def table(path: Path) -> Any:
    def read() -> Any:
        metadata = TableMetadataUtil.parse_raw(path.read_text())
        json = metadata.model_dump(by_alias=True)
        # PyIceberg generates a UUID for a table of version 1 without one.
        if b'"table-uuid"' not in path.read_bytes():
            json.pop("table-uuid")
        return plain(json)

    return found(read)


def view(path: Path) -> Any:
    return found(lambda: plain(ViewMetadata.model_validate_json(path.read_bytes()).model_dump(by_alias=True)))


def puffin(path: Path) -> Any:
    def read() -> Any:
        file = PuffinFile(path.read_bytes())
        blobs = [file.get_blob_payload(blob).hex() for blob in file.footer.blobs]
        return [plain(file.footer.model_dump()), blobs]

    return found(read)


def manifest_list(file: Path, manifests: dict[str, str]) -> Any:
    """Returns a manifest list, and the entries of its manifests that exist."""

    def read() -> Any:
        reader = AvroFile[ManifestFile](
            IO.new_input(str(file)), MANIFEST_LIST_FILE_SCHEMAS[3],
            read_types={-1: ManifestFile, 508: PartitionFieldSummary}, read_enums={517: ManifestContent},
        )  # fmt: skip
        with reader as found:
            listed = list(found)
        here = {one.manifest_path: one for one in listed if one.manifest_path in manifests}
        return [plain(listed), {path: entries(one, manifests[path]) for path, one in here.items()}]

    return found(read)


def entries(manifest: ManifestFile, path: str) -> Any:
    def read() -> Any:
        reader = AvroFile[ManifestEntry](
            IO.new_input(path), MANIFEST_ENTRY_SCHEMAS[3], read_types={-1: ManifestEntry, 2: DataFile},
            read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
        )  # fmt: skip
        with reader as found:
            return plain([_inherit_from_manifest(entry, manifest) for entry in found])

    return found(read)


def plain(value: Any) -> Any:
    """Converts an object to dictionaries, lists and values that can be compared."""
    match value:
        case Enum():
            return plain(value.value)
        case Record():
            return [plain(inner) for inner in value._data]
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case bool() | int() | str() | None:
            return value
        case bytes():
            return value.hex()
        case uuid.UUID():
            return str(value)
    return repr(value)
