"""The state of a history: the table in the catalog, the model of its rows, and the rows at each snapshot."""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pyiceberg.conversions
import requests
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import VoidTransform
from pyiceberg.typedef import Record
from pyiceberg.types import FloatType, IcebergType, ListType, MapType, NestedField, StructType, UUIDType

from .. import literals, predicates
from ..engines import Rows, Stage

# The key under which a row has the id of its partition spec. No field has this id.
SPEC = -1


@dataclass
class State:
    stage: Stage
    table: Table
    rows: Rows = field(default_factory=list)
    # The schema and the rows of each snapshot.
    history: dict[int, tuple[Schema, Rows]] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)
    # Rows may have another spec than `SPEC` says, because a writer rewrote files.
    mixed: bool = False
    # A note that explains later disagreements. It is part of every question.
    about: str = ""
    # The last step was another writer's, so the rows may differ from the model.
    foreign: bool = False
    # Snapshots without a schema id.
    bare: set[int] = field(default_factory=set)
    # Unknown fields in objects of the metadata, and in manifests and their entries.
    marks: dict[tuple, Any] = field(default_factory=dict)
    unknown: dict[tuple, dict[int, Any]] = field(default_factory=dict)
    # DuckDB 1.5.5 would crash this process, because it can't read a manifest in one of its threads. It is skipped.
    without_duckdb: bool = False
    # DuckDB failed and was reopened, which is slow. It is skipped until the files change.
    duckdb_rests: bool = False
    # Spark is slow, so it takes part in one of twenty tables.
    with_spark: bool = False
    # The share of version 3's types among added columns.
    new: float = 0.0

    @property
    def name(self) -> tuple[str, ...]:
        return tuple(self.table.name())

    @property
    def schema(self) -> Schema:
        return self.table.schema()

    @property
    def spec(self) -> PartitionSpec:
        return self.table.spec()

    @property
    def version(self) -> int:
        return self.table.metadata.format_version

    def asks(self, engine: str) -> bool:
        """Returns True if an engine takes part in the history."""
        if engine != "duckdb":
            return True
        # PyIceberg 0.12.0 writes letters of all languages into Avro names, which is not allowed.
        fields = [f for spec in self.table.specs().values() for f in spec.fields]
        return not self.without_duckdb and all(f.name.isascii() for f in fields)

    def refresh(self) -> None:
        self.table = self.stage.pyiceberg.catalog.load_table(self.name)

    def api(self, method: str, what: str, body: Any = None) -> requests.Response:
        namespace, table = quote("\x1f".join(self.name[:-1]), safe=""), quote(self.name[-1], safe="")
        path = f"/api/v1/warehouses/default/namespaces/{namespace}/tables/{table}{what}"
        return self.stage.api(method, path, body)

    def post(self, what: str, body: dict) -> dict:
        """Sends a request to the catalog that PyIceberg can't send."""
        namespace, table = quote("\x1f".join(self.name[:-1]), safe=""), quote(self.name[-1], safe="")
        answer = self.stage.api("POST", f"/v1/default/namespaces/{namespace}/tables/{table}{what}", body)
        if not answer.ok:
            raise Refused(f"{what or 'commit'}: {answer.status_code} {answer.text}")
        return answer.json()

    def served(self) -> dict:
        """Returns the catalog's metadata, of which PyIceberg drops fields."""
        namespace, table = quote("\x1f".join(self.name[:-1]), safe=""), quote(self.name[-1], safe="")
        answer = self.stage.api("GET", f"/v1/default/namespaces/{namespace}/tables/{table}")
        if not answer.ok:
            raise Refused(f"load: {answer.status_code} {answer.text}")
        return answer.json()["metadata"]

    def update(self, *updates: dict) -> None:
        """Commits updates that PyIceberg can't send."""
        identifier = {"namespace": list(self.name[:-1]), "name": self.name[-1]}
        self.post("", {"identifier": identifier, "requirements": [], "updates": list(updates)})
        self.refresh()

    def tell(self, what: str) -> None:
        if what not in self.about:
            self.about += f", {what}"

    def live(self) -> Rows:
        """Returns the rows in the present schema, with the defaults of fields that were added later."""
        return [projected(row, self.schema) for row in self.rows]

    def partition(self, row: dict, spec: PartitionSpec) -> Record:
        found = []
        for f in spec.fields:
            path = path_to(self.schema, f.source_id)
            kind = self.schema.find_field(f.source_id).field_type
            value = predicates.lookup(row, path)
            void = value is None or isinstance(f.transform, VoidTransform)
            found.append(None if void else f.transform.transform(kind)(literals.pyiceberg(value, kind)))
        return Record(*found)

    def remember(self) -> None:
        """Records the rows of the newest snapshot."""
        newest = self.table.current_snapshot()
        if newest and newest.snapshot_id not in self.bare:
            self.history.setdefault(newest.snapshot_id, (self.schema, self.live()))


class Refused(Exception):
    """A writer or Esker refused a step. The caller decides whether that is right."""


def path_to(schema: Schema, field_id: int) -> list[int]:
    return next(path for path in predicates.paths(schema.fields) if path[-1] == field_id)


def projected(row: dict, schema: Schema) -> dict[int, Any]:
    return {
        f.field_id: of_type(row[f.field_id], f.field_type) if f.field_id in row else default(f) for f in schema.fields
    }


def of_type(value: Any, kind: IcebergType) -> Any:
    """Converts a value of an earlier schema to the present one."""
    if value is None:
        return None
    match kind:
        case StructType():
            return projected(value, kind)
        case ListType():
            return [of_type(v, kind.element_type) for v in value]
        case MapType():
            return [[of_type(k, kind.key_type), of_type(v, kind.value_type)] for k, v in value]
    return value


def default(f: NestedField, initial: bool = True) -> Any:
    """Returns a field's initial default, or its write default."""
    value = f.initial_default if initial else f.write_default
    return None if value is None else as_value(value, f.field_type, initial)


EPOCH = datetime(1970, 1, 1)


def as_value(value: Any, kind: IcebergType, initial: bool) -> Any:
    """Converts a default of PyIceberg to this package's form of values."""
    match kind, value:
        case StructType(), _:
            return {f.field_id: default(f, initial) for f in kind.fields}
        case ListType(), str():
            return [of_json(v, kind.element_type, initial) for v in json.loads(value)]
        case MapType(), str():
            of = json.loads(value)
            pairs = zip(of["keys"], of["values"], strict=True)
            return [[of_json(k, kind.key_type, initial), of_json(v, kind.value_type, initial)] for k, v in pairs]
        case FloatType(), float():
            return struct.unpack("<f", struct.pack("<f", value))[0]
        case _, UUID():
            return value.hex
        case UUIDType(), str():
            return value.replace("-", "")
        case _, datetime():
            plain = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return (plain - EPOCH) // timedelta(microseconds=1)
        case _, date():
            return (value - EPOCH.date()).days
        case _, time():
            return (datetime.combine(EPOCH, value) - EPOCH) // timedelta(microseconds=1)
    return value


def of_json(value: Any, kind: IcebergType, initial: bool) -> Any:
    return None if value is None else as_value(pyiceberg.conversions.from_json(kind, value), kind, initial)
