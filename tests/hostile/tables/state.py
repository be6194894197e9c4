"""A table in the making: what the catalog says of it, what it should hold, and what it held at each snapshot."""

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

# Under which spec a row was written: a key that no field has.
SPEC = -1


@dataclass
class State:
    stage: Stage
    table: Table
    rows: Rows = field(default_factory=list)
    # What each snapshot held, and with which columns.
    history: dict[int, tuple[Schema, Rows]] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)
    # Rows may lie under another spec than they say: a writer wrote files anew.
    mixed: bool = False
    # What explains disagreements from now on: it is told in every question.
    about: str = ""
    # The last step was another writer's, so that the table may hold something else than it was told to.
    foreign: bool = False
    # Snapshots that don't say which columns they have.
    bare: set[int] = field(default_factory=set)
    # What nobody knows of the metadata's objects, and of manifests and files.
    marks: dict[tuple, Any] = field(default_factory=dict)
    unknown: dict[tuple, dict[int, Any]] = field(default_factory=dict)
    # DuckDB 1.5.5 ends with this process where a thread of its own can't read a manifest: then it is left alone.
    without_duckdb: bool = False
    # It failed by itself, and had to be opened anew, which is slow: it is not asked again before the files are others.
    duckdb_rests: bool = False
    # Spark is slow: it takes part in one table of twenty.
    with_spark: bool = False
    # The share of version 3's types among those of columns that are added.
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
        """Whether it may read and write."""
        if engine != "duckdb":
            return True
        # PyIceberg 0.12.0 writes letters of all languages into Avro's names.
        fields = [f for spec in self.table.specs().values() for f in spec.fields]
        return not self.without_duckdb and all(f.name.isascii() for f in fields)

    def refresh(self) -> None:
        self.table = self.stage.pyiceberg.catalog.load_table(self.name)

    def api(self, method: str, what: str, body: Any = None) -> requests.Response:
        namespace, table = quote("\x1f".join(self.name[:-1]), safe=""), quote(self.name[-1], safe="")
        path = f"/api/v1/warehouses/default/namespaces/{namespace}/tables/{table}{what}"
        return self.stage.api(method, path, body)

    def post(self, what: str, body: dict) -> dict:
        """A request to the catalog that PyIceberg does not make."""
        namespace, table = quote("\x1f".join(self.name[:-1]), safe=""), quote(self.name[-1], safe="")
        answer = self.stage.api("POST", f"/v1/default/namespaces/{namespace}/tables/{table}{what}", body)
        if not answer.ok:
            raise Refused(f"{what or 'commit'}: {answer.status_code} {answer.text}")
        return answer.json()

    def served(self) -> dict:
        """The metadata as the catalog has it: PyIceberg knows less of it."""
        namespace, table = quote("\x1f".join(self.name[:-1]), safe=""), quote(self.name[-1], safe="")
        answer = self.stage.api("GET", f"/v1/default/namespaces/{namespace}/tables/{table}")
        if not answer.ok:
            raise Refused(f"load: {answer.status_code} {answer.text}")
        return answer.json()["metadata"]

    def update(self, *updates: dict) -> None:
        """A commit of updates that PyIceberg does not make."""
        identifier = {"namespace": list(self.name[:-1]), "name": self.name[-1]}
        self.post("", {"identifier": identifier, "requirements": [], "updates": list(updates)})
        self.refresh()

    def tell(self, what: str) -> None:
        if what not in self.about:
            self.about += f", {what}"

    def live(self) -> Rows:
        """The rows in the present schema, with the defaults of what was added since."""
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
        """What the newest snapshot holds."""
        newest = self.table.current_snapshot()
        if newest and newest.snapshot_id not in self.bare:
            self.history.setdefault(newest.snapshot_id, (self.schema, self.live()))


class Refused(Exception):
    """A writer or Esker says no; whether it may is for whoever asked to say."""


def path_to(schema: Schema, field_id: int) -> list[int]:
    return next(path for path in predicates.paths(schema.fields) if path[-1] == field_id)


def projected(row: dict, schema: Schema) -> dict[int, Any]:
    return {
        f.field_id: of_type(row[f.field_id], f.field_type) if f.field_id in row else default(f) for f in schema.fields
    }


def of_type(value: Any, kind: IcebergType) -> Any:
    """A value that was written under an earlier schema, in the present one."""
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
    """What a field is in rows from before it was added, or in those that say nothing of it."""
    value = f.initial_default if initial else f.write_default
    return None if value is None else as_value(value, f.field_type, initial)


EPOCH = datetime(1970, 1, 1)


def as_value(value: Any, kind: IcebergType, initial: bool) -> Any:
    """A default of PyIceberg's as this package has values."""
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
