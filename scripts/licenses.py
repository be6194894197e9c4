"""Checks that Apache-2.0 software may use every dependency's licence; the build stops otherwise."""

import json
import re
import subprocess
import sys

ALLOWED = {
    "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib",
    "Unicode-3.0", "CC0-1.0", "0BSD", "BSL-1.0", "Unlicense", "CDLA-Permissive-2.0", "bzip2-1.0.6",
}  # fmt: skip


def allowed(expression: str) -> bool:
    """Evaluates an SPDX expression of AND, OR and parentheses. `/` is an old form of OR."""
    text = expression.replace("/", " OR ")
    text = re.sub(r"([\w.+-]+) WITH ([\w.-]+)", lambda m: repr(f"{m[1]} WITH {m[2]}"), text)
    tokens = re.findall(r"'[^']+'|[()]|[\w.+-]+", text)
    python = []
    for token in tokens:
        if token in ("AND", "OR"):
            python.append(token.lower())
        elif token in "()":
            python.append(token)
        else:
            python.append(str(token.strip("'") in ALLOWED))
    return bool(eval(" ".join(python), {"__builtins__": {}}))  # contains only True, False, and, or, parentheses


def main() -> int:
    metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"]))
    wrong = [
        f"{p['name']} {p['version']}: {p['license']}"
        for p in metadata["packages"]
        if p["source"] and not (p["license"] and allowed(p["license"]))
    ]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
