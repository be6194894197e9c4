"""Writes the software bill of materials of the binary `esker`, as CycloneDX 1.6 in JSON, to standard output.

It lists what `cargo build -p esker` compiles for one target: normal and build dependencies, without those of tests. A
crate with the scope `excluded` runs while the binary is built, and is not in it. The same Cargo.lock and the same
manifests give the same bytes on every machine. With SOURCE_DATE_EPOCH, the bill has that time; without, it has none.

Features are those that Cargo resolves for the whole workspace, so an optional crate may be listed that only tests turn
on. C libraries that a crate brings, such as SQLite in libsqlite3-sys, are no components of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "esker"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
# The namespace of serial numbers; any fixed UUID would do.
NAMESPACE = uuid.UUID("5a1c3c8e-6f0e-5d5b-9a53-7d0a7f1f0b6e")

Package = dict[str, Any]


def metadata(target: str) -> dict[str, Any]:
    """Returns what Cargo says about the workspace and its dependencies on the target."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.check_output(command, cwd=ROOT))


def checksums(lock: str) -> dict[tuple[str, str, str], str]:
    """Returns the SHA-256 of each crate of a registry in Cargo.lock, by name, version and source."""
    packages = tomllib.loads(lock)["package"]
    return {(p["name"], p["version"], p["source"]): p["checksum"] for p in packages if "checksum" in p}


def is_macro(package: Package) -> bool:
    """Checks whether the compiler runs the crate, so that none of it gets into the binary."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def graph(resolved: dict[str, Any]) -> dict[str, dict[str, bool]]:
    """Returns the dependencies of each package by id, without those of tests. True marks those of the build alone."""
    edges: dict[str, dict[str, bool]] = {}
    for node in resolved["nodes"]:
        edges[node["id"]] = {}
        for dependency in node["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]} - {"dev"}
            if kinds:
                edges[node["id"]][dependency["pkg"]] = kinds == {"build"}
    return edges


def reached(root: str, edges: dict[str, dict[str, bool]], packages: dict[str, Package]) -> tuple[set[str], set[str]]:
    """Returns the ids of the packages that are compiled, and of those among them that get into the binary."""
    compiled: set[str] = set()
    linked: set[str] = set()
    waiting = [(root, True)]
    while waiting:
        package, links = waiting.pop()
        links = links and not is_macro(packages[package])
        if package in (linked if links else compiled):
            continue
        compiled.add(package)
        if links:
            linked.add(package)
        waiting += [(to, links and not build_only) for to, build_only in edges[package].items()]
    return compiled, linked


def reference(package: Package) -> str:
    """Returns the package URL. Crates of the workspace are in no registry, so theirs claims none."""
    kind = "cargo" if package["source"] else "generic"
    version = package["version"].replace("+", "%2B")
    # A crate of another registry or of Git has the same name as one of crates.io, and is another.
    elsewhere = package["source"] not in (None, REGISTRY)
    return f"pkg:{kind}/{package['name']}@{version}" + (f"?repository_url={package['source']}" if elsewhere else "")


def component(package: Package, linked: bool, hashes: dict[tuple[str, str, str], str]) -> dict[str, Any]:
    """Describes a package."""
    ref = reference(package)
    described: dict[str, Any] = {
        "type": "application" if package["name"] == PROGRAM and not package["source"] else "library",
        "bom-ref": ref,
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if linked else "excluded",
        "purl": ref,
    }
    if package["source"]:
        key = (package["name"], package["version"], package["source"])
        if key in hashes:
            described["hashes"] = [{"alg": "SHA-256", "content": hashes[key]}]
    if package["license"]:
        # `/` is an old form of OR.
        expression = re.sub(r"\s*/\s*", " OR ", package["license"])
        described["licenses"] = [{"expression": expression, "acknowledgement": "declared"}]
    if (package["repository"] or "").startswith("https://"):
        described["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return described


def bill(found: dict[str, Any], lock: str, target: str, epoch: str | None = None) -> dict[str, Any]:
    """Makes the bill from what Cargo says and from Cargo.lock."""
    packages = {package["id"]: package for package in found["packages"]}
    members = set(found["workspace_members"])
    root = next(id for id, package in packages.items() if id in members and package["name"] == PROGRAM)
    edges = graph(found["resolve"])
    compiled, linked = reached(root, edges, packages)
    hashes = checksums(lock)
    components = [component(packages[id], id in linked, hashes) for id in compiled - {root}]
    program = component(packages[root], True, hashes)
    del program["scope"]
    dependencies = [
        {"ref": reference(packages[id]), "dependsOn": sorted(reference(packages[to]) for to in edges[id])}
        for id in compiled
    ]
    made: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "pre-build"}],
            "component": program,
            "properties": [{"name": "esker:target", "value": target}],
        },
        "components": sorted(components, key=lambda c: c["bom-ref"]),
        "dependencies": sorted(dependencies, key=lambda d: d["ref"]),
    }
    # Another content is another bill; the same content is the same one whenever it is made.
    made["serialNumber"] = f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(made, sort_keys=True))}"
    if epoch:
        time = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        made["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="x86_64-unknown-linux-gnu", help="default: %(default)s")
    target = parser.parse_args().target
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    made = bill(metadata(target), lock, target, os.environ.get("SOURCE_DATE_EPOCH"))
    json.dump(made, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
