"""Compares metadata files, views, manifest lists, manifests and Puffin files before and after Esker rewrote them.

Esker reads and writes each file. Java's and PyIceberg's parsers must find the same in the original and in the copy.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyspark

from . import round_trip_pyiceberg as pyiceberg
from .base import ENGINES, artifact, java_class
from .round_trip_json import differences, kept

ICEBERG = "1.12.0"
METADATA, AVRO, PUFFIN = ".metadata.json", ".avro", (".puffin", ".stats")
KINDS = (METADATA, ".gz", AVRO, *PUFFIN)


@dataclass
class File:
    """A file of a table, and Esker's copy of it."""

    kind: str
    path: Path
    anew: Path
    job: dict = field(default_factory=dict)
    esker: dict = field(default_factory=dict)
    java: list[dict] = field(default_factory=list)
    avro: list[dict] = field(default_factory=list)


def java(jobs: list[dict], directory: Path) -> list[dict]:
    """Runs Java's parsers on files. Returns what they find."""
    jars = [
        artifact(f"org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:{ICEBERG}"),
        Path(pyspark.__file__).parent / "jars",
    ]
    classes = java_class(ENGINES / "round_trip" / "Parsers.java", *jars)
    asked = directory / "jobs"
    asked.write_text("".join(json.dumps({**job, "id": n}) + "\n" for n, job in enumerate(jobs)))
    path = os.pathsep.join([str(classes), str(jars[0]), f"{jars[1]}/*"])
    command = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", path, "org.apache.iceberg.Parsers", asked]
    return answers(command, len(jobs), timeout=900)


def esker(jobs: list[dict]) -> list[dict]:
    """Runs Esker, which writes copies of the files. Returns what it finds."""
    asked = "".join(json.dumps({**job, "id": n}) + "\n" for n, job in enumerate(jobs))
    program = Path(os.environ["ESKER_BIN"]).with_name("round-trip")
    return answers([program], len(jobs), input=asked)


def answers(command: list, expected: int, **options: Any) -> list[dict]:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0 and len(found) == expected, done.stderr[-4000:]
    return found


class Tree:
    """Directories with tables' files. Files are found by their locations even if they were copied elsewhere."""

    def __init__(self, roots: Iterable[Path], out: Path) -> None:
        self.out, self.by_name, self.metadata = out, defaultdict(list), []
        self.puffins: list[Path] = []
        for path in sorted(path for root in roots for path in root.rglob("*") if path.name.endswith(KINDS)):
            self.by_name[path.name].append(path)
            if path.name.endswith((METADATA, METADATA + ".gz", ".gz.metadata.json")):
                self.metadata.append(path)
            elif path.name.endswith(PUFFIN):
                self.puffins.append(path)

    def find(self, location: str) -> Path | None:
        """Returns the file whose path has the longest common end with the location."""
        parts = location.split("/")

        def common(path: Path) -> int:
            pairs = zip(reversed(path.parts), reversed(parts), strict=False)
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        return max(self.by_name.get(parts[-1], []), key=common, default=None)

    def anew(self, path: Path, suffix: str = "") -> Path:
        place = self.out / f"{abs(hash(path.parent)):x}" / (path.name + suffix)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


@dataclass
class RoundTrip:
    """The comparison of all files of a tree, with the differences that it found."""

    tree: Tree
    faults: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def run(self) -> None:
        documents = [self.document(path) for path in self.tree.metadata]
        self.written(documents)
        lists = list(self.lists([file for file in documents if file.kind == "table" and not file.esker.get("error")]))
        puffins = [File("puffin", path, self.tree.anew(path)) for path in self.tree.puffins]
        for file in puffins:
            file.job = {
                "kind": "puffin",
                "file": str(file.path),
                "out": str(file.anew),
                "anew": str(file.anew) + ".anew",
            }
        self.written(lists + puffins)
        self.asked_java(documents + lists + puffins)
        for file in documents + lists + puffins:
            self.counts[file.kind] += 1
            {"table": self.table, "view": self.view, "list": self.list, "puffin": self.puffin}[file.kind](file)

    def fault(self, file: File | Path, what: str) -> None:
        self.faults.append(f"{file.path if isinstance(file, File) else file}: {what}")

    def document(self, path: Path) -> File:
        """Returns a metadata file of a table or view, decompressed if needed."""
        text = path.read_bytes()
        if text.startswith(b"\x1f\x8b"):
            path = self.tree.anew(path, ".plain")
            path.write_bytes(gzip.decompress(text))
        kind = "view" if b'"view-uuid"' in path.read_bytes() else "table"
        file = File(kind, path, self.tree.anew(path))
        file.job = {"kind": kind, "file": str(path), "out": str(file.anew)}
        return file

    def written(self, files: list[File]) -> None:
        for file, answer in zip(files, esker([file.job for file in files]), strict=True):
            file.esker = answer

    def lists(self, tables: list[File]) -> Iterator[File]:
        """Yields each manifest list once, with its newest metadata file, and each manifest with its first list."""
        snapshots: dict[str, tuple[File, int]] = {}
        for table in tables:
            metadata = json.loads(table.path.read_bytes())
            for snapshot in metadata.get("snapshots") or []:
                if (location := snapshot.get("manifest-list")) is None:
                    continue
                before = snapshots.get(location)
                if before is None or age(metadata) > age(json.loads(before[0].path.read_bytes())):
                    snapshots[location] = (table, snapshot["snapshot-id"])
        there = {location: path for location in snapshots if (path := self.tree.find(location))}
        paths = esker([{"kind": "paths", "file": str(path)} for path in there.values()])
        seen: set[str] = set()
        for (location, path), answer in zip(there.items(), paths, strict=True):
            (table, snapshot), manifests = snapshots[location], {}
            if "error" in answer:
                self.fault(path, f"Esker refuses it: {answer['error']}")
                continue
            for manifest in set(answer["paths"]) - seen:
                if at := self.tree.find(manifest):
                    manifests[manifest] = {"file": str(at), "out": str(self.tree.anew(at))}
            seen |= manifests.keys()
            self.counts["manifest"] += len(manifests)
            file = File("list", path, self.tree.anew(path))
            file.job = {
                "kind": "list", "metadata": str(table.path), "printed": str(table.anew), "file": str(path),
                "out": str(file.anew), "snapshot": snapshot, "manifests": manifests,
            }  # fmt: skip
            yield file

    def asked_java(self, files: list[File]) -> None:
        jobs: list[tuple[Callable[[dict], None], dict]] = []
        for file in files:
            before, after = {**file.job}, {**file.job, "file": str(file.anew)}
            if file.kind == "list":
                manifests = file.job["manifests"]
                before["manifests"] = {path: place["file"] for path, place in manifests.items()}
                after["manifests"] = {path: place["out"] for path, place in manifests.items()}
                after["metadata"] = file.job["printed"]
                each = [(file.path, file.anew), *((place["file"], place["out"]) for place in manifests.values())]
                raw = [path for pair in each for path in pair]
                jobs += [(file.avro.append, {"kind": "avro", "file": str(path)}) for path in raw]
            jobs += [(file.java.append, job) for job in (before, after)]
            if file.kind == "puffin":
                jobs.append((file.java.append, {**file.job, "file": file.job["anew"]}))
        missing = {"error": "Esker wrote nothing"}
        asked = [(keep, job) for keep, job in jobs if Path(job["file"]).exists()]
        found = iter(java([job for _, job in asked], self.tree.out))
        for keep, job in jobs:
            keep(next(found) if Path(job["file"]).exists() else missing)

    def readable(self, file: File) -> bool:
        """Returns True if Esker can read a file. If it can't, no other parser may read it either."""
        if error := file.esker.get("error"):
            self.counts["refused by all"] += "error" in file.java[0]
            if "error" not in file.java[0]:
                self.fault(file, f"Java reads it, Esker does not: {error}")
            return False
        return True

    def same(self, file: File | Path, who: str, before: Any, after: Any) -> None:
        self.counts[f"refused by {who.split(',')[0]}"] += isinstance(before, dict) and "error" in before
        for place, a, b in differences(before, after):
            if not mended(place, a, b, before):
                self.fault(file, f"{who}: {place} was {short(a)}, is {short(b)}")

    def table(self, file: File) -> None:
        if not self.readable(file):
            return
        before, original, printed = self.metadata(file, pyiceberg.table)
        if "error" not in before:
            for place, a, b in kept(before["printed"], printed, unknown=original):
                self.fault(file, f"Java and Esker: {place} is {short(a)} and {short(b)}")

    def view(self, file: File) -> None:
        if self.readable(file):
            self.metadata(file, pyiceberg.view)

    def metadata(self, file: File, read: Callable[[Path], Any]) -> tuple[dict, dict, dict]:
        """Returns Java's findings about a JSON file, the file, and Esker's copy."""
        before, after = (without_id(answer) for answer in file.java)
        self.same(file, "Java, before and after", before, after)
        self.same(file, "PyIceberg, before and after", *map(read, (file.path, file.anew)))
        original, printed = (json.loads(path.read_bytes()) for path in (file.path, file.anew))
        for place, a, b in kept(original, printed):
            self.fault(file, f"printed: {place} was {short(a)}, is {short(b)}")
        return before, original, printed

    def list(self, file: File) -> None:
        if not self.readable(file):
            return
        before, after = (without_id(answer) for answer in file.java)
        self.same(file, "Java, before and after", before, after)
        if "error" not in before:
            self.same(file, "Java and Esker", before["list"], without_id(file.esker)["list"])
        for path, place in file.job["manifests"].items():
            own = file.esker["manifests"][path]
            theirs = before.get("manifests", {}).get(path, {"error": "the list"})
            at = Path(place["file"])
            if "error" in own:
                if "error" not in theirs:
                    self.fault(at, f"Java reads it, Esker does not: {own['error']}")
            elif "error" in theirs:
                self.counts["refused by Java"] += 1
            else:
                self.same(at, "Java and Esker", theirs, own)
        files = [
            {"file": file.path, "manifests": {path: place["file"] for path, place in file.job["manifests"].items()}},
            {"file": file.anew, "manifests": {path: place["out"] for path, place in file.job["manifests"].items()}},
        ]
        self.same(file, "PyIceberg, before and after", *(pyiceberg.manifest_list(**which) for which in files))
        for n, path in enumerate([file.path, *(Path(place["file"]) for place in file.job["manifests"].values())]):
            for place, a, b in raw_differences(*file.avro[2 * n : 2 * n + 2]):
                self.fault(path, f"Avro, before and after: {place} was {short(a)}, is {short(b)}")

    def puffin(self, file: File) -> None:
        if not self.readable(file):
            return
        before, after, anew = (without_id(answer) for answer in file.java)
        self.same(file, "Java, before and after", before, after)
        self.same(file, "PyIceberg, before and after", *map(pyiceberg.puffin, (file.path, file.anew)))
        if "error" not in before:
            self.same(file, "Java and Esker", before["printed"], file.esker["footer"])
            # Blobs may have other offsets in the copy.
            self.same(file, "Java, blobs written anew", before["blobs"], anew["blobs"])

    @cached_property
    def report(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()) if n)
        return "\n".join([counts, *self.faults[:60]])


def age(metadata: dict) -> tuple:
    return (
        metadata["last-updated-ms"],
        metadata.get("last-sequence-number", 0),
        len(metadata.get("metadata-log") or []),
    )


def without_id(answer: dict) -> dict:
    return {key: value for key, value in answer.items() if key != "id"}


def short(value: Any) -> str:
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) < 300 else text[:300] + "…"


def mended(place: str, before: Any, after: Any, whole: Any) -> bool:
    """Returns True for a value that the specification forbids, some writers write, and Esker drops or corrects."""
    # PyIceberg writes equality ids as longs, and Java reads ints.
    if place.endswith(".error"):
        return after is None and str(before).startswith("ClassCastException: class java.lang.Long cannot be cast")
    match place.split("."):
        # DuckDB gives delete manifests a first row id. "First Row ID Assignment" allows it for data manifests only.
        case ["list", n, "first_row"]:
            return after is None and whole["list"][int(n)]["content"] == 1
        case ["0", n, "15"]:
            return after is None and whole[0][int(n)][3] == 1
        case ["520"]:
            return after is None and whole["517"] == 1
    return False


# Ids of deprecated fields that may not be written, and of one that only version 1 has (105).
GIVEN_UP = {"105", "106", "107", "111"}


def raw_differences(before: dict, after: dict) -> Iterator[tuple[str, Any, Any]]:
    """Yields differences between two Avro files of the raw fields. A null counts as a missing value."""
    if "error" in before:
        return
    if "error" in after:
        yield "all", "read", after["error"]
        return
    for n, (a, b) in enumerate(zip(before["records"], after["records"], strict=True)):
        # The copy has inherited values explicitly.
        inherited = {"0", "1", "3", "4"} if "2" in a else set()
        for place, x, y in differences(a, b):
            if x is None and (place.split(".")[-1] in inherited | {"142"} or y in (None, [], {})):
                continue
            if place.split(".")[-1] in GIVEN_UP or mended(place, x, y, a):
                continue
            # Lists of version 1 lack these fields, whose default is 0.
            if place in ("515", "516", "517") and (x, y) == (None, 0):
                continue
            # DuckDB writes names of formats in lower case, all others in capitals.
            if place.endswith("101") and x.upper() == y:
                continue
            yield f"[{n}].{place}", x, y
