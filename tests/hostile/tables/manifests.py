"""Rewrites manifests and manifest lists as other writers make them: other schemas, codecs, spellings, more fields."""

from __future__ import annotations

import random
import re
import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import avro
from .state import State

WAYS = {"manifests", "spellings", "no counts"}
# Field ids in Avro files (specification, "Manifests", "Manifest Lists").
PATH_OF_MANIFEST, LENGTH_OF_MANIFEST, CONTENT_OF_MANIFEST, COUNTS = 500, 501, 517, {504, 505, 506, 512, 513, 514}
PATH_OF_FILE, DATA_FILE, PARTITION, OFFSET, STATUS = 100, 2, 102, 144, 0
DELETED = 2
# Ids of fields that no reader knows begin here.
UNKNOWN = 9000


class Listed(NamedTuple):
    path: str
    content: int
    # Values by field id.
    values: dict[int, Any]


@dataclass
class Style:
    """The ways in which a writer differs from PyIceberg."""

    codec: str
    per_block: int
    shuffled: bool
    null_last: bool
    no_maps: bool
    raw_names: bool
    more: bool

    @staticmethod
    def some(pick: random.Random) -> Style:
        return Style(
            codec=pick.choice(avro.CODECS), per_block=pick.choice([1, 2, 1000]), shuffled=pick.random() < 0.6,
            null_last=pick.random() < 0.1, no_maps=pick.random() < 0.15, raw_names=pick.random() < 0.15,
            more=pick.random() < 0.8,
        )  # fmt: skip


def get(state: State, at: str) -> bytes:
    with state.table.io.new_input(at).open() as file:
        return file.read()


def put(state: State, at: str, content: bytes) -> None:
    with state.table.io.new_output(at).create() as file:
        file.write(content)


def named(fields: list[dict]) -> dict[int, str]:
    """Returns the names of fields by id."""
    return {field["field-id"]: field["name"] for field in fields}


def option(schema: Any) -> Any:
    """Returns the non-null type of an optional one."""
    return next(branch for branch in schema if branch != "null") if isinstance(schema, list) else schema


def record_in(schema: dict, field: int) -> dict:
    """Returns the type of a nested record."""
    return option(next(f["type"] for f in schema["fields"] if f["field-id"] == field))


def fields_of(schema: dict, field: int) -> list[dict]:
    return record_in(schema, field)["fields"]


def by_ids(record: dict, fields: list[dict]) -> dict[int, Any]:
    return {field["field-id"]: record[field["name"]] for field in fields}


def listed(state: State, at: str) -> list[Listed]:
    _, schema, records = avro.read(get(state, at))
    found = [by_ids(record, schema["fields"]) for record in records]
    return [Listed(one[PATH_OF_MANIFEST], one.get(CONTENT_OF_MANIFEST) or 0, one) for one in found]


def files(state: State, at: str) -> list[tuple[int, dict[int, Any]]]:
    """Returns the files of a manifest, each with its status."""
    _, schema, records = avro.read(get(state, at))
    names, inner = named(schema["fields"]), fields_of(schema, DATA_FILE)
    return [(record[names[STATUS]], by_ids(record[names[DATA_FILE]], inner)) for record in records]


def of_current(state: State) -> list[Listed]:
    snapshot = state.table.current_snapshot()
    return listed(state, snapshot.manifest_list) if snapshot else []


def beyond(found: dict[int, Any]) -> dict[int, Any]:
    """Returns the unknown fields of a record that are not null."""
    return {i: value for i, value in found.items() if i >= UNKNOWN and value is not None}


def unknown(state: State) -> dict[tuple, dict[int, Any]]:
    """Returns the unknown fields in the manifests of the current snapshot, and of the files in them."""
    found: dict[tuple, dict[int, Any]] = {}
    for one in of_current(state):
        found["manifest", one.path] = beyond(one.values)
        of_files = (file for status, file in files(state, one.path) if status != DELETED)
        found |= {("file", *key(file)): beyond(file) for file in of_files}
    return found


def key(file: dict[int, Any]) -> tuple:
    """Returns the identity of a file. Several deletion vectors may be in one Puffin file."""
    return (re.sub("^file:/+", "/", file[PATH_OF_FILE]), file.get(OFFSET))


def written_anew(state: State, pick: random.Random, metadata: dict, ways: list[str]) -> None:
    lists = [snapshot["manifest-list"] for snapshot in metadata.get("snapshots", []) if "manifest-list" in snapshot]
    # Position deletes contain the data files' paths, so the spelling must stay.
    spell_files = "spellings" in ways and not any(one.content for at in lists for one in listed(state, at))
    style, moved, base = Style.some(pick), {}, f"{state.table.location()}/metadata"
    of_lists: dict[str, dict] = {}
    for snapshot in metadata.get("snapshots", []):
        if not (at := snapshot.get("manifest-list")):
            continue
        meta, schema, records = avro.read(get(state, at))
        names = named(schema["fields"])
        for record in records:
            old = record[names[PATH_OF_MANIFEST]]
            if old not in moved:
                moved[old] = manifest(state, pick, old, base, style, ways, spell_files)
            path, length = moved[old]
            record[names[PATH_OF_MANIFEST]] = spelt(path) if "spellings" in ways else path
            record[names[LENGTH_OF_MANIFEST]] = length
        if "no counts" in ways:
            schema["fields"] = [f for f in schema["fields"] if f["field-id"] not in COUNTS]
        if "manifests" in ways:
            if style.more:
                # A manifest must be the same in each list.
                seeds = [f"{style} {record[names[PATH_OF_MANIFEST]]}" for record in records]
                add(schema["fields"], records, [of_lists.setdefault(s, values(random.Random(s))) for s in seeds], "l")
            schema = styled(schema, style, pick)
        content = avro.written(meta, schema, records, style.codec, style.per_block)
        new = f"{base}/snap-{snapshot['snapshot-id']}-{uuid.uuid4()}.avro"
        put(state, new, content)
        snapshot["manifest-list"] = spelt(new) if "spellings" in ways else new
        if snapshot["snapshot-id"] == metadata.get("current-snapshot-id"):
            found = [by_ids(record, schema["fields"]) for record in records]
            state.unknown |= {("manifest", one[PATH_OF_MANIFEST]): beyond(one) for one in found}
    if style.codec == "zstandard" or (
        "manifests" in ways and (style.null_last or style.no_maps or style.shuffled or style.more)
    ):
        # DuckDB 1.5.5 crashes this process if it fails to read a manifest in one of its threads.
        state.without_duckdb = True
    if "spellings" in ways and pick.random() < 0.3:
        metadata["location"] = spelt(metadata["location"])


def manifest(
    state: State, pick: random.Random, at: str, base: str, style: Style, ways: list[str], spell_files: bool
) -> tuple[str, int]:
    meta, schema, records = avro.read(get(state, at))
    entry, inner = named(schema["fields"]), named(fields_of(schema, DATA_FILE))
    of_entries = [record[entry[DATA_FILE]] for record in records]
    if spell_files:
        for file in of_entries:
            file[inner[PATH_OF_FILE]] = spelt(file[inner[PATH_OF_FILE]])
    if "manifests" in ways:
        if style.raw_names:
            spoil(state, fields_of(record_in(schema, DATA_FILE), PARTITION), [f[inner[PARTITION]] for f in of_entries])
        if style.more:
            # A file's entry must be the same in each manifest.
            keys = [key(by_ids(file, fields_of(schema, DATA_FILE))) for file in of_entries]
            add(
                fields_of(schema, DATA_FILE), of_entries, [values(random.Random(f"{style} {one}")) for one in keys], "f"
            )
        schema = styled(schema, style, pick)
        if pick.random() < 0.3:
            meta.pop("schema-id", None)
        found = [by_ids(file, fields_of(schema, DATA_FILE)) for file in of_entries]
        state.unknown |= {("file", *key(file)): beyond(file) for file in found}
    content = avro.written(meta, schema, records, style.codec, style.per_block)
    path = f"{base}/{uuid.uuid4()}-m0.avro"
    put(state, path, content)
    return path, len(content)


def spelt(at: str) -> str:
    """Returns a path in the spelling of Java's file system."""
    return re.sub("^file:/+", "file:/", at)


def spoil(state: State, fields: list[dict], records: list[dict]) -> None:
    """Uses the names of partition fields as they are, though Avro forbids them. Earlier versions of Esker did so."""
    for field in fields:
        if name := field.pop("iceberg-field-name", None):
            state.without_duckdb = True
            for record in records:
                record[name] = record.pop(field["name"])
            field["name"] = name


def values(pick: random.Random) -> dict[int, Any]:
    return {
        9000: pick.choice([None, "", "é", "x" * 50]), 9001: pick.choice([0.0, 1.5, -2.25]),
        9002: pick.choice([None, [], [1, -7]]), 9004: pick.choice([None, {"n": 7, "s": None}, {"n": -1, "s": "s"}]),
        9007: pick.choice([None, {"a": 1, "b": None}]),
    }  # fmt: skip


def add(fields: list[dict], records: list[dict], found: list[dict[int, Any]], prefix: str) -> None:
    """Adds fields that no reader knows, unless the records have some."""
    if any(field["field-id"] >= UNKNOWN for field in fields):
        return
    optional = {"default": None}
    inner = [
        {"name": "n", "type": "long", "field-id": 9005},
        {"name": "s", "type": ["null", "string"], "field-id": 9006, **optional},
    ]
    later = {"type": "record", "name": f"{prefix}_later", "fields": inner}
    pairs = {"type": "map", "values": ["null", "long"], "key-id": 9008, "value-id": 9009}
    array = {"type": "array", "items": "int", "element-id": 9003}
    new = [
        {"name": "text", "type": ["null", "string"], "field-id": 9000, **optional},
        {"name": "measure", "type": "double", "field-id": 9001},
        {"name": "numbers", "type": ["null", array], "field-id": 9002, **optional},
        {"name": "later", "type": ["null", later], "field-id": 9004, **optional},
        {"name": "pairs", "type": ["null", pairs], "field-id": 9007, **optional},
    ]
    fields += new
    for record, of_record in zip(records, found, strict=True):
        record |= {field["name"]: of_record[field["field-id"]] for field in new}


def styled(schema: Any, style: Style, pick: random.Random, within: int | None = None) -> Any:
    match schema:
        case list():
            order = reversed(schema) if style.null_last and schema[0] == "null" and len(schema) == 2 else schema
            return [styled(branch, style, pick, within) for branch in order]
        case {"type": "record", "fields": fields}:
            made = []
            for field in fields:
                kind = styled(field["type"], style, pick, field.get("field-id"))
                field = field | {"type": kind}
                if isinstance(kind, list) and kind[0] != "null":
                    field.pop("default", None)
                made.append(field)
            # PyIceberg reads partition values by position, so their order must stay.
            if style.shuffled and within != PARTITION:
                pick.shuffle(made)
            return schema | {"fields": made}
        case {"type": "array", "items": items}:
            kept = {k: v for k, v in schema.items() if not (style.no_maps and k == "logicalType")}
            return kept | {"items": styled(items, style, pick)}
        case {"type": "map", "values": of}:
            return schema | {"values": styled(of, style, pick)}
    return schema
