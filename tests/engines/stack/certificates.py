"""Certificates of an authority of its own, made by the commands of docs/security/tls.md."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .base import ROOT

PASSWORD = "changeit"


@dataclass
class Certificates:
    """The files that the page names, in a directory: those of the server, and the authority that clients trust."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def trust_store(self) -> Path:
        """The trust store of Java, which is made at its first use."""
        path = self.directory / "trust.p12"
        if not path.exists():
            run_block("keytool -importcert", self.directory)
        return path

    def esker(self) -> dict[str, str]:
        """Returns the configuration of a server with the certificate."""
        files = {"CERTIFICATE": "tls.crt", "KEY": "tls.key"}
        return {f"ESKER__SERVER__TLS__{key}": str(self.directory / file) for key, file in files.items()}

    def java(self) -> list[str]:
        """Returns the options of Java with which it trusts the authority alone."""
        store = "-Djavax.net.ssl.trustStore"
        return [f"{store}={self.trust_store}", f"{store}Password={PASSWORD}"]


def certificates(directory: Path) -> Certificates:
    """Makes an authority and the certificate of a server, for 127.0.0.1 and localhost too."""
    directory.mkdir(parents=True, exist_ok=True)
    run_block("openssl req -x509", directory)
    return Certificates(directory)


def run_block(words: str, directory: Path) -> None:
    """Runs the first block of commands of the page that contains some words."""
    page = (ROOT / "docs" / "security" / "tls.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    block = next(block for block in blocks if words in block)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
