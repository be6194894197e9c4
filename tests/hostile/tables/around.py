"""Compares the bounding boxes in manifests with the geometries in the data files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.types import NestedField

from .. import predicates, shapes
from ..opaque import ShapeType
from . import manifests
from .state import State

# Field ids (specification, "Manifests").
LOWER, UPPER = 125, 128
# On a globe, edges leave the box of their ends, so only points are checked.
POINTS = ("POINT", "MULTIPOINT")


def wrong(state: State) -> str | None:
    """Returns a bounding box that does not contain a geometry of its file, if there is one."""
    fields = [state.schema.find_field(path[-1]) for path in predicates.opaque(state.schema.fields, (ShapeType,))]
    if not fields:
        return None
    for manifest in manifests.of_current(state):
        for status, file in manifests.files(state, manifest.path) if not manifest.content else []:
            if status != manifests.DELETED and (found := in_file(state, file, fields)):
                return f"{file[manifests.PATH_OF_FILE]}: {found}"
    return None


def in_file(state: State, file: dict[int, Any], fields: list[NestedField]) -> str | None:
    lower, upper = ({one["key"]: one["value"] for one in file.get(ends) or []} for ends in (LOWER, UPPER))
    if not any(f.field_id in lower or f.field_id in upper for f in fields):
        return None
    with state.table.io.new_input(file[manifests.PATH_OF_FILE]).open() as data:
        table = pq.read_table(pa.BufferReader(data.read()))
    columns = {id: values for field, column in zip(table.schema, table.columns, strict=True)
               for id, values in by_ids(field, column.to_pylist())}  # fmt: skip
    for f in fields:
        if f.field_id not in lower or f.field_id not in upper:
            continue
        low, high = (struct.unpack(f"<{len(end) // 8}d", end) for end in (lower[f.field_id], upper[f.field_id]))
        for data in columns.get(f.field_id, []):
            shape = None if data is None else shapes.read(data)
            if shape and not holds(low, high, shape, f.field_type.on_globe):
                return f"{f.name} from {low} to {high} does not hold {shapes.wkt(shape)}"
    return None


def by_ids(field: pa.Field, values: list[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yields the values of a column and of its nested fields, by id."""
    yield int((field.metadata or {}).get(b"PARQUET:field_id", -1)), values
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from by_ids(inner, [v and v.get(inner.name) for v in values])


def holds(low: tuple, high: tuple, shape: shapes.Shape, on_globe: bool) -> bool:
    for p in shapes.coordinates(shape):
        if on_globe and shape[0] not in POINTS:
            continue
        x = low[0] <= p[0] <= high[0] or (on_globe and low[0] > high[0] and (p[0] >= low[0] or p[0] <= high[0]))
        others = all(low[i] <= p[i] <= high[i] for i in range(1, min(len(p), len(low))))
        if not x or not others:
            return False
    return True
