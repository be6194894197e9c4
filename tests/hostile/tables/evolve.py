"""Steps that change a table's definition: schema, spec, sort order, format version, properties."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import TypeAdapter
from pyiceberg.schema import Schema
from pyiceberg.table.name_mapping import update_mapping
from pyiceberg.transforms import parse_transform
from pyiceberg.types import IcebergType, NestedField

from .. import literals
from .state import SPEC, Refused, State


def type_of(text: object) -> IcebergType:
    return TypeAdapter(IcebergType).validate_python(text)


def names_to(schema: Schema, field_id: int) -> tuple[str, ...]:
    """Returns the names on the path to a field. Names may contain dots, so the full name can't be split."""

    def find(fields: tuple, above: tuple[str, ...]) -> tuple[str, ...] | None:
        for f in fields:
            if f.field_id == field_id:
                return (*above, f.name)
            if found := find(getattr(f.field_type, "fields", ()), (*above, f.name)):
                return found
        return None

    if found := find(schema.fields, ()):
        return found
    raise Refused(f"no field {field_id}")


def schema(state: State, step: dict) -> None:
    if step["change"] in BY_HAND:
        BY_HAND[step["change"]](state, step)
        return
    with state.table.update_schema(allow_incompatible_changes=False) as change:
        now = state.schema
        match step["change"]:
            case "add":
                above = names_to(now, step["in"]) if step.get("in") else ()
                change.add_column((*above, step["name"]), type_of(step["type"]), default_value=step.get("default"))
            case "drop":
                change.delete_column(names_to(now, step["field"]))
            case "rename":
                change.rename_column(names_to(now, step["field"]), step["name"])
            case "first":
                change.move_first(names_to(now, step["field"]))
            case "promote":
                change.update_column(names_to(now, step["field"]), field_type=type_of(step["type"]))


def add_field(state: State, step: dict) -> None:
    """Adds a field as JSON, because PyIceberg can't write two defaults of a field, nor defaults of nested types."""
    found, last = current(state)
    field, last = numbered(step["field json"], last)
    fields = found["fields"]
    if step.get("in"):
        above = field_of(found, step["in"])
        if above is None or above["type"].get("type") != "struct":
            raise Refused("no such struct")
        fields = above["type"]["fields"]
    if any(f["name"] == field["name"] for f in fields):
        raise Refused("there is such a field")
    fields.append(field)
    put(state, found, last)
    # Other writers update the name mapping with the schema, if there is one.
    if mapping := state.table.name_mapping():
        new = NestedField.model_validate(field)
        changed = update_mapping(mapping, {}, {step.get("in") or -1: [new]}).model_dump_json()
        state.update({"action": "set-properties", "updates": {"schema.name-mapping.default": changed}})


def write_default(state: State, step: dict) -> None:
    found, last = current(state)
    field = field_of(found, step["field"])
    kind = state.schema.find_field(step["field"]).field_type
    field["write-default"] = None if step["value"] is None else literals.default(step["value"], kind)
    put(state, found, last)


BY_HAND = {"add field": add_field, "write default": write_default}


def current(state: State) -> tuple[dict, int]:
    """Returns the current schema as JSON, and the last field id."""
    metadata = state.served()
    now = next(s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"])
    return now, metadata["last-column-id"]


def put(state: State, found: dict, last: int) -> None:
    found.pop("schema-id", None)
    new = {"action": "add-schema", "schema": found, "last-column-id": last}
    state.update(new, {"action": "set-current-schema", "schema-id": -1})


def field_of(kind: Any, field_id: int) -> dict | None:
    """Returns a field at any depth, by its id."""
    for f in kind.get("fields", []) if isinstance(kind, dict) else []:
        if f["id"] == field_id:
            return f
        if found := field_of(f["type"], field_id):
            return found
    return None


def numbered(kind: Any, last: int) -> tuple[Any, int]:
    """Returns a type with new ids after `last`, and the new last id."""
    if not isinstance(kind, dict):
        return kind, last
    made = {}
    for key, of in kind.items():
        if key in ("id", "element-id", "key-id", "value-id"):
            made[key] = last = last + 1
        elif key == "fields":
            made[key] = []
            for f in of:
                one, last = numbered(f, last)
                made[key].append(one)
        elif key in ("type", "element", "key", "value"):
            made[key], last = numbered(of, last)
        else:
            made[key] = of
    return made, last


def spec(state: State, step: dict) -> None:
    of_one = [f for f in state.spec.fields if f.source_id == step.get("field")]
    if step["change"] == "add" and of_one:
        add_by_hand(state, step)
        return
    with state.table.update_spec() as change:
        if step["change"] == "add":
            source = state.schema.find_column_name(step["field"])
            change.add_field(source, parse_transform(step["transform"]), step["name"])
        else:
            change.remove_field(state.spec.fields[step["at"] % len(state.spec.fields)].name)


def add_by_hand(state: State, step: dict) -> None:
    """Adds a partition field by hand: PyIceberg refuses days and hours of one column as redundant, Java does not."""
    fields = [{"source-id": f.source_id, "field-id": f.field_id, "name": f.name, "transform": str(f.transform)}
              for f in state.spec.fields]  # fmt: skip
    fields.append({"source-id": step["field"], "name": step["name"], "transform": step["transform"]})
    new = {"action": "add-spec", "spec": {"fields": fields}}
    state.update(new, {"action": "set-default-spec", "spec-id": -1})


def sort(state: State, step: dict) -> None:
    with state.table.update_sort_order() as change:
        for field, ascending in step["fields"]:
            source = state.schema.find_column_name(field)
            (change.asc if ascending else change.desc)(source, parse_transform("identity"))


def upgrade(state: State, step: dict) -> None:
    if step["to"] > state.version:
        # Only version 1 allows a table without a UUID.
        named = "table-uuid" in state.served()
        first = [] if named else [{"action": "assign-uuid", "uuid": str(uuid.uuid4())}]
        state.update(*first, {"action": "upgrade-format-version", "format-version": step["to"]})
        for row in state.rows:
            row.setdefault(-1, state.spec.spec_id)


def tag(state: State, step: dict) -> None:
    """Tags the newest snapshot."""
    if newest := state.table.current_snapshot():
        state.update(reference(step["name"], "tag", newest.snapshot_id))


def roll_back(state: State, step: dict) -> None:
    """Rolls main back. The model does not know the partition specs of the rows then."""
    chosen = state.table.current_snapshot()
    for _ in range(step["back"]):
        chosen = chosen and chosen.parent_snapshot_id and state.table.snapshot_by_id(chosen.parent_snapshot_id)
    if not chosen or chosen.snapshot_id not in state.history:
        raise Refused("no such snapshot")
    state.update(reference("main", "branch", chosen.snapshot_id))
    _, rows = state.history[chosen.snapshot_id]
    state.rows, state.mixed = [{**row, SPEC: state.spec.spec_id} for row in rows], True


def reference(name: str, kind: str, snapshot: int) -> dict:
    return {"action": "set-snapshot-ref", "ref-name": name, "type": kind, "snapshot-id": snapshot}


def properties(state: State, step: dict) -> None:
    state.update({"action": "set-properties", "updates": step["set"]})
