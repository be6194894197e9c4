"""Measures the catalog with 1,000, 100,000 and a million tables, with the state on SQLite and on PostgreSQL.

Run `benches/scale.py SCALE [SIZE...]`, where SCALE is the built `benches/src/scale.rs`. DATABASES="sqlite postgres"
chooses, FILES=1 gives each table a metadata file of its own. Prints a table, writes target/bench/scale.json, and draws
docs/images/scale.svg, or the path in CURVE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from math import floor, log10
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "engines"))

from stack.postgres import running_postgres  # noqa: E402

CURVE = Path(os.environ.get("CURVE", ROOT / "docs" / "images" / "scale.svg"))
SIZES = ["1000", "100000", "1000000"]
COLOURS = ["#1f5fa8", "#8a5b00", "#2e7d32", "#b3261e", "#6a1b9a", "#00838f", "#ad1457", "#455a64", "#9e9d24"]
WIDTH, HEIGHT, GAP = 360, 300, 50


def measure(binary: str, arguments: list[str], database: str) -> dict:
    """Runs the program on a database. Returns what it found."""
    with tempfile.TemporaryDirectory(prefix="esker-bench-") as directory:
        env = os.environ | {"TMPDIR": directory}
        if database == "sqlite":
            return json.loads(subprocess.run([binary, *arguments], env=env, check=True, stdout=subprocess.PIPE).stdout)
        with running_postgres(Path(directory)) as port:
            url = f"postgres://postgres@127.0.0.1:{port}"
            env |= {"ESKER_TEST_POSTGRES": url, "ESKER_TEST_STATE": "postgres"}
            return json.loads(subprocess.run([binary, *arguments], env=env, check=True, stdout=subprocess.PIPE).stdout)


def show(found: dict) -> None:
    """Prints a table of the medians."""
    sizes = found["sizes"]
    print(f"{found['database']}; medians in ms")
    print(f"  {'tables':<20}" + "".join(f"{size['tables']:>12,}" for size in sizes))
    for what in sizes[0]["ms"]:
        print(f"  {what:<20}" + "".join(f"{size['ms'][what]:>12.2f}" for size in sizes))
    print(f"  {'memory, MB':<20}" + "".join(f"{size['resident_mb']:>12.0f}" for size in sizes))
    print(f"  {'filling, s':<20}" + "".join(f"{size['fill_seconds']:>12.0f}" for size in sizes))


def panel(found: dict, left: int, decades: tuple[int, int]) -> str:
    """Draws the medians of one database over the number of tables; both axes are logarithmic."""
    sizes, (low, high) = found["sizes"], decades
    counts = [log10(size["tables"]) for size in sizes]
    span = max(counts[-1] - counts[0], 1)

    def across(count: float) -> float:
        return left + (count - counts[0]) / span * WIDTH

    def down(ms: float) -> float:
        return GAP + (high - log10(max(ms, 10**low))) / (high - low) * HEIGHT

    parts = [f'<text x="{left}" y="{GAP - 14}" font-weight="bold">{found["database"]}</text>']
    for decade in range(low, high + 1):
        y = down(10**decade)
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d8dade"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10**decade:g} ms</text>')
    for size, count in zip(sizes, counts, strict=True):
        label = f"{size['tables']:,}"
        parts.append(f'<text x="{across(count):.1f}" y="{GAP + HEIGHT + 18}" text-anchor="middle">{label}</text>')
    for what, colour in zip(sizes[0]["ms"], COLOURS, strict=False):
        line = zip(counts, sizes, strict=True)
        points = " ".join(f"{across(count):.1f},{down(size['ms'][what]):.1f}" for count, size in line)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
    return "\n".join(parts)


def curve(all_found: list[dict]) -> str:
    """Draws one panel for each database, as SVG."""
    times = [ms for found in all_found for size in found["sizes"] for ms in size["ms"].values()]
    decades = (floor(log10(max(min(times), 0.01))), floor(log10(max(times))) + 1)
    step = WIDTH + 90
    panels = "\n".join(panel(found, 70 + i * step, decades) for i, found in enumerate(all_found))
    right = 70 + len(all_found) * step - 60
    names = "\n".join(
        f'<text x="{right}" y="{GAP + 14 + i * 18}" fill="{colour}">{what}</text>'
        for i, (what, colour) in enumerate(zip(all_found[0]["sizes"][0]["ms"], COLOURS, strict=False))
    )
    width, height = right + 130, GAP + HEIGHT + 40
    font = 'font-family="sans-serif" font-size="12"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>
<rect width="100%" height="100%" fill="#fbfaf8"/>
<text x="70" y="18">Medians by the number of tables in the catalog</text>
{panels}
{names}
</svg>
"""


def main() -> None:
    binary, sizes = sys.argv[1], sys.argv[2:] or SIZES
    arguments = sizes + (["files"] if os.environ.get("FILES") else [])
    databases = os.environ.get("DATABASES", "sqlite postgres").split()
    all_found = []
    for database in databases:
        all_found.append(measure(binary, arguments, database))
        show(all_found[-1])
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_text(json.dumps(all_found, indent=1))
    CURVE.write_text(curve(all_found))


if __name__ == "__main__":
    main()
