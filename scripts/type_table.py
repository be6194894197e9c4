"""Prints docs/types.md from the results of test_types.py: python3 scripts/type_table.py RESULTS/cells.json"""

import json
import sys
from pathlib import Path

HEAD = """# Types

Made by `make docs` from what `tests/engines/test_types.py` ran; don't edit. Each cell is one test against a server
process. It has a table of format version 3 with a column of the type.

What is compared comes from outside of Esker: the values that were written, or what DuckDB, PyArrow or PyIceberg read.
"""

WHAT = {
    "create": "The metadata has the type as it was sent. Types that make no identifiers are refused as such.",
    "evolve": "The column is added to a table with rows, renamed, and made a wider type where the format has one.",
    "default": "Rows of before have the initial default. Rows that say nothing of the column get the write default.",
    "write by SQL": "`INSERT`, `UPDATE` and `DELETE`. The new files are read by others.",
    "read": "Files that others wrote.",
    "filter": "Conditions find their rows. Files are left out by their bounds and counts.",
    "partition": "By every transform that takes the type. Values of partitions are those that PyIceberg makes.",
    "sort": "The table's sort order, carried out by a compaction.",
    "compact": "Three files become one, with full verification. Others read the new file.",
    "convert deletes": "Deletes by key become a deletion vector, which PyIceberg reads.",
    "statistics": "Distinct values are counted into a Puffin file, or the column is named as left out.",
    "server-planned scan": "The plan names the file, and leaves it out if the filter excludes it.",
    "GetTables": "The column is listed with its type.",
    "Flight": "Values arrive as they were written, and can be parameters where they have an order.",
}

LEGEND = """
"yes": it was done. "refused": the format does not allow it, and Esker says so and names the column. "empty": there is
no test. A number leads to a note.
"""


def main(path: Path) -> None:
    results = json.loads(path.read_text())
    cells = {(cell["type"], cell["operation"]): cell for cell in results["cells"]}
    check(cells)
    notes = list(dict.fromkeys(cell["note"] for cell in cells.values() if cell["note"]))

    def shown(cell: dict) -> str:
        return cell["state"] + (f" [{notes.index(cell['note']) + 1}]" if cell["note"] else "")

    operations = results["operations"]
    print(HEAD)
    print("| type | " + " | ".join(operations) + " |")
    print("|---" * (len(operations) + 1) + "|")
    for name in results["types"]:
        print(f"| {name} | " + " | ".join(shown(cells[name, operation]) for operation in operations) + " |")
    print(LEGEND)
    for n, note in enumerate(notes, start=1):
        print(f"{n}. {note}")
    print("\n## What each test does\n\n| operation | test |\n|---|---|")
    for operation in operations:
        print(f"| {operation} | {WHAT[operation]} |")


def check(cells: dict[tuple[str, str], dict]) -> None:
    failed = [f"{kind}, {operation}" for (kind, operation), cell in cells.items() if cell["state"] == "failed"]
    if failed:
        sys.exit(f"{len(failed)} of {len(cells)} cells failed: " + "; ".join(failed))
    empty = [operation for (_, operation), cell in cells.items() if cell["state"] == "empty"]
    if len(empty) > 12 or {"read", "compact", "create"} & set(empty):
        sys.exit("too many cells are empty, or one that must not be")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
