"""Chromium, driven by Playwright: the one on PATH, or that of Debian's package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from .debian import libraries, unpacked

ARGUMENTS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    installed = shutil.which("chromium") or shutil.which("google-chrome")
    if installed:
        path, env = installed, None
    else:
        home = unpacked("chromium", "chromium", "fonts-dejavu-core")
        path, env = str(home / "usr/lib/chromium/chromium"), libraries(home) | fonts(home)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, env=env, args=ARGUMENTS, chromium_sandbox=False, timeout=60_000
        )
        yield browser
        browser.close()


def fonts(home: Path) -> dict[str, str]:
    """Returns the environment in which an unpacked fontconfig finds the unpacked fonts."""
    config = home / "fonts.conf"
    places = f"<dir>{home}/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{home}/fontcache</cachedir>"
    sans = "<family>DejaVu Sans</family>"
    alias = "".join(f"<alias><family>{f}</family><prefer>{sans}</prefer></alias>" for f in ("system-ui", "sans-serif"))
    config.write_text(f"<fontconfig>{places}{alias}</fontconfig>")
    return {"FONTCONFIG_FILE": str(config)}
