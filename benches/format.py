"""Compares the reading of manifests with the `iceberg` crate and PyIceberg, and measures the planning of large scans.

The manifest has 10,000 files with counts and bounds of 20 columns. `batch` reads all of it into columns, `rows` into
entries, `projected` only what a plan with conditions on two columns needs. All ratios are of one run. Seconds are CPU
time, except for those of loading a table from disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestFile

READERS = ["batch", "rows", "projected", "iceberg"]
KEPT = 3
ROUNDS = 5
# The allocator returns freed memory at once, so that resident memory is memory in use.
ENV = os.environ | {"MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def pyiceberg(written: dict) -> tuple[float, float]:
    """Returns the CPU seconds that PyIceberg takes to read the manifest, and the bytes of its entries in memory."""
    file = ManifestFile.from_args(
        manifest_path=written["path"],
        manifest_length=written["bytes"],
        partition_spec_id=0,
        content=ManifestContent.DATA,
        sequence_number=1,
        min_sequence_number=1,
        added_snapshot_id=1,
    )
    io = PyArrowFileIO()

    def read() -> tuple[float, list[ManifestEntry]]:
        began = time.process_time()
        entries = file.fetch_manifest_entry(io, discard_deleted=False)
        return time.process_time() - began, entries

    _, entries = read()
    assert len(entries) == written["entries"], len(entries)
    del entries
    before = resident()
    runs = [read() for _ in range(KEPT)]
    kept = (resident() - before) / KEPT
    seconds = [seconds for seconds, _ in runs]
    del runs
    seconds += [read()[0] for _ in range(ROUNDS - KEPT)]
    return statistics.median(seconds), kept


def main() -> None:
    binary, files = sys.argv[1], sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="esker-bench-") as directory:

        def run(*args: str) -> dict:
            return json.loads(subprocess.run([binary, *args], env=ENV, check=True, stdout=subprocess.PIPE).stdout)

        written = run("write", directory)
        seconds = run("rate", directory)
        kept = {reader: run("kept", directory, reader) for reader in READERS}
        seconds["pyiceberg"], kept["pyiceberg"] = pyiceberg(written)
        plan = run("plan", directory, files)
    entries = written["entries"]
    print(f"a manifest of {entries} files, bounds of {written['columns']} columns, {written['bytes'] / 1e6:.1f} MB")
    print(f"  {'':<12}{'ms':>9}{'files/s':>12}{'x iceberg':>11}{'kept, MB':>11}{'x iceberg':>11}")
    for reader in [*READERS, "pyiceberg"]:
        rate = seconds["iceberg"] / seconds[reader]
        memory = kept[reader] / kept["iceberg"]
        speed = f"{seconds[reader] * 1000:>9.2f}{entries / seconds[reader]:>12.0f}{rate:>11.2f}"
        print(f"  {reader:<12}{speed}{kept[reader] / 1e6:>11.2f}{memory:>11.3f}")
    print(f"a plan of {plan['planned']} of {plan['files']} files by the bounds of a column")
    warm, decode = plan["plan"], seconds["rows"] * plan["files"] / entries
    print(f"  read from disk {plan['load']:.2f} s, kept {plan['memory'] / 1e6:.0f} MB; warm {warm * 1000:.1f} ms")
    print(f"  warm, in decodes of as many files' manifests to rows: {warm / decode:.3f}")
    out = Path("target/bench")
    out.mkdir(parents=True, exist_ok=True)
    found = {"seconds": seconds, "kept": kept, "plan": plan, "written": written}
    (out / "format.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
