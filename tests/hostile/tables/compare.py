"""Compares the answers of engines to one question, and decides who is wrong."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import duckdb
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    IcebergType,
    TimestampNanoType,
    TimestamptzNanoType,
    UnknownType,
    UUIDType,
)

from .. import arrow, predicates, values, variants
from ..engines import Rows, of_duckdb
from ..known import Fault, known
from ..names import quoted
from ..opaque import OPAQUE, comparable, within
from ..predicates import NoOpinion
from ..variants import Variant
from .state import SPEC, State, projected

EXAMPLES = 3


class Tally(Counter):
    """Counts of disagreements by kind, with the first examples of each."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, list[str]] = {}

    def note(self, kind: str, example: str = "") -> None:
        self[kind] += 1
        if example and len(self.examples.setdefault(kind, [])) < EXAMPLES:
            self.examples[kind].append(example)


def agree(state: State, pick: random.Random, tally: Tally, after: str, pinned: list | None = None) -> None:
    """Compares rows, filters, aggregates and time travel. `pinned` is the filter that showed the fault being shrunk."""
    state.remember()
    content(state, tally, after)
    # The column of a pinned filter may be missing after steps were removed.
    if pinned and not predicates.fits(pinned, state.schema):
        pinned = None
    for where in [pinned] if pinned else [predicates.some(pick, state.schema, state.live()) for _ in range(2)]:
        kept = [row for row in state.live() if predicates.holds(where, row) is True]
        try:
            ask(state, tally, after, state.schema, None, where, kept, bool(pinned) or pick.random() < 0.5)
        except Fault as fault:
            fault.where = where
            raise
    aggregates(state, tally, after)
    present = {s.snapshot_id: s for s in state.table.snapshots()}
    known_ones = [i for i in state.history if i in present]
    if known_ones:
        chosen = pick.choice(known_ones)
        schema, rows = state.history[chosen]
        ask(state, tally, f"{after}, at an earlier snapshot", schema, chosen, None, rows, pick.random() < 0.5)


def ask(
    state: State,
    tally: Tally,
    after: str,
    schema: Schema,
    snapshot: int | None,
    where: list | None,
    model: Rows,
    planned: bool = True,
) -> None:
    stage, answers, errors = state.stage, {}, {}
    # The part of the schema that each engine can read.
    read: dict[str, Schema] = {}
    skipped = [*([] if planned else [stage.planned]), *([stage.duckdb] if state.duckdb_rests else [])]
    others = [e for e in stage.others if state.asks(e.name) and e not in skipped]
    for engine in [stage.esker, *others, *([stage.spark] if state.with_spark else [])]:
        part = engine.reads(schema)
        if engine is stage.duckdb and any(bytes_in_variants(row) for row in model):
            part = None
        if part is None or (where and not predicates.fits(where, part)):
            tally.note(f"left out: {engine.name}: {', '.join(sorts(schema))}")
            continue
        if part != schema:
            tally.note(f"asked for some columns: {engine.name}, without {', '.join(sorts(schema))}")
        try:
            read[engine.name] = part
            answers[engine.name] = engine.read(state.table, state.name, part, snapshot, where)
        except NoOpinion:
            tally.note(f"not asked: {engine.name}")
        except Exception as error:  # Engines raise various exceptions. An engine that fails has no vote.
            errors[engine.name] = f"{type(error).__name__}: {error}"
            state.duckdb_rests |= isinstance(error, (duckdb.FatalException, duckdb.InternalException))
    tally.note("comparisons")
    if where and (about := predicates.about(where)):
        tally.note(f"filters on {about}")
    question = f"after {after}{state.about}" + (f" WHERE {predicates.sql(where, schema, 'esker')}" if where else "")
    # Esker's and the model's rows are reduced to what each engine can read.
    asked = {n: Asked(bag(rows, read[n]), *(seen(n, found, read[n]) for found in (answers.get("esker"), model)))
             for n, rows in answers.items()}  # fmt: skip
    judge(state, tally, question, bag(model, schema), asked, errors, where is None and snapshot is None)


@dataclass
class Asked:
    """An engine's answer, with the expected ones according to Esker and to the model."""

    answer: Counter
    ours: Counter
    model: Counter


def seen(engine: str, rows: Rows | None, part: Schema) -> Counter:
    rows = [projected(row, part) for row in rows or []]
    return bag([of_duckdb(row) for row in rows] if engine == "duckdb" else rows, part)


def bytes_in_variants(value: Any) -> bool:
    """Returns True if a variant has binary values, whose text differs in DuckDB."""
    match value:
        case Variant(tree):
            return variants.any_in(tree, lambda leaf: isinstance(leaf, bytes))
        case dict():
            return any(bytes_in_variants(v) for v in value.values())
        case list():
            return any(bytes_in_variants(v) for v in value)
    return False


def sorts(schema: Schema) -> list[str]:
    """Returns the types of a schema that few engines support."""
    found = {str(t).partition("(")[0] for f in schema.fields for t in within(f.field_type) if is_new(t)}
    return sorted(found)


def is_new(kind: IcebergType) -> bool:
    return isinstance(kind, (*OPAQUE, UnknownType, TimestampNanoType, TimestamptzNanoType))


def bag(rows: Rows, schema: Schema) -> Counter:
    return Counter(values.key(projected(row, schema)) for row in rows)


def content(state: State, tally: Tally, after: str) -> None:
    ask(state, tally, after, state.schema, None, None, state.live())


def judge(state: State, tally: Tally, question: str, model: Counter, answers: dict, errors: dict, whole: bool) -> None:
    for name, error in errors.items():
        if name not in ("esker", "planned"):
            tally.note(f"no vote: {name}", f"{question}: {error[:300]}")
    others = {n: a for n, a in answers.items() if n not in ("esker", "planned")}
    if "esker" in errors:
        if any(a.answer == a.model for a in others.values()) or not others:
            raise Fault("error", f"{question}: {errors['esker']}")
        tally.note("nobody reads", f"{question}: {errors}")
        return
    ours = answers["esker"].answer
    references = {"model": (ours, model)} | {n: (a.ours, a.answer) for n, a in others.items()}
    against = {n: f"{question}: {difference(*pair)}" for n, pair in references.items() if pair[0] != pair[1]}
    unknown = [n for n in against if not known(n, against[n])]
    if len(unknown) > 1 or (unknown == ["model"] and not (whole and state.foreign)):
        raise Fault("rows", f"{question}: against {', '.join(unknown)}: {difference(*references[unknown[0]])}")
    for name, text in against.items():
        entry = known(name, text)
        tally.note(f"known: {name}: {entry.what}" if entry else f"foreign: {name}", text)
    if "model" in against and whole:
        adopt(state)
    served(tally, question, answers, errors)


# PyIceberg reads no plans with equality deletes, none with a partition that is NULL, none with a filter on a field
# whose name has a dot, and takes a decimal or a time of a partition for the text that JSON has for it. It compares no
# UUIDs of rows, and takes the default of a list for its text. JSON has no infinity.
UNREAD = [
    "equality deletes",
    "input_value=None",
    "No match for FieldRef",
    "int or Decimal object expected, got str",
    "between instances of 'str' and '",
    "object of type <class 'str'> cannot be converted to int",
    "Cannot convert LongLiteral",
    "JSON can't express",
    "Cannot promote an binary to geo",
    r"Could not convert '\[' with type str",
    r"no kernel matching input types \(extension<arrow.uuid>",
]


def served(tally: Tally, question: str, answers: dict[str, Asked], errors: dict) -> None:
    """Compares PyIceberg's rows of a scan that the server planned, if PyIceberg is right when it plans itself."""
    unread = re.search("|".join(UNREAD), errors.get("planned", ""))
    if "planned" in errors and "pyiceberg" in answers and not unread:
        raise Fault("planned scan", f"{question}: {errors['planned']}")
    planned, alone = answers.get("planned"), answers.get("pyiceberg")
    if planned and planned.answer != planned.ours and (alone is None or alone.answer == alone.ours):
        text = f"{question}: {difference(planned.ours, planned.answer)}"
        # If it can't plan by itself, its own mistakes show only here.
        entry = known("planned", text) or (None if "pyiceberg" in answers else known("pyiceberg", text))
        if not entry:
            raise Fault("planned scan", text)
        tally.note(f"known: planned: {entry.what}", text)


def adopt(state: State) -> None:
    """Takes the engines' rows into the model: all readers agree that the writer did something else than it should."""
    found = state.stage.esker.read(state.table, state.name, state.schema, None, None)
    state.rows, state.mixed = [{**row, SPEC: state.spec.spec_id} for row in found], True
    if (newest := state.table.current_snapshot()).snapshot_id not in state.bare:
        state.history[newest.snapshot_id] = (state.schema, state.live())


def difference(ours: Counter, theirs: Counter) -> str:
    more, less = list((ours - theirs).elements()), list((theirs - ours).elements())
    if more and len(more) == len(less):
        # The same rows have other values: reports the columns that differ.
        one = more[0]
        other = max(less, key=lambda row: sum(a == b for a, b in zip(one, row, strict=True)))
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
        some, others = (str(list(side))[:900] for side in zip(*pairs, strict=True))
        return f"{len(more)} too many, {len(less)} missing; too many {some}; missing {others}"
    return f"{len(more)} too many, {len(less)} missing; too many {str(more[:2])[:600]}; missing {str(less[:2])[:600]}"


def aggregates(state: State, tally: Tally, after: str) -> None:
    """Compares count, min and max of all columns, which may come from statistics."""
    asked = [f for f in state.schema.fields if comparable(f.field_type)]
    asked = [f for f in asked if not isinstance(f.field_type, (BooleanType, UUIDType))]
    counted = [f for f in state.schema.fields if isinstance(f.field_type, (*OPAQUE, UnknownType))]
    rows, esker = state.live(), state.stage.esker
    columns = [f"{name}({quoted(f.name)})" for f in asked for name in ("min", "max", "count")]
    columns += [f"count({quoted(f.name)})" for f in counted]
    sql = f"SELECT count(*){''.join(', ' + c for c in columns)} FROM {esker.table(state.name)}"
    expected: list[Any] = [len(rows)]
    for f in asked:
        present = [row[f.field_id] for row in rows if row[f.field_id] is not None]
        ends = [end(present, key=predicates.ordered) for end in (min, max)] if present else [None, None]
        expected += [*ends, len(present)]
    expected += [sum(row[f.field_id] is not None for row in rows) for f in counted]
    try:
        answer = esker.query(sql)
    except Exception as error:
        raise Fault("error", f"after {after}: {sql}: {error}") from error
    kinds = [None, *(k for f in asked for k in (f.field_type, f.field_type, None)), *(None for _ in counted)]
    for i, (kind, right) in enumerate(zip(kinds, expected, strict=True)):
        ours = answer.column(i).to_pylist()[0] if kind is None else arrow.values(answer.column(i), kind)[0]
        # Either of two equal zeros may be the smallest.
        if ours != right and values.key(ours) != values.key(right):
            raise Fault("aggregate", f"after {after}: {(['count(*)', *columns])[i]} is {ours!r}, not {right!r}")
    tally.note("comparisons")
