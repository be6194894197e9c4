"""Commits by hand: files, manifests and manifest lists that are legal, and that ordinary writers do not make.

PyIceberg writes the Avro files. This module adds deletes and version 3, which PyIceberg can't write.
"""

from __future__ import annotations

import io
import random
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile, AvroOutputFile
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestListWriterV1,
    ManifestListWriterV2,
    ManifestWriterV1,
    ManifestWriterV2,
    PartitionFieldSummary,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType
from stack import parquet_footer as footer

from ..opaque import ShapeType


class DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class ManifestListWriterV3(ManifestListWriterV2):
    """A list writer that assigns first row ids to data manifests without one."""

    def __init__(self, *arguments: Any, next_row_id: int) -> None:
        super().__init__(*arguments)
        self._format_version, self.next_row_id = 3, next_row_id
        self._meta = {**self._meta, "format-version": "3", "first-row-id": str(next_row_id)}

    def __enter__(self) -> ManifestListWriterV3:
        schema = MANIFEST_LIST_FILE_SCHEMAS[3]
        self._writer = AvroOutputFile(
            output_file=self._output_file, file_schema=schema, record_schema=schema, schema_name="manifest_file",
            metadata=self._meta,
        )  # fmt: skip
        self._writer.__enter__()
        return self

    def prepare_manifest(self, manifest_file: ManifestFile) -> ManifestFile:
        old = super().prepare_manifest(manifest_file)
        values = list(old._data) + [None] * (16 - len(old._data))
        if old.content == ManifestContent.DATA and values[15] is None:
            values[15], self.next_row_id = (
                self.next_row_id,
                self.next_row_id + old.added_rows_count + old.existing_rows_count,
            )
        return ManifestFile(*values)


@dataclass
class Added:
    """A file to commit: a data file or a delete file."""

    path: str
    bytes: int
    records: int
    spec: PartitionSpec
    partition: Record
    content: DataFileContent = DataFileContent.DATA
    equality_ids: list[int] | None = None
    statistics: dict[str, dict] = field(default_factory=dict)

    def entry(self, snapshot: int) -> ManifestEntry:
        file = DataFile.from_args(
            content=self.content, file_path=self.path, file_format=FileFormat.PARQUET, partition=self.partition,
            record_count=self.records, file_size_in_bytes=self.bytes, equality_ids=self.equality_ids,
            sort_order_id=None, split_offsets=[4], key_metadata=None, **self.statistics,
        )  # fmt: skip
        file.spec_id = self.spec.spec_id
        return ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot, data_file=file)


def write_parquet(
    table: Table, rows: pa.Table, kinds: dict[int, IcebergType] | None = None, with_ids: bool = True, **options: Any
) -> tuple[str, int]:
    """Writes a Parquet file in the table's location. Returns path and size. `kinds` are annotated afterwards."""
    path, data = f"{table.location()}/data/{uuid.uuid4()}.parquet", io.BytesIO()
    pq.write_table(rows, data, **options)
    content = data.getvalue()
    with table.io.new_output(path).create() as out:
        out.write(marked(content, kinds, with_ids) if kinds else content)
    return path, len(table.io.new_input(path))


# Thrift field ids: of the field id in SchemaElement, and of geometry in LogicalType. Then the edge algorithms.
FIELD_ID, GEOMETRY_TYPE = 9, 17
EDGES = ["spherical", "vincenty", "thomas", "andoyer", "karney"]


def marked(whole: bytes, kinds: dict[int, IcebergType], with_ids: bool) -> bytes:
    """Annotates columns of a file as variants, geometries and geographies, by field id."""
    (size,) = struct.unpack("<I", whole[-8:-4])
    about = footer.Reader(whole[-8 - size : -8]).struct()
    for element in about[2][1][1]:
        kind = kinds.get(element.get(FIELD_ID, (footer.I32, 0))[1])
        if kind is not None:
            element[footer.LOGICAL] = (footer.STRUCT, logical(kind))
        if not with_ids:
            element.pop(FIELD_ID, None)
    made = footer.value(footer.STRUCT, about)
    return whole[: -8 - size] + made + struct.pack("<I", len(made)) + b"PAR1"


def logical(kind: IcebergType) -> dict:
    if not isinstance(kind, ShapeType):
        return footer.VARIANT
    inner = {1: (footer.BINARY, kind.crs.encode())} if kind.crs else {}
    if not kind.on_globe:
        return {GEOMETRY_TYPE: (footer.STRUCT, inner)}
    edges = {2: (footer.I32, EDGES.index(kind.edges))} if kind.edges != "spherical" else {}
    return {footer.GEOGRAPHY_TYPE: (footer.STRUCT, inner | edges)}


def current_manifests(table: Table) -> list[ManifestFile]:
    snapshot = table.current_snapshot()
    if snapshot is None:
        return []
    version = 3 if table.metadata.format_version == 3 else DEFAULT_READ_VERSION
    reader = AvroFile[ManifestFile](
        table.io.new_input(snapshot.manifest_list),
        MANIFEST_LIST_FILE_SCHEMAS[version],
        read_types={-1: ManifestFile, 508: PartitionFieldSummary},
        read_enums={517: ManifestContent},
    )
    with reader as found:
        return list(found)


def commit(catalog: Catalog, table: Table, files: list[Added]) -> int:
    """Commits files in one snapshot on top of the current one. Returns its id."""
    metadata, version = table.metadata, table.metadata.format_version
    snapshot, parent = random.Random(uuid.uuid4().int).randrange(1, 2**62), table.current_snapshot()
    base = f"{table.location()}/metadata"
    added: list[ManifestFile] = []
    groups: dict[tuple[int, bool], list[Added]] = {}
    for file in files:
        groups.setdefault((file.spec.spec_id, file.content != DataFileContent.DATA), []).append(file)
    for (_, deletes), of_group in groups.items():
        kind = DeleteManifestWriter if deletes else ManifestWriterV1 if version == 1 else ManifestWriterV2
        output = table.io.new_output(f"{base}/{uuid.uuid4()}-m0.avro")
        with kind(of_group[0].spec, table.schema(), output, snapshot, "deflate") as writer:
            for file in of_group:
                writer.add_entry(file.entry(snapshot))
        added.append(writer.to_manifest_file())
    at = f"{base}/snap-{snapshot}-0-{uuid.uuid4()}.avro"
    number = metadata.next_sequence_number() if version > 1 else 0
    before = parent.snapshot_id if parent else None
    match version:
        case 1:
            lists = ManifestListWriterV1(table.io.new_output(at), snapshot, before, "deflate")
        case 2:
            lists = ManifestListWriterV2(table.io.new_output(at), snapshot, before, number, "deflate")
        case _:
            lists = ManifestListWriterV3(
                table.io.new_output(at), snapshot, before, number, "deflate", next_row_id=metadata.next_row_id or 0
            )
    with lists as writer:
        writer.add_manifests(added + current_manifests(table))
    rows = (
        {"first-row-id": metadata.next_row_id or 0, "added-rows": lists.next_row_id - (metadata.next_row_id or 0)}
        if version > 2
        else {}
    )
    only_data = all(file.content == DataFileContent.DATA for file in files)
    summary = Summary(Operation.APPEND if only_data else Operation.OVERWRITE)
    made = Snapshot(**{
        "snapshot-id": snapshot, "parent-snapshot-id": before, "sequence-number": number, "manifest-list": at,
        "schema-id": metadata.current_schema_id, "summary": summary, **rows,
    })  # fmt: skip
    main = SetSnapshotRefUpdate(**{"ref-name": "main", "type": SnapshotRefType.BRANCH, "snapshot-id": snapshot})
    catalog.commit_table(
        table,
        (AssertRefSnapshotId(**{"ref": "main", "snapshot-id": before}),),
        (AddSnapshotUpdate(snapshot=made), main),
    )
    return snapshot
