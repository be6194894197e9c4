"""The history of one table, from a seed or a script. After each step it is compared with the other engines."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from adbc_driver_manager import Error as DatabaseError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import parse_transform
from pyiceberg.types import NestedField

from .. import names, predicates, values
from ..engines import Stage
from ..known import Fault
from ..predicates import NoOpinion
from . import around, evolve, foreign, maintain, schemas, themes, writes
from .compare import Tally, agree, content
from .state import Refused, State

APPLY: dict[str, Callable[[State, dict], None]] = {
    "insert": writes.insert, "delete": writes.delete, "update": writes.update, "overwrite": writes.overwrite,
    "equality": writes.equality, "positions": writes.positions, "schema": evolve.schema, "spec": evolve.spec,
    "sort": evolve.sort, "tag": evolve.tag, "roll back": evolve.roll_back, "upgrade": evolve.upgrade,
    "properties": evolve.properties, "maintain": maintain.job,
    "undo": maintain.undo, "sweep": maintain.sweep, "look": maintain.look,
    "foreign": foreign.foreign,
}  # fmt: skip
WRITERS = ("pyiceberg", "duckdb", "spark")
BY_HAND = ("equality", "positions")


def beginning(seed: int, new: bool = False) -> dict:
    """Returns a script without steps: the table's name, columns and properties.

    With `new`, the table has format version 3 if the theme allows it, and columns of that version's types.
    """
    pick, share = random.Random(f"beginning {seed}"), 0.35 if new else 0.02
    ids = schemas.Ids(for_spark=for_spark(seed), new=share)
    theme = themes.THEMES[seed % len(themes.THEMES)]
    wanted = themes.WANTED[theme]
    version = 3 if new and 3 in wanted.versions else pick.choice(wanted.versions)
    columns = []
    for name, kind in wanted.columns:
        if kind.endswith(" within"):
            kind = schemas.around(pick, ids, kind.removesuffix(" within"))
        elif kind == "shape":
            kind = pick.choice(schemas.SHAPES)
        elif kind == "struct":
            inner = [{"id": ids(), "name": n, "required": False, "type": t} for n, t in (("a", "int"), ("b", "string"))]
            if pick.random() < 0.5:
                deep = [{"id": ids(), "name": "c", "required": False, "type": "long"}]
                inner.append({"id": ids(), "name": "d", "required": False, "type": {"type": "struct", "fields": deep}})
            kind = {"type": "struct", "fields": inner}
        columns.append((name, kind))
    if new and version == 3:
        more = pick.sample(["n1", "n2", "n3"], pick.randrange(1, 3))
        columns += [(name, schemas.new(pick, 0, for_spark(seed))) for name in more]
    more = pick.randrange(1, 4) + 2 * (not columns) if wanted.others else 0
    hostile = 0.0 if theme == "labels" else 0.5
    made = schemas.columns(pick, version, columns, more, ids, hostile)
    by = pick.choice(wanted.by)
    if theme == "anything":
        plain = schemas.partition_fields(Schema.model_validate({"type": "struct", "fields": made}).fields)
        chosen = pick.sample(plain, min(len(plain), pick.randrange(3)))
        by = [
            (f.name, pick.choice(schemas.transforms(f.field_type)))
            for f in chosen
            if f.field_id in {c["id"] for c in made}
        ]
    namespace = "hostile" if pick.random() < 0.6 else f"n{pick.choice(names.HOSTILE)}".replace("/", "_")
    return {
        "seed": seed, "theme": theme, "version": version, "namespace": namespace,
        "table": f"t{seed} {pick.choice(names.HOSTILE)}", "columns": made, "by": by, "new": share, "steps": [],
    }  # fmt: skip


def create(stage: Stage, script: dict, name: str) -> State:
    catalog = stage.pyiceberg.catalog
    # SQL can't name namespaces whose levels have dots (docs/sql.md, Names).
    namespace = tuple(script["namespace"].split("."))
    for depth in range(len(namespace)):
        catalog.create_namespace_if_not_exists(namespace[: depth + 1])
    schema = Schema.model_validate({"type": "struct", "fields": script["columns"]})
    fields = []
    for n, (column, transform) in enumerate(script["by"]):
        if source := source_of(schema, column):
            kept = column if transform == "identity" else f"{column}_{n}"
            fields.append(PartitionField(source.field_id, 1000 + n, parse_transform(transform), kept))
    properties = {"format-version": str(script["version"]), "esker.expire.min-age-ms": "0"}
    table = catalog.create_table(
        (*namespace, name), schema, partition_spec=PartitionSpec(*fields), properties=properties
    )
    with_spark = stage.spark is not None and for_spark(script["seed"])
    return State(stage, table, with_spark=with_spark, new=script.get("new", 0.0))


def source_of(schema: Schema, path: str) -> NestedField | None:
    """Returns a column, or a nested field if no name on its path has a dot."""
    found = next((f for f in schema.fields if f.name == path), None)
    name, _, inner = path.partition(".")
    above = next((f for f in schema.fields if f.name == name), None) if inner else None
    return found or next((f for f in getattr(above and above.field_type, "fields", ()) if f.name == inner), None)


def for_spark(seed: int) -> bool:
    return seed % 20 == 0


def run(stage: Stage, script: dict, tally: Tally, table: str, replay: bool, sparing: bool = False) -> None:
    """Runs a history. Raises a fault if Esker is wrong. Without `replay`, generates the steps and stores them.

    A sparing run compares after the last step only, and where the model has to learn what a writer did.
    """
    state = begin(stage, script, tally, table)
    try:
        follow(state, script, tally, replay, sparing)
    finally:
        # An unreadable table must not affect the next history.
        with suppress(Exception):
            stage.pyiceberg.catalog.drop_table(state.name)


def begin(stage: Stage, script: dict, tally: Tally, table: str) -> State:
    try:
        return create(stage, script, table)
    except Exception as error:
        # The catalog may refuse names. Then the table gets plain ones.
        tally.note("refused: create", f"{script['namespace']!r}.{table!r}: {error}")
        script |= {"namespace": "hostile", "table": f"t{script['seed']}"}
        return create(stage, script, f"{script['table']}_{random.randrange(10**9)}")


def follow(state: State, script: dict, tally: Tally, replay: bool, sparing: bool) -> None:
    pick, ids = (
        random.Random(f"steps {script['seed']}"),
        schemas.Ids(100_000, for_spark(script["seed"]), new=script.get("new", 0.0)),
    )
    made = iter(map(of_json, list(script["steps"]))) if replay else themes.history(pick, state, script["theme"], ids)
    for n, step in enumerate(made, 1):
        if step is None:
            continue
        if not replay:
            step["check"] = pick.randrange(10**9)
            script["steps"].append(as_json(step))
        carry_out(state, step, tally, sparing and n < len(script["steps"]))
    tally.note("tables")
    tally.update({f"did: {what}": n for what, n in state.seen.items()})


def carry_out(state: State, step: dict, tally: Tally, sparing: bool) -> None:
    what = label(step)
    state.foreign = step.get("by") in WRITERS or step["do"] == "overwrite"
    state.duckdb_rests &= step["do"] not in ("maintain", "undo", "roll back")
    before = list(state.rows)
    try:
        APPLY[step["do"]](state, step)
        tally.note("steps")
    except Fault:
        raise
    except (Refused, NoOpinion) as error:
        state.rows = before
        tally.note(f"refused: {what}", str(error)[:300])
    except maintain.Failed as error:
        raise Fault("maintenance", f"{what}: {error}") from error
    except Exception as error:
        state.rows = before
        by_esker = step.get("by") == "esker" or step["do"] in ("maintain", "undo", "look", "sweep", "foreign")
        if by_esker and not isinstance(error, DatabaseError):
            raise
        may = state.version == 1 and "of format version 1 has no row-level deletes" in str(error)
        # A truncated decimal may have one digit more than its type. Java and PyIceberg can't write that either.
        may |= step["do"] == "insert" and re.search("its partition has .* which is no decimal", str(error)) is not None
        if by_esker and not may:
            raise Fault("error", f"{what}: {type(error).__name__}: {error}") from error
        tally.note(f"refused: {what}", f"{type(error).__name__}: {error}"[:300])
    state.refresh()
    if gone := foreign.lost(state, state.foreign or step.get("by") == "craft" or step["do"] in BY_HAND):
        raise Fault("lost", f"{what}: {gone}")
    if (step["do"] in ("maintain", "look") or step.get("by") == "esker") and (found := around.wrong(state)):
        raise Fault("bounds", f"{what}: {found}")
    if not sparing:
        agree(state, random.Random(step["check"]), tally, what, step.get("asked"))
        return
    state.remember()
    if state.foreign:
        content(state, tally, what)


def label(step: dict) -> str:
    more = step.get("by") or step.get("kind") or step.get("change") or step.get("scope") or ""
    strategy = step.get("options", {}).get("strategy", "")
    return " ".join(part for part in (step["do"], more, strategy) if part)


PREDICATES, VALUES, ROWS = ("where", "asked"), ("value",), ("rows", "keys")


def as_json(step: dict) -> dict:
    return {k: converted(k, v, predicates.as_json, values.as_json) for k, v in step.items()}


def of_json(step: dict) -> dict:
    return {k: converted(k, v, predicates.of_json, values.of_json) for k, v in step.items()}


def converted(key: str, value: Any, predicate: Callable, plain: Callable) -> Any:
    if key in PREDICATES:
        return predicate(value)
    if key in VALUES:
        return plain(value)
    return [plain(row) for row in value] if key in ROWS else value
