"""The pages about security: each test that they name exists, and each link leads to something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stack.base import ROOT

PAGES = [*sorted((ROOT / "docs" / "security").glob("*.md")), ROOT / "SECURITY.md"]
# Modules begin with a small letter, and Cedar's namespace `Esker::` does not.
TEST = re.compile(r"`([a-z][\w/]*)::(\w+)`")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")

pytestmark = pytest.mark.slice


def files(name: str) -> list[Path]:
    """Returns the files that a test's module may be."""
    crate, _, rest = name.partition("/")
    places = [ROOT / "tests" / "it" / f"{name}.rs", ROOT / "tests" / "it" / name / "mod.rs"]
    places += [ROOT / "crates" / crate / "src" / f"{rest}.rs", ROOT / "crates" / crate / "src" / rest / "mod.rs"]
    places.append(ROOT / "tests" / "engines" / f"{name}.py")
    return [place for place in places if place.is_file()]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_test_that_a_page_names_exists() -> None:
    named = [(page, *found) for page in PAGES for found in TEST.findall(page.read_text())]
    assert len(named) > 50
    missing = [
        f"{page.name}: {module}::{name}"
        for page, module, name in named
        if not any(re.search(rf"\b(fn|def) {name}\b", file.read_text()) for file in files(module))
    ]
    assert not missing, "\n".join(missing)


def test_each_link_leads_to_something() -> None:
    broken = []
    for page in PAGES:
        for target, anchor in LINK.findall(page.read_text()):
            if target.startswith(("http:", "https:")):
                continue
            at = (page.parent / target).resolve() if target else page
            if not at.exists() or (anchor and anchor not in anchors(at)):
                broken.append(f"{page.name}: {target}#{anchor}")
    assert not broken, "\n".join(broken)


def test_the_first_page_lists_each_other_one() -> None:
    directory = ROOT / "docs" / "security"
    listed = (directory / "README.md").read_text().split("## All pages")[1]
    others = {page.name for page in directory.glob("*.md")} - {"README.md"}
    assert not others - {target for target, _ in LINK.findall(listed)}


def test_each_lesson_of_others_has_a_test_or_says_what_is_not_there_yet() -> None:
    page = (ROOT / "docs" / "security" / "threat-model.md").read_text()
    lessons = page.split("## Lessons of other catalogs")[1].splitlines()
    rows = [line for line in lessons if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert not [row for row in rows if not TEST.search(row) and "**not yet**" not in row]
