"""Every type of format version 3 with every operation on a column of it: one test for each pair.

The results are written for docs/types.md. If the specification does not allow an operation, the test checks that Esker
refuses it and names the column; the cell gives the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adbc_driver_manager import Error
from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
from pyiceberg.table.puffin import PuffinFile
from pyiceberg.transforms import parse_transform
from pyiceberg.types import NestedField
from stack import by_hand
from stack.base import CACHE
from stack.esker import Server
from stack.kind_tables import KEY, NAMESPACE, WHOLE, Tables, canonical, expected
from stack.kinds import ID, KEY_ID, KINDS, OPAQUE, Kind, Value, optional

RESULTS = CACHE / "engine-results" / "types" / "cells.json"
# The types that `make test` runs: one of each group.
SLICE = {"int", "timestamptz_ns", "uuid", "unknown", "variant", "geometry", "struct", "list of variant"}
# Cells without a test, each with its reason. The operations `read`, `compact` and `create` must have a test.
EMPTY: dict[tuple[str, str], str] = {}

NULL = Value("NULL", None)
EDGES = {"geography": "spherical", "geography(OGC:CRS84, karney)": "karney"}


def create(tables: Tables, kind: Kind) -> str:
    name = tables.create(kind, "create")
    (file,) = (tables.directory(name) / "metadata").glob("*.metadata.json")
    for found in (tables.metadata(name), json.loads(file.read_bytes())):
        assert found["format-version"] == 3
        assert found["schemas"][0]["fields"][1] == optional(ID, "v", kind.type)
    if kind.unordered:
        body = tables.body(kind, "identified", [KEY, optional(ID, "v", kind.type) | {"required": True}])
        body["schema"]["identifier-field-ids"] = [ID]
        tables.refused(tables.path(), body, "identifier", str(ID))
    return ""


def evolve(tables: Tables, kind: Kind) -> str:
    """Adds a column to a table with rows, renames it, and promotes its type if that is allowed."""
    name = tables.create(kind, "evolve", [KEY])
    tables.sql(f"INSERT INTO {name} VALUES (1)")
    tables.evolve(name, optional(ID, "v", kind.type))
    assert tables.rows(kind, name) == {1: None}
    rows = {1: None} | {i + 2: v for i, v in enumerate(kind.held)}
    tables.insert(name, enumerate(kind.values, start=2))
    tables.evolve(name, optional(ID, "w", kind.type))
    assert tables.rows(kind, name, "w") == rows
    if kind.becomes:
        type, held = kind.becomes
        tables.evolve(name, optional(ID, "w", type))
        assert tables.rows(kind, name, "w") == {1: None} | {i + 2: v for i, v in enumerate(held)}
    if kind.is_null:
        tables.insert(name, [(9, Value("7", 7))])
        assert tables.rows(kind, name, "w")[9] == 7
        return ""
    for other in ["string" if kind.name == "int" else "int", "geometry(EPSG:3857)"]:
        tables.refused(tables.path(name), tables.with_schema([KEY, optional(ID, "w", other)]), str(ID), "can't become")
    assert set(tables.rows(kind, name, "w")) == set(rows)
    return ""


def default(tables: Tables, kind: Kind) -> str:
    """Checks that earlier rows have the initial default, and that inserts without the column get the write default."""
    name = tables.create(kind, "default", [KEY])
    tables.sql(f"INSERT INTO {name} VALUES (1)")
    if kind.no_default:
        for key in ("initial-default", "write-default"):
            column = optional(ID, "v", kind.type, **{key: "00"})
            tables.refused(tables.path(name), tables.with_schema([KEY, column]), "v (2)", key)
        return kind.no_default
    first, then = kind.defaults[0], kind.defaults[-1]
    column = optional(ID, "v", kind.default_type or kind.type)
    defaults = {"initial-default": first.json, "write-default": first.json}
    tables.evolve(name, column | defaults)
    tables.sql(f"INSERT INTO {name} (id) VALUES (2)")
    tables.evolve(name, column | defaults | {"write-default": then.json})
    tables.sql(f"INSERT INTO {name} (id) VALUES (3)")
    tables.sql(f"INSERT INTO {name} VALUES (4, NULL)")
    rows = {1: first.held, 2: first.held, 3: then.held, 4: None}
    assert tables.rows(kind, name) == rows
    assert tables.ids(name, "v IS NOT NULL") == [1, 2, 3]
    assert tables.arrow(f"SELECT count(v) AS n FROM {name}")["n"].to_pylist() == [3]
    written = {i: v for i, v in rows.items() if i > 1}
    assert {i: v for i, v in tables.outside(kind, name).items() if i > 1} == written, "in the files"
    return ""


def write(tables: Tables, kind: Kind) -> str:
    name = tables.create(kind, "write")
    rows = expected(kind)
    tables.insert(name, enumerate([*kind.values, NULL], start=1))
    assert tables.outside(kind, name) == rows
    assert_marked(tables, kind, name)
    tables.sql(f"UPDATE {name} SET v = {kind.values[0].sql} WHERE id = {len(rows)}")
    tables.sql(f"DELETE FROM {name} WHERE id = 1")
    tables.sql(f"INSERT INTO {name} SELECT id + 10, v FROM {name} WHERE id = 2")
    rows |= {len(rows): kind.held[0], 12: kind.held[1]}
    del rows[1]
    assert tables.rows(kind, name) == rows
    return ""


def assert_marked(tables: Tables, kind: Kind, name: str) -> None:
    """Checks the annotations of geometry and geography columns in Parquet files, with the edge algorithm."""
    if kind.name.startswith("geo"):
        for path in tables.data_files(name):
            said = str(pq.ParquetFile(path).schema.column(1).logical_type)
            assert said.startswith(kind.name.partition("(")[0].title()), said
            assert EDGES.get(kind.name, "") in said, said


def read(tables: Tables, kind: Kind) -> str:
    name = tables.shared(kind)
    rows = expected(kind)
    assert tables.outside(kind, name) == rows, "the files are what they should be"
    assert tables.rows(kind, name) == rows
    there = sum(v is not None for v in rows.values())
    assert tables.arrow(f"SELECT count(v) AS n FROM {name}")["n"].to_pylist() == [there]
    assert tables.arrow(f"SELECT v FROM {name} LIMIT 2").num_rows == 2
    return ""


def filtered(tables: Tables, kind: Kind) -> str:
    name = tables.shared(kind)
    n = len(expected(kind))
    for where, places in kind.filters:
        assert tables.ids(name, where) == [i + 1 for i in places] + ([n] if kind.is_null and places else []), where
    if kind.is_null:
        return ""
    assert tables.ids(name, "v IS NULL") == [n]
    assert tables.ids(name, "v IS NOT NULL") == list(range(1, n))
    if not isinstance(kind.type, dict):
        assert tables.files_opened() == 1, "the file of nulls is left out"
    for where in kind.excluded:
        assert tables.ids(name, where) == [], where
        assert tables.files_opened() == 0, f"bounds exclude {where}"
    return ""


def partition(tables: Tables, kind: Kind) -> str:
    def spec(*transforms: str) -> dict:
        fields = [
            {"source-id": ID, "field-id": 1000 + n, "transform": t, "name": f"part{n}"}
            for n, t in enumerate(transforms)
        ]
        return {"spec-id": 0, "fields": fields}

    if kind.unordered:
        for transform in ("identity", "bucket[4]", "truncate[2]", "day"):
            body = tables.body(kind, "partition") | {"partition-spec": spec(transform)}
            tables.refused(tables.path(), body, "v", transform)
        return kind.unordered
    name = tables.create(kind, "partition", **{"partition-spec": spec(*kind.transforms)})
    rows = expected(kind)
    tables.insert(name, enumerate([*kind.values, NULL], start=1))
    assert tables.rows(kind, name) == rows
    tasks = tables.plan(name)["file-scan-tasks"]
    assert len(tasks) == len({repr(v) for v in rows.values()}), "a file for each value"
    for task in tasks:
        path = Path(task["data-file"]["file-path"].removeprefix("file://"))
        held = set(tables.outside(kind, name, path).values())
        assert len(held) == 1, "a file has one value"
        check_partition(kind, held.pop(), task["data-file"]["partition"])
    if not kind.is_null:
        assert tables.ids(name, kind.last) == [len(kind.values)]
        assert tables.files_opened() == 1, "the other partitions are left out"
        tables.server.maintain(name, "compact", WHOLE)
        assert tables.rows(kind, name) == rows
    return ""


def check_partition(kind: Kind, value: object, found: list) -> None:
    """Checks a partition's values against PyIceberg's transform of the column's values."""
    type = NestedField(ID, "v", kind.type).field_type
    for transform, made in zip(kind.transforms, found, strict=True):
        if value is None:
            assert made is None, transform
        elif transform == "identity":
            assert short(made) == next(short(v.json) for v in kind.values if v.held == value), transform
        else:
            assert short(made) == short(
                as_json(transform, parse_transform(transform).transform(type)(physical(value)))
            ), transform


def as_json(transform: str, value: object) -> object:
    """Returns a transform's result in the JSON of scan plans."""
    if transform == "day":
        return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
    return value.hex() if isinstance(value, bytes) else f"{value:f}" if isinstance(value, Decimal) else value


def short(value: object) -> object:
    """Normalizes a value: no trailing zeros of seconds, hexadecimal digits in one case."""
    return re.sub(r"(:\d\d)\.?(\d*?)0*(?=$|\+)", r"\1.\2", value).lower() if isinstance(value, str) else value


def physical(value: object) -> object:
    """Returns a date or time as the number in the format; other values as they are."""
    arrow = pa.array([value])
    if pa.types.is_date(arrow.type):
        return arrow.cast(pa.int32())[0].as_py()
    if pa.types.is_timestamp(arrow.type) or pa.types.is_time(arrow.type):
        return arrow.cast(pa.int64())[0].as_py()
    return value


def sort(tables: Tables, kind: Kind) -> str:
    by = {"transform": "identity", "source-id": ID, "direction": "desc", "null-order": "nulls-last"}
    order = {"write-order": {"order-id": 1, "fields": [by]}}
    if kind.unordered:
        tables.refused(tables.path(), tables.body(kind, "sort") | order, "v", "identity")
        name = tables.shared(kind)
        job = {"strategy": "sort", "sort-order": "v desc"}
        tables.refused(tables.server.table(name, "/compact"), WHOLE | job, "v")
        return kind.unordered
    name = tables.create(kind, "sort", **order)
    rows = expected(kind)
    shuffled = sorted(rows, key=lambda i: (i * 7) % 5)
    for part in (shuffled[:2], shuffled[2:]):
        tables.add(kind, name, {i: rows[i] for i in part})
    tables.server.maintain(name, "compact", WHOLE | {"strategy": "sort", "verify": "full"})
    found = tables.outside(kind, name)
    assert len(tables.data_files(name)) == 1 and found == rows
    if not kind.is_null:
        assert list(found) == [*reversed(range(1, len(rows))), len(rows)], "the largest first, null last"
    assert tables.rows(kind, name) == rows
    return ""


def compact(tables: Tables, kind: Kind) -> str:
    name = tables.filled(kind, "compact")
    rows = expected(kind)
    more = {i + 10: v for i, v in rows.items()}
    tables.add(kind, name, more)
    outcome = tables.server.maintain(name, "compact", WHOLE | {"verify": "full"})
    assert (outcome["files_in"], outcome["files_out"], outcome["refused"]) == (3, 1, []), outcome
    assert tables.outside(kind, name) == rows | more
    assert tables.rows(kind, name) == rows | more
    assert_marked(tables, kind, name)
    if not kind.is_null and not isinstance(kind.type, dict):
        found = tables.plan(name, statistics=["v"])["file-scan-tasks"][0]["data-file"]
        nulls = dict(zip(found["null-value-counts"]["keys"], found["null-value-counts"]["values"], strict=True))
        assert nulls[ID] == 2, "the nulls of the new file are counted"
    return ""


def convert_deletes(tables: Tables, kind: Kind) -> str:
    """Deletes rows by the column if it may be an equality column, else by another column; then converts the deletes."""
    name = tables.filled(kind, "convert")
    rows = expected(kind)
    if kind.unordered or kind.is_null:
        id, key = KEY_ID, pa.field("id", pa.int64(), metadata={"PARQUET:field_id": str(KEY_ID)})
        gone = pa.array([1], pa.int64())
    else:
        id, (key, gone) = ID, by_hand.column(kind, kind.held[:1])
    deleted = pa.Table.from_arrays([gone], schema=pa.schema([key]))
    tables.commit(name, [by_hand.equality_delete(tables.directory(name), deleted, id)])
    del rows[1]
    assert tables.rows(kind, name) == rows, "deleted by key"
    outcome = tables.server.maintain(name, "compact", {"strategy": "convert-deletes", "courtesy-seconds": 0})
    deletes = tables.plan(name)["delete-files"]
    assert [(d["content"], d["file-format"]) for d in deletes] == [("position-deletes", "puffin")], outcome
    puffin = PuffinFile(Path(deletes[0]["file-path"].removeprefix("file://")).read_bytes())
    vectors = [vector.to_vector().to_pylist() for vector in deletion_vectors_from_puffin_file(puffin)]
    assert vectors == [[0]], "as PyIceberg reads them"
    assert tables.rows(kind, name) == rows
    if kind.unordered == OPAQUE:
        check_keys(tables, kind)
    return "" if id == ID else "By another column: this one is no key of deletes."


def check_keys(tables: Tables, kind: Kind) -> None:
    """Checks that an equality delete on an unsuitable column makes queries fail, with the column's name."""
    name = tables.filled(kind, "keys")
    path = tables.directory(name) / "data" / "deletes.parquet"
    by_hand.write(kind, path, [1], kind.held[:1])
    tables.commit(name, [by_hand.equality(path, 1, ID)])
    with pytest.raises(Error, match=r"\bv\b"):
        tables.rows(kind, name)


def statistics(tables: Tables, kind: Kind) -> str:
    name = tables.shared(kind)
    record = tables.server.job(name, "statistics")
    outcome = record["outcome"]
    assert outcome["distinct"]["id"] == len(expected(kind))
    blobs = tables.metadata(name)["statistics"][0]["blob-metadata"]
    counts = {blob["fields"][0]: int(blob["properties"]["ndv"]) for blob in blobs}
    puffin = PuffinFile(Path(outcome["path"].removeprefix("file://")).read_bytes())
    assert len(puffin.footer.blobs) == len(counts), "as PyIceberg reads the file"
    assert counts[KEY_ID] == len(expected(kind))
    if kind.counted:
        assert counts[ID] == outcome["distinct"]["v"] == len(kind.values)
        return ""
    assert ID not in counts and "v" not in outcome["distinct"]
    assert "v" in record["plan"]["left_out"], record["plan"]
    return "Left out of the counts, by its name."


def plan(tables: Tables, kind: Kind) -> str:
    name, n = tables.shared(kind), len(expected(kind))
    assert len(tables.data_files(name)) == 2
    found = kind.found or {"type": "lt", "term": "id", "value": n}
    left = tables.data_files(name, found)
    assert len(left) == (2 if kind.is_null else 1), f"{found} finds {left}"
    assert set(tables.outside(kind, name, left[0])) == set(range(1, n))
    pruned = kind.pruned or {"type": "gt", "term": "id", "value": n}
    assert tables.data_files(name, pruned) == [], f"{pruned} excludes them"
    if kind.pruned:
        return ""
    return "Filtered by whether it is null." if kind.found else "Filtered by another column."


def get_tables(tables: Tables, kind: Kind) -> str:
    name = tables.shared(kind).split(".")[1]
    objects = tables.connection.adbc_get_objects(
        depth="columns", catalog_filter="default", db_schema_filter=NAMESPACE, table_name_filter=name
    )
    listed = objects.read_all().to_pylist()[0]["catalog_db_schemas"][0]["db_schema_tables"][0]["table_columns"]
    assert [column["column_name"] for column in listed] == ["id", "v"]
    field = tables.connection.adbc_get_table_schema(name, db_schema_filter=NAMESPACE).field("v")
    assert str(field.type) in kind.answered, field
    said = {key.decode(): of.decode() for key, of in (field.metadata or {}).items()}
    assert said.get("ARROW:FLIGHT:SQL:TYPE_NAME", "").lower() in kind.names, said
    if kind.name.startswith("geo"):
        assert said.get("ARROW:extension:name") == "geoarrow.wkb", said
    return ""


def flight(tables: Tables, kind: Kind) -> str:
    name = tables.shared(kind)
    answer = tables.arrow(f"SELECT v FROM {name} ORDER BY id")
    field = answer.schema.field("v")
    assert str(field.type) in kind.answered, field
    assert [kind.decode(v) for v in canonical(answer["v"])] == list(expected(kind).values())
    if kind.name.startswith("geo"):
        assert (field.metadata or {}).get(b"ARROW:extension:name") == b"geoarrow.wkb", field.metadata
        said = json.loads(field.metadata.get(b"ARROW:extension:metadata") or b"{}")
        assert ("EPSG:4326" in kind.type) == ("EPSG:4326" in json.dumps(said)), said
        assert said.get("edges", "planar") == EDGES.get(kind.name, "planar"), said
    if not kind.unordered and not kind.is_null:
        _, bound = by_hand.column(kind, kind.held[:1])
        found = tables.arrow(f"SELECT id FROM {name} WHERE v = ?", pa.record_batch([bound], names=["0"]))
        assert found["id"].to_pylist() == [1], "as a parameter"
    return ""


OPERATIONS: dict[str, Callable[[Tables, Kind], str]] = {
    "create": create,
    "evolve": evolve,
    "default": default,
    "write by SQL": write,
    "read": read,
    "filter": filtered,
    "partition": partition,
    "sort": sort,
    "compact": compact,
    "convert deletes": convert_deletes,
    "statistics": statistics,
    "server-planned scan": plan,
    "GetTables": get_tables,
    "Flight": flight,
}
CELLS = [(kind, operation) for kind in KINDS for operation in OPERATIONS if (kind.name, operation) not in EMPTY]


@pytest.fixture(scope="module")
def tables(server: Server) -> Iterator[Tables]:
    server.catalog().create_namespace(NAMESPACE)
    tables = Tables(server)
    yield tables
    tables.connection.close()


@pytest.fixture(scope="module")
def record() -> Iterator[dict[tuple[str, str], dict]]:
    """Collects the result of each cell, and writes them if every cell was tested."""
    found: dict[tuple[str, str], dict] = {}
    yield found
    if len(found) == len(CELLS):
        empty = {cell: {"state": "empty", "note": why} for cell, why in EMPTY.items()}
        cells = [{"type": kind, "operation": operation} | of for (kind, operation), of in (found | empty).items()]
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        order = {"types": [kind.name for kind in KINDS], "operations": list(OPERATIONS)}
        RESULTS.write_text(json.dumps(order | {"cells": cells}, indent=1))


def case(kind: Kind, operation: str) -> object:
    marks = [pytest.mark.slice] if kind.name in SLICE else []
    return pytest.param(kind, operation, id=f"{kind.name}-{operation}", marks=marks)


@pytest.mark.parametrize("kind,operation", [case(*cell) for cell in CELLS])
def test_cell(tables: Tables, record: dict[tuple[str, str], dict], kind: Kind, operation: str) -> None:
    cell = record[kind.name, operation] = {"state": "failed", "note": ""}
    cell["note"] = OPERATIONS[operation](tables, kind)
    cell["state"] = "refused" if is_refusal(kind, operation) else "yes"


def is_refusal(kind: Kind, operation: str) -> bool:
    """Returns True if the cell's test is that Esker refuses the operation."""
    if operation == "default":
        return bool(kind.no_default)
    return operation in ("partition", "sort") and bool(kind.unordered)


def test_few_cells_are_empty() -> None:
    assert len(EMPTY) <= 12 and all(EMPTY.values())
    assert not any(operation in ("read", "compact", "create") for _, operation in EMPTY)
