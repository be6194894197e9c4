"""Check that the layers above the maintenance don't reach through the catalog into the state database.

`Catalog::state()` is public for the maintenance only. The crates above call `Catalog` or `Maintenance`, and read with
`Catalog::overview()`. A `State` that the server hands to them, such as the one of `report` for the outbox, is not
meant.
"""

import re
import sys
from pathlib import Path

ABOVE = ["auth", "autopilot", "esker", "flight", "query", "report", "rest"]
ROOMS = (
    "fleet|jobs|keys|namespaces|outbox|outputs|principals|quarantine|scan_plans|servers|sessions|tables|tokens"
    "|warehouses"
)
REACHING = re.compile(rf"\bcatalog(?:\(\))?\s*\.state\(\)|\bCatalog::state\b|\.state\(\)\s*\.(?:{ROOMS})\(\)")


def main() -> None:
    crates = Path(__file__).resolve().parent.parent / "crates"
    found = []
    for file in sorted(file for name in ABOVE for file in (crates / name / "src").rglob("*.rs")):
        text = file.read_text(encoding="utf-8")
        for match in REACHING.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            where = f"{file.relative_to(crates.parent)}:{line}"
            found.append(f"{where}: {match[0]!r}: call Catalog, Maintenance or Overview")
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
