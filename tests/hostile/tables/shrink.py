"""Shrinks a script that shows a fault, as long as it shows the same fault."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

from pyiceberg.schema import Schema, assign_fresh_schema_ids, index_by_id

from ..known import Fault

Try = Callable[[dict], Fault | None]


def shrunk(script: dict, fault: Fault, attempt: Try, seconds: float) -> dict:
    """Removes steps, then rows, then columns, until nothing more can be removed or the time is over."""
    end, best = time.monotonic() + seconds, script
    again = True
    while again and time.monotonic() < end:
        again = False
        for smaller in candidates(best):
            if time.monotonic() > end:
                break
            found = attempt(copy.deepcopy(smaller))
            if found is not None and alike(found, fault):
                best, again = smaller, True
                break
    return best


def alike(a: Fault, b: Fault) -> bool:
    return a.kind == b.kind and same_place(a.detail) == same_place(b.detail)


def same_place(detail: str) -> str:
    """Returns the step of a fault, without filters and values, which change as rows are removed."""
    return detail.split(":")[0].split(" WHERE ")[0].split(",")[0][:60]


def candidates(script: dict) -> Iterator[dict]:
    steps = script["steps"]
    size = max(len(steps) // 2, 1)
    while size:
        for at in range(0, len(steps) - 1, size):
            yield script | {"steps": steps[:at] + steps[at + size :]}
        size = size // 2 if size > 1 else 0
    for at, step in enumerate(steps):
        for rows in ("rows", "keys"):
            found = step.get(rows) or []
            for part in (found[: len(found) // 2], found[len(found) // 2 :], found[1:]):
                if part and len(part) < len(found):
                    yield script | {"steps": [*steps[:at], step | {rows: part}, *steps[at + 1 :]]}
    for at in range(len(script["columns"])):
        if len(script["columns"]) > 1 and (smaller := without_column(script, at)):
            yield smaller


def without_column(script: dict, at: int) -> dict | None:
    """Returns the script without a column, if no step uses it. The catalog assigns ids again, so other ids change."""
    columns = script["columns"][:at] + script["columns"][at + 1 :]
    ids = numbers(script["columns"])
    gone, last = ids.pop(at), max(n for of_column in ids for n in of_column)
    moved = dict(zip((n for of in ids for n in of), (n for of in numbers(columns) for n in of), strict=True))
    try:
        steps = [renumbered(step, moved, set(gone), last) for step in script["steps"]]
    except KeyError:
        return None
    return script | {"columns": columns, "steps": steps}


def numbers(columns: list[dict]) -> list[list[int]]:
    """Returns the field ids of each column, always in the same order."""
    schema = assign_fresh_schema_ids(Schema.model_validate({"type": "struct", "fields": columns}))
    return [list(index_by_id(Schema(f))) for f in schema.fields]


def renumbered(step: dict, moved: dict[int, int], gone: set[int], last: int) -> dict:
    """Returns a step with changed ids. A KeyError means that it uses a removed field."""

    def new(old: int) -> int:
        # Fields that are added later have ids after those of the first schema.
        return old - len(gone) if old > max(last, *gone) else moved[old]

    def value(of: Any) -> Any:
        match of:
            case {"v": _}:
                return of
            case {"s": fields}:
                kept = {k: v for k, v in fields.items() if int(k) not in gone}
                return {"s": {str(new(int(k))): value(v) for k, v in kept.items()}}
            case list():
                return [value(v) for v in of]
        return of

    def predicate(of: list) -> list:
        if of[0] in ("not", "and", "or"):
            return [of[0], *map(predicate, of[1:])]
        return [of[0], [n if isinstance(n, dict) else new(n) for n in of[1]], *of[2:]]

    about = {
        "rows": value, "keys": value, "where": predicate, "asked": predicate, "field": new, "in": new,
        "omit": lambda fields: [new(n) for n in fields if n not in gone],
        "fields": lambda fields: [[new(f[0]), f[1]] if isinstance(f, list) else new(f) for f in fields],
    }  # fmt: skip
    return {k: about[k](v) if k in about and v is not None else v for k, v in step.items()}
