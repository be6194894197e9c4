"""Tables as other catalogs and writers leave them: legal or readable by all, but not written by an engine here.

The step changes the table's metadata by hand, and registers the result in place of the table.
"""

from __future__ import annotations

import json
import random
import struct
import uuid
from typing import Any
from urllib.parse import quote

from .. import predicates
from ..known import Fault
from . import manifests
from .state import State

# The name of a JSON field that no reader knows.
MARK = "x-hostile"


def step(pick: random.Random, s: State, always: tuple[str, ...] = ()) -> dict:
    fit = [way for way, versions in WAYS.items() if s.version in versions and way not in always]
    ways = [*always, *pick.sample(fit, pick.randrange(1, 4))]
    return {"do": "foreign", "seed": pick.randrange(10**6), "ways": sorted(ways, key=list(WAYS).index)}


def foreign(state: State, step: dict) -> None:
    pick, metadata = random.Random(step["seed"]), state.served()
    ways = [way for way in step["ways"] if state.version in WAYS[way]]
    if manifests.WAYS & set(ways):
        manifests.written_anew(state, pick, metadata, ways)
    for way in ways:
        if way in IN_JSON:
            IN_JSON[way](state, pick, metadata)
    register(state, metadata)
    state.tell("foreign")


def register(state: State, metadata: dict) -> None:
    at = f"{state.table.location()}/metadata/99999-{uuid.uuid4()}.metadata.json"
    manifests.put(state, at, json.dumps(metadata).encode())
    body = {"name": state.name[-1], "metadata-location": at, "overwrite": True}
    namespace = quote("\x1f".join(state.name[:-1]), safe="")
    answer = state.stage.api("POST", f"/v1/default/namespaces/{namespace}/register", body)
    if not answer.ok:
        raise Fault("register", f"{answer.status_code} {answer.text}")
    # Without a UUID, the table is not recognized as Esker's own.
    state.api("POST", "/claim")


def bare(state: State, pick: random.Random, metadata: dict) -> None:
    """Changes snapshots to the form that Snowflake writes."""
    for snapshot in metadata.get("snapshots", []):
        snapshot.pop("schema-id", None)
        # The snapshot no longer has a schema id.
        state.bare.add(snapshot["snapshot-id"])
        state.history.pop(snapshot["snapshot-id"], None)
        if pick.random() < 0.5:
            snapshot.pop("summary", None)
        elif "summary" in snapshot:
            snapshot["summary"].pop("operation", None)


def inline(state: State, pick: random.Random, metadata: dict) -> None:
    """Changes snapshots to have manifests inline, without a manifest list."""
    for snapshot in metadata.get("snapshots", []):
        if at := snapshot.pop("manifest-list", None):
            snapshot["manifests"] = [one.path for one in manifests.listed(state, at)]
            state.stage.lists[snapshot["snapshot-id"]] = at
    # Unknown fields of the manifest list are lost with it.
    state.unknown = {of: values for of, values in state.unknown.items() if of[0] != "manifest"}


def no_uuid(state: State, pick: random.Random, metadata: dict) -> None:
    metadata.pop("table-uuid", None)


def transforms(state: State, pick: random.Random, metadata: dict) -> None:
    """Adds an unused spec and sort order, with unknown transforms and transforms of several columns."""
    ids = [path[-1] for path in predicates.paths(state.schema.fields)]
    if not ids:  # all columns are lists or maps, which have no transforms
        return
    last = max([metadata.get("last-partition-id") or 999, 999])
    fields = [
        {"source-id": pick.choice(ids), "field-id": last + 1, "name": f"zo {last}", "transform": "zorder[7]"},
        {"source-ids": pick.sample(ids, min(2, len(ids))), "field-id": last + 2, "name": f"multi_{last}",
         "transform": pick.choice(["hilbert[4]", "bucket[4]"])},
    ]  # fmt: skip
    specs, orders = metadata["partition-specs"], metadata["sort-orders"]
    number = 1 + max(spec["spec-id"] for spec in specs)
    specs.append({"spec-id": number, "fields": pick.sample(fields, pick.randrange(1, 3))})
    metadata["last-partition-id"] = last + 2
    by = {"source-id": pick.choice(ids), "direction": "desc", "null-order": "nulls-last", "transform": "geohash[5]"}
    orders.append({"order-id": 1 + max(order["order-id"] for order in orders), "fields": [by]})


def references(state: State, pick: random.Random, metadata: dict) -> None:
    """Adds branches and tags at random snapshots."""
    for snapshot in pick.sample(metadata.get("snapshots", []), min(3, len(metadata.get("snapshots", [])))):
        name = f"{pick.choice(['a b', 'a/b', 'é', 'main2', '1', 'null'])}{pick.randrange(1000)}"
        found: dict[str, Any] = {"snapshot-id": snapshot["snapshot-id"], "type": pick.choice(["branch", "tag"])}
        if pick.random() < 0.4:
            found["max-ref-age-ms"] = 10**12
        if found["type"] == "branch" and pick.random() < 0.5:
            found |= {"min-snapshots-to-keep": pick.randrange(1, 4), "max-snapshot-age-ms": 10**12}
        metadata.setdefault("refs", {})[name] = found


def keys(state: State, pick: random.Random, metadata: dict) -> None:
    """Adds encryption keys that are not used."""
    found = metadata.setdefault("encryption-keys", [])
    number = len(found)
    found += [
        {"key-id": f"kek{number}", "encrypted-key-metadata": "AAECAwQ=", "properties": {"key-timestamp": "1"}},
        {"key-id": f"k{number}", "encrypted-key-metadata": "BQYHCA==", "encrypted-by-id": f"kek{number}"},
    ]


def statistics(state: State, pick: random.Random, metadata: dict) -> None:
    """Adds statistics of an unknown kind, and partition statistics that can't be read."""
    for snapshot in pick.sample(metadata.get("snapshots", []), min(2, len(metadata.get("snapshots", [])))):
        of, base = snapshot["snapshot-id"], f"{state.table.location()}/metadata/{uuid.uuid4()}"
        number = snapshot.get("sequence-number", 0)
        blob = {"type": "x-hostile-v1", "fields": [1], "snapshot-id": of, "sequence-number": number}
        payload = json.dumps({"blobs": [blob | {"offset": 4, "length": 3}], "properties": {"by": "hostile"}}).encode()
        footer = b"PFA1" + payload + struct.pack("<I", len(payload)) + b"\0\0\0\0PFA1"
        manifests.put(state, f"{base}.stats", b"PFA1abc" + footer)
        manifests.put(state, f"{base}.partitions", b"PAR1 not really")
        made = {"snapshot-id": of, "statistics-path": f"{base}.stats", "file-size-in-bytes": 7 + len(footer)}
        made |= {"file-footer-size-in-bytes": len(footer), "blob-metadata": [blob | {"properties": {"x": "y"}}]}
        of_partitions = {"snapshot-id": of, "statistics-path": f"{base}.partitions", "file-size-in-bytes": 15}
        for name, entry in (("statistics", made), ("partition-statistics", of_partitions)):
            found = metadata.setdefault(name, [])
            found[:] = [other for other in found if other["snapshot-id"] != of] + [entry]


def unknown(state: State, pick: random.Random, metadata: dict) -> None:
    """Adds unknown fields to every kind of object."""
    for key, found in objects(metadata):
        if pick.random() < 0.5:
            found[MARK] = pick.choice([1, "x", None, [1, {"a": None}], {"b": [1.5, "é"], "c": {}}, True])
            state.marks[key] = found[MARK]


def objects(metadata: dict) -> list[tuple[tuple, dict]]:
    """Returns the objects that never change while they exist, each with a key."""
    found: list[tuple[tuple, dict]] = [(("table",), metadata)]
    for schema in metadata.get("schemas", []):
        found.append((("schema", schema["schema-id"]), schema))
        found += [(("field", schema["schema-id"], f["id"]), f) for f in fields_in(schema)]
    for spec in metadata.get("partition-specs", []):
        found.append((("spec", spec["spec-id"]), spec))
        found += [(("spec field", spec["spec-id"], f["field-id"]), f) for f in spec["fields"] if "field-id" in f]
    for order in metadata.get("sort-orders", []):
        if order["order-id"]:
            found.append((("order", order["order-id"]), order))
            found += [(("order field", order["order-id"], n), f) for n, f in enumerate(order["fields"])]
    found += [(("snapshot", one["snapshot-id"]), one) for one in metadata.get("snapshots", [])]
    found += [(("reference", name), one) for name, one in (metadata.get("refs") or {}).items() if name != "main"]
    found += [(("snapshot log", str(one)), one) for one in metadata.get("snapshot-log", []) if MARK not in one]
    for kind in ("statistics", "partition-statistics"):
        found += [((kind, one["statistics-path"]), one) for one in metadata.get(kind, [])]
    return found + [(("key", one["key-id"]), one) for one in metadata.get("encryption-keys", [])]


def fields_in(kind: Any) -> list[dict]:
    match kind:
        case {"fields": fields}:
            return [*fields, *(f for field in fields for f in fields_in(field["type"]))]
        case {"element": element}:
            return fields_in(element)
        case {"key": key, "value": value}:
            return fields_in(key) + fields_in(value)
    return []


def lost(state: State, foreign: bool) -> str | None:
    """Returns an unknown field that Esker lost, if any. Fields of objects that another writer rewrote do not count."""
    if state.marks:
        there = dict(objects(state.served()))
        gone = [key for key, mark in state.marks.items() if key in there and there[key].get(MARK, "none") != mark]
        if gone:
            return f"fields of JSON that nobody knows: {[(key, there[key]) for key in gone[:3]]}"
    if state.unknown:
        there = manifests.unknown(state)
        gone = [key for key, values in state.unknown.items() if key in there and there[key] != values]
        if gone and not foreign:
            return f"fields of Avro that nobody knows: {[(k, state.unknown[k], there[k]) for k in gone[:3]]}"
        for key in gone:
            del state.unknown[key]
    return None


IN_JSON = {
    "bare snapshots": bare, "inline manifests": inline, "no uuid": no_uuid, "transforms": transforms,
    "references": references, "keys": keys, "statistics": statistics, "unknown fields": unknown,
}  # fmt: skip
# The changes, in their order, with the format versions that they fit.
WAYS: dict[str, tuple[int, ...]] = {
    "manifests": (1, 2, 3), "spellings": (1, 2, 3), "no counts": (1,), "bare snapshots": (1, 2, 3), "no uuid": (1,),
    "transforms": (1, 2, 3), "references": (1, 2, 3), "keys": (3,), "statistics": (1, 2, 3),
    "unknown fields": (1, 2, 3), "inline manifests": (1,),
}  # fmt: skip
