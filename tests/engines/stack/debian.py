"""Programs that no language's registry has: from PATH, or from Debian packages unpacked into the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .base import ROOT

SBIN = os.pathsep.join(["/usr/sbin", "/sbin"])


def unpacked(name: str, *packages: str) -> Path:
    command = [ROOT / "scripts" / "debian.sh", name, *packages]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def program(name: str, home: Path | None, *places: str) -> Path:
    """Returns the path of a program, on PATH or below the directory of unpacked packages."""
    installed = shutil.which(name) or shutil.which(name, path=SBIN)
    if installed or home is None:
        assert installed, f"{name} is not on PATH"
        return Path(installed)
    return next(home / place / name for place in places if (home / place / name).exists())


def libraries(directory: Path) -> dict[str, str]:
    """Returns the environment in which an unpacked program finds its libraries."""
    places = sorted({str(path.parent) for path in directory.rglob("*.so*")})
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(places)}
