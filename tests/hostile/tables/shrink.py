"""A script that shows a fault, made smaller as long as it shows the same."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator

from ..known import Fault

Try = Callable[[dict], Fault | None]


def shrunk(script: dict, fault: Fault, attempt: Try, seconds: float) -> dict:
    """Greedy: steps go, then rows, then columns, until nothing more can go or the time is over."""
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
    """The step that a fault came after; without filters and values, which change as rows go."""
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
        if len(script["columns"]) > 1:
            yield script | {"columns": script["columns"][:at] + script["columns"][at + 1 :]}
