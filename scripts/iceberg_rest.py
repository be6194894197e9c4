"""Checks `api/iceberg-rest.json` against a copy of the Iceberg REST specification. Needs PyYAML.

`python3 scripts/iceberg_rest.py rest-catalog-open-api.yaml` compares the digest, and the ids, requests and statuses of
all operations. Whoever moves to another version changes `specification` by hand, and runs this until it finds nothing.
"""

import hashlib
import json
import sys
from pathlib import Path

import yaml

LIST = Path(__file__).parent.parent / "api" / "iceberg-rest.json"
METHODS = {"get", "head", "post", "put", "patch", "delete"}


def operations(specification: dict) -> dict[str, tuple[str, str]]:
    """Returns the id and the statuses of each operation, by its method and path."""
    return {
        f"{method.upper()} {path}": (operation["operationId"], " ".join(sorted(str(s) for s in operation["responses"])))
        for path, item in specification["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: iceberg_rest.py SPECIFICATION.yaml", file=sys.stderr)
        return 2
    text = Path(sys.argv[1]).read_bytes()
    listed = json.loads(LIST.read_text())
    differences = []
    digest = hashlib.sha256(text).hexdigest()
    if digest != listed["specification"]["sha256"]:
        differences.append(f"the digest is {digest}, not {listed['specification']['sha256']}")
    specified = operations(yaml.safe_load(text))
    ours = {operation["request"]: (operation["id"], operation["statuses"]) for operation in listed["operations"]}
    for request in sorted(specified.keys() | ours.keys()):
        if specified.get(request) != ours.get(request):
            differences.append(f"{request}: specified {specified.get(request)}, listed {ours.get(request)}")
    for operation in listed["operations"]:
        if operation["served"] != "offered" and not operation.get("why"):
            differences.append(f"{operation['request']}: not offered, without a reason")
    print("\n".join(differences) or f"{len(ours)} operations agree")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
