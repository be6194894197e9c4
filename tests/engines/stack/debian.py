"""Programs that are on no language's registry, unpacked from Debian's packages into the cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .base import ROOT


def unpacked(name: str, *packages: str) -> Path:
    command = [ROOT / "scripts" / "debian.sh", name, *packages]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def libraries(directory: Path) -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    places = sorted({str(path.parent) for path in directory.rglob("*.so*")})
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(places)}
