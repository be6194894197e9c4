"""The text of a statement in two dialects: Esker's, perhaps with parameters, and DuckDB's."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

SPACES = [
    " ",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\t",
    " /* it's; -- \" */ ",
    " -- a ' and a \" ?\n",
    "/**/",
    " /* $1 ? */ ",
]


@dataclass(frozen=True)
class Text:
    """A text in both dialects. `esker` has a `?` for each value of `bound`, in order."""

    esker: str
    duckdb: str
    bound: tuple = ()
    features: frozenset[str] = field(default=frozenset())

    def tagged(self, *features: str) -> Text:
        return Text(self.esker, self.duckdb, self.bound, self.features | set(features))


def same(text: str) -> Text:
    return Text(text, text)


def put(form: str, *parts: Text | str) -> Text:
    """Replaces each `{}` of a form by a part, in order."""
    texts = [same(part) if isinstance(part, str) else part for part in parts]
    return Text(
        form.format(*(t.esker for t in texts)),
        form.format(*(t.duckdb for t in texts)),
        tuple(value for t in texts for value in t.bound),
        frozenset().union(*(t.features for t in texts)) if texts else frozenset(),
    )


def joined(separator: str, parts: list[Text]) -> Text:
    return put(separator.join("{}" for _ in parts), *parts)


def space(pick: random.Random) -> Text:
    found = pick.choice(SPACES)
    return same(found).tagged("comment") if "*" in found or "--" in found else same(found)


def spaced(pick: random.Random, *parts: Text | str | None) -> Text:
    """Joins parts with random blanks, line breaks and comments."""
    there = [part for part in parts if part is not None]
    result = put("{}", there[0])
    for part in there[1:]:
        result = put("{}{}{}", result, space(pick), part)
    return result


def bound(literal: Text, value: Any) -> Text:
    return Text("?", literal.duckdb, (value,), literal.features | {"parameter"})
