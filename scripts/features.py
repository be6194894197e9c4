"""Checks that the demo's build and the tests' build share what is compiled; the build stops otherwise.

Cargo compiles a crate anew for each set of features. `make demo` builds only the package `esker`, `make test` builds
the workspace with the crates that only tests need. A crate that both need must have the same features in both.
"""

import re
import subprocess
import sys

TREE = ["cargo", "tree", "--locked", "--prefix", "none", "--format", "{p} [{f}]"]


def features(*arguments: str) -> dict[str, set[str]]:
    """Returns the features of each crate of a build, by name and version."""
    lines = subprocess.run([*TREE, *arguments], check=True, capture_output=True, text=True).stdout.splitlines()
    found: dict[str, set[str]] = {}
    for line in lines:
        if crate := re.match(r"(\S+ v\S+).* \[(.*)\]", line):
            found.setdefault(crate[1], set()).add(crate[2])
    return found


def main() -> int:
    demo = features("--package", "esker", "--edges", "normal,build")
    tests = features("--workspace", "--edges", "normal,build,dev")
    differing = [name for name in demo if demo[name] != tests.get(name)]
    for name in differing:
        print(f"{name}: the demo has {sorted(demo[name])}, the tests have {sorted(tests.get(name, set()))}")
    if differing:
        print("turn the missing features on in crates/esker/Cargo.toml, so that nothing is compiled twice")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
