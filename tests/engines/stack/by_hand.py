"""Writes data files of types that few writers support, with pyarrow or DuckDB, and commits them over REST."""

from __future__ import annotations

import json
import random
import sys
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.conversions import to_bytes
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFileContent,
    ManifestContent,
    ManifestFile,
    ManifestWriterV2,
    PartitionFieldSummary,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

from .base import ROOT
from .kinds import ID, KEY_ID, SIMPLE, Kind
from .parquet_footer import GEOGRAPHY_KARNEY, VARIANT, annotate

sys.path.insert(0, str(ROOT / "tests"))
from hostile.tables.craft import Added, DeleteManifestWriter, ManifestListWriterV3

IO = PyArrowFileIO()
# The schema in manifests of unpartitioned tables. It needs no other column.
KEYS = Schema(NestedField(KEY_ID, "id", LongType()))


class Wkb(pa.ExtensionType):
    """The extension type by which pyarrow writes a column as geometry or geography."""

    def __init__(self, metadata: str) -> None:
        self.metadata = metadata
        super().__init__(pa.binary(), "geoarrow.wkb")

    def __arrow_ext_serialize__(self) -> bytes:
        return self.metadata.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Wkb:
        return cls(serialized.decode())


def wkb(kind: Kind) -> Wkb | None:
    """Returns the extension type, or None if pyarrow lacks the edge algorithm: then the column is plain binary."""
    match kind.type:
        case "geometry" | "geometry(EPSG:4326)":
            return Wkb("{}")
        case "geography":
            return Wkb('{"edges": "spherical"}')
    return None


def with_ids(arrow: pa.DataType, type: Any) -> pa.DataType:
    """Returns an Arrow type with the field ids of its nested fields."""

    def child(name: str, arrow: pa.DataType, id: int, type: Any) -> pa.Field:
        return pa.field(name, with_ids(arrow, type), metadata={"PARQUET:field_id": str(id)})

    match type:
        case {"type": "struct", "fields": fields}:
            return pa.struct([child(f["name"], arrow.field(f["name"]).type, f["id"], f["type"]) for f in fields])
        case {"type": "list", "element-id": id, "element": element}:
            return pa.list_(child("element", arrow.value_type, id, element))
        case {"type": "map"}:
            key = child("key", arrow.key_type, type["key-id"], type["key"]).with_nullable(False)
            return pa.map_(key, child("value", arrow.item_type, type["value-id"], type["value"]))
    return arrow


def column(kind: Kind, held: list[Any]) -> tuple[pa.Field, pa.Array]:
    arrow = with_ids(kind.arrow, kind.type)
    array = pa.array(held, pa.int64()).cast(arrow) if str(arrow).startswith("timestamp[ns") else pa.array(held, arrow)
    if (marked := wkb(kind)) is not None:
        arrow, array = marked, pa.ExtensionArray.from_storage(marked, array)
    return pa.field("v", arrow, metadata={"PARQUET:field_id": str(ID)}), array


def write(kind: Kind, path: Path, ids: list[int], held: list[Any]) -> None:
    """Writes a Parquet file with the columns `id` and `v`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind.duck is not None:
        rows = ", ".join(
            f"({i}::BIGINT, {'NULL' if v is None else kind.duck(v)})" for i, v in zip(ids, held, strict=True)
        )
        # The first row, if there is one, determines the type of the column.
        kind_of = f"(0::BIGINT, {kind.duck(kind.values[0].held)})"
        duckdb.sql(
            f"COPY (SELECT * FROM (VALUES {kind_of}, {rows}) AS t(id, v) WHERE id > 0) TO '{path}' "
            f"(FORMAT parquet, FIELD_IDS {{id: {KEY_ID}, v: {kind.duck_ids}}})"
        )
        if kind.type == "variant":
            with_nulls(path, ids, held)
        if kind.groups:
            annotate(path, dict.fromkeys(kind.groups, VARIANT))
        return
    fields = [pa.field("id", pa.int64(), metadata={"PARQUET:field_id": str(KEY_ID)})]
    columns: list[pa.Array] = [pa.array(ids, pa.int64())]
    if not kind.is_null:  # files have no column of type unknown
        field, array = column(kind, held)
        fields, columns = [*fields, field], [*columns, array]
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), path, store_schema=False)
    if "karney" in kind.name:
        annotate(path, {"v": GEOGRAPHY_KARNEY})


def with_nulls(path: Path, ids: list[int], held: list[Any]) -> None:
    """Rewrites a file with NULL where DuckDB wrote a variant null, which is a value."""
    read = pq.read_table(path)
    parts = read["v"].combine_chunks()
    fields = [parts.type.field(i) for i in range(parts.type.num_fields)]
    mask = pa.array([v is None for v in held])
    nulled = pa.StructArray.from_arrays([parts.field(i) for i in range(len(fields))], fields=fields, mask=mask)
    schema = [("id", pa.int64(), KEY_ID), ("v", nulled.type, ID)]
    schema = pa.schema([pa.field(name, type, metadata={"PARQUET:field_id": str(id)}) for name, type, id in schema])
    pq.write_table(pa.Table.from_arrays([pa.array(ids, pa.int64()), nulled], schema=schema), path, store_schema=False)
    annotate(path, {"v": VARIANT})


def statistics(kind: Kind, ids: list[int], held: list[Any]) -> dict[str, dict]:
    """Returns counts and bounds, as far as the format defines them for the type."""
    nulls = {KEY_ID: 0}
    if kind.leaf:
        nulls[kind.leaf[0]] = sum(v is None or v[kind.leaf[1]] is None for v in held)
    elif not isinstance(kind.type, dict) and not kind.is_null:
        nulls[ID] = sum(v is None for v in held)
    found = {"value_counts": dict.fromkeys(nulls, len(ids)), "null_value_counts": nulls}
    if kind.type in ("float", "double"):
        found["nan_value_counts"] = {ID: 0}
    lower, upper = ({KEY_ID: to_bytes(LongType(), of(ids))} for of in (min, max))
    there = [v for v in held if v is not None]
    if kind in SIMPLE and there:
        type = NestedField(ID, "v", kind.type).field_type
        lower[ID], upper[ID] = to_bytes(type, there[0]), to_bytes(type, there[-1])
    elif there:
        lower |= {id: low for id, (low, _) in kind.bounds.items()}
        upper |= {id: high for id, (_, high) in kind.bounds.items()}
    return found | {"lower_bounds": lower, "upper_bounds": upper}


def file(path: Path, records: int, **more: Any) -> Added:
    spec = UNPARTITIONED_PARTITION_SPEC
    return Added(f"file://{path}", path.stat().st_size, records, spec, Record(), **more)


def data(kind: Kind, directory: Path, ids: list[int], held: list[Any]) -> Added:
    path = directory / "data" / f"{uuid.uuid4()}.parquet"
    write(kind, path, ids, held)
    return file(path, len(ids), statistics=statistics(kind, ids, held))


def equality_delete(directory: Path, rows: pa.Table, id: int) -> Added:
    """Writes an equality delete file on the only column of `rows`."""
    path = directory / "data" / f"{uuid.uuid4()}-deletes.parquet"
    pq.write_table(rows, path, store_schema=False)
    return equality(path, rows.num_rows, id)


def equality(path: Path, records: int, id: int) -> Added:
    return file(path, records, content=DataFileContent.EQUALITY_DELETES, equality_ids=[id])


def of_schema(kind: type[ManifestWriterV2], schema: dict) -> type[ManifestWriterV2]:
    """Returns a subclass of a manifest writer that writes another schema into the manifest's header."""

    class Writer(kind):  # type: ignore[misc, valid-type]
        @property
        def _meta(self) -> dict[str, str]:
            return {**super()._meta, "schema": json.dumps(schema)}

    return Writer


def manifests(snapshot: dict | None) -> list[ManifestFile]:
    if snapshot is None:
        return []
    reader = AvroFile[ManifestFile](
        IO.new_input(snapshot["manifest-list"]),
        MANIFEST_LIST_FILE_SCHEMAS[3],
        read_types={-1: ManifestFile, 508: PartitionFieldSummary},
        read_enums={517: ManifestContent},
    )
    with reader as found:
        return list(found)


def commit(metadata: dict, files: list[Added]) -> dict:
    """Writes manifests for the files. Returns the commit request of one snapshot on top of the current one."""
    schema = next(s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"])
    before = metadata.get("current-snapshot-id")
    parent = next((s for s in metadata.get("snapshots", []) if s["snapshot-id"] == before), None)
    id, base = random.randrange(1, 2**62), f"{metadata['location']}/metadata"
    added = []
    for deletes in (False, True):
        of_group = [f for f in files if (f.content != DataFileContent.DATA) == deletes]
        if of_group:
            writer = of_schema(DeleteManifestWriter if deletes else ManifestWriterV2, schema)
            output = IO.new_output(f"{base}/{uuid.uuid4()}-m0.avro")
            with writer(UNPARTITIONED_PARTITION_SPEC, KEYS, output, id, "deflate") as manifest:
                for one in of_group:
                    manifest.add_entry(one.entry(id))
            added.append(manifest.to_manifest_file())
    at, first = f"{base}/snap-{id}-0-{uuid.uuid4()}.avro", metadata["next-row-id"]
    number = metadata["last-sequence-number"] + 1
    lists = ManifestListWriterV3(IO.new_output(at), id, parent and before, number, "deflate", next_row_id=first)
    with lists as writer:
        writer.add_manifests(added + manifests(parent))
    only_data = all(f.content == DataFileContent.DATA for f in files)
    snapshot = {
        "snapshot-id": id, "sequence-number": number, "timestamp-ms": metadata["last-updated-ms"] + 1,
        "manifest-list": at, "schema-id": schema["schema-id"], "first-row-id": first,
        "added-rows": lists.next_row_id - first, "summary": {"operation": "append" if only_data else "overwrite"},
    } | ({"parent-snapshot-id": before} if parent else {})  # fmt: skip
    return {
        "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": before if parent else None}],
        "updates": [
            {"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id},
        ],
    }
