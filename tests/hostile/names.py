"""Difficult names."""

from __future__ import annotations

import random

PLAIN = ["id", "p", "s", "value", "ts", "n", "amount"]
HOSTILE = [
    "a b", "a.b", 'q"q', "it's", "SELECT", "select", "order", "Id", "ID", "1st", "é", "日本", "$x", "a$b", "a/b", "50%",
    "file_path", "pos", "_row", "null", "true", "a-b", "user", "table", "values", "timestamp", "\t", "x;y", "--", "?",
    "🦊", " lead", "trail ", "_id", "count(*)", "partition", "a=b", "\\",
]  # fmt: skip


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def some(pick: random.Random, taken: set[str], hostile: float, for_duckdb: bool = False) -> str:
    """Returns an unused name, mostly also unused in another case, because DuckDB compares names without case."""
    folded = {name.lower() for name in taken} if for_duckdb or pick.random() < 0.9 else taken
    while True:
        name = pick.choice(HOSTILE) if pick.random() < hostile else f"{pick.choice(PLAIN)}{pick.randrange(100) or ''}"
        if name not in taken and name.lower() not in folded:
            return name


def plain(name: str) -> bool:
    """Returns True if Avro allows the name as it is."""
    return name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
