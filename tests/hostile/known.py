"""Known disagreements: entries of `known.toml` explain them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


class Fault(Exception):
    """A disagreement in which Esker seems to be wrong, and that is not known."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail
        # The filter that showed the fault.
        self.where: list | None = None


@dataclass(frozen=True)
class Entry:
    engine: str
    match: str
    what: str
    cites: str
    version: str = ""
    fixed: bool = True

    def explains(self, engine: str, text: str) -> bool:
        return self.engine == engine and re.search(self.match, text, re.DOTALL) is not None


@cache
def entries() -> list[Entry]:
    found = [Entry(**entry) for entry in tomllib.loads((HERE / "known.toml").read_text()).get("known", [])]
    assert len(found) <= 30, "known.toml holds at most 30 entries: mend something"
    return found


def known(engine: str, text: str) -> Entry | None:
    return next((entry for entry in entries() if entry.explains(engine, text)), None)
