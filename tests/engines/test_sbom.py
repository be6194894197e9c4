"""The bill of materials: it fits CycloneDX's schema, lists what is shipped and no more, and is the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from stack.base import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import sbom  # noqa: E402

pytestmark = pytest.mark.slice


def made(**environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"} | environment
    command = [sys.executable, ROOT / "scripts" / "sbom.py"]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def bill() -> dict:
    return json.loads(made())


def test_the_bill_fits_the_schema_of_cyclonedx() -> None:
    dated = made(SOURCE_DATE_EPOCH="1764460800")
    assert json.loads(dated)["metadata"]["timestamp"] == "2025-11-30T00:00:00Z"
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(dated) is None
    assert validator.validate_str(dated.replace('"SHA-256"', '"SHA-257"')) is not None, "the check can fail"


def test_the_bill_is_the_same_each_time_and_names_no_machine(bill: dict) -> None:
    first, second = made(), made()
    assert first == second and json.loads(first) == bill
    assert str(ROOT) not in first and "file://" not in first and "timestamp" not in bill["metadata"]
    dated = json.loads(made(SOURCE_DATE_EPOCH="1"))
    assert dated["serialNumber"] == bill["serialNumber"], "the time is no other content"


def test_every_crate_of_a_registry_has_the_hash_of_the_lock_file_and_a_licence(bill: dict) -> None:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(p["name"], p["version"]): p.get("checksum") for p in packages}
    for found in bill["components"]:
        checksum = locked[found["name"], found["version"]]
        hashes = [{"alg": "SHA-256", "content": checksum}] if checksum else None
        assert found.get("hashes") == hashes, found
        assert found["licenses"][0]["expression"] and "/" not in found["licenses"][0]["expression"], found
        assert found["purl"].startswith("pkg:cargo/" if checksum else "pkg:generic/esker-"), found


def test_what_is_shipped_is_listed_and_what_only_tests_need_is_not(bill: dict) -> None:
    scopes = {found["name"]: found["scope"] for found in bill["components"]}
    for crate in ("esker-types", "esker-access", "sqlx-sqlite", "datafusion", "axum", "tonic", "rustls", "zstd-sys"):
        assert scopes[crate] == "required", crate
    for crate in ("serde_derive", "syn", "cc"):
        assert scopes[crate] == "excluded", f"{crate} only runs while the binary is built"
    for crate in ("proptest", "esker-tests", "esker-benches", "iceberg", "windows-sys"):
        assert crate not in scopes, f"{crate} is not in the binary"


def test_the_graph_is_whole(bill: dict) -> None:
    program = bill["metadata"]["component"]["bom-ref"]
    known = {found["bom-ref"] for found in bill["components"]} | {program}
    assert len(known) == len(bill["components"]) + 1, "each reference is there once"
    edges = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert set(edges) == known
    reached, waiting = set(), [program]
    while waiting:
        at = waiting.pop()
        if at not in reached:
            reached.add(at)
            waiting += edges[at]
    assert reached == known


def package(name: str, kind: str = "lib", source: str | None = sbom.REGISTRY) -> dict:
    targets = [{"kind": [kind]}]
    more = {"license": "MIT/Apache-2.0", "repository": None, "targets": targets}
    return {"id": name, "name": name, "version": "1.0.0+x", "source": source, **more}


def test_a_crate_is_excluded_if_it_is_reached_only_through_a_build_or_a_macro() -> None:
    edges = {
        "esker": {"macro": [None], "linked": [None, "dev"], "builder": ["build"], "tester": ["dev"]},
        "macro": {"parser": [None], "both": [None]},
        "linked": {"both": [None]},
        "builder": {"below": [None]},
        **{name: {} for name in ("parser", "both", "below", "tester")},
    }
    nodes = [
        {"id": id, "deps": [{"pkg": to, "dep_kinds": [{"kind": k} for k in kinds]} for to, kinds in deps.items()]}
        for id, deps in edges.items()
    ]
    packages = [package(id, "proc-macro" if id == "macro" else "lib") for id in edges if id != "esker"]
    packages.append(package("esker", "bin", None))
    found = {"packages": packages, "workspace_members": ["esker"], "resolve": {"nodes": nodes}}
    bill = sbom.bill(found, "package = []", "a-target")
    scopes = {made["name"]: made["scope"] for made in bill["components"]}
    linked = dict.fromkeys(["linked", "both"], "required")
    assert scopes == linked | dict.fromkeys(["macro", "parser", "builder", "below"], "excluded")
    assert bill["components"][0]["purl"] == "pkg:cargo/below@1.0.0%2Bx"
    assert bill["components"][0]["licenses"][0]["expression"] == "MIT OR Apache-2.0"
