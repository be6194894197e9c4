"""The roles of docs/security/roles.md: tests give them as the page does, statement by statement."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from .base import ROOT
from .esker import Server

PAGE = ROOT / "docs" / "security" / "roles.md"


def page_roles() -> dict[str, list[str]]:
    """Returns the statements of each role on the page. A block begins with the creation of its role."""
    roles = {}
    for block in re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        statements = [statement.strip() for statement in block.split(";\n") if statement.strip()]
        name = re.fullmatch(r"CREATE ROLE (\w+)", statements[0])[1]
        assert name not in roles, f"two blocks create {name}"
        roles[name] = statements
    return roles


def give(admin: Server, role: str, warehouse: str = "lake") -> Server:
    """Runs the page's block of a role, with another name for the page's warehouse. Returns the server as its client."""
    client = None
    for statement in page_roles()[role]:
        admin.sql(re.sub(r"\blake\b", warehouse, statement))
        member = re.fullmatch(rf"GRANT ROLE {role} TO CLIENT (\w+)", statement)
        client = member[1] if member else client
    assert client, f"the block of {role} names no client"
    return replace(admin, token=admin.api("POST", "/api/v1/tokens", {"principal": client})["token"])


def privileges(admin: Server, role: str) -> list[tuple[str, str]]:
    """Returns each privilege of a role, with the thing that it is granted on, as SQL names both."""
    grants = admin.sql(f"SHOW GRANTS TO ROLE {role}")
    return [(row[0], f"{row[1]} {row[2] or ''}".strip()) for row in grants]


def assert_each_is_needed(admin: Server, role: str, work: Callable[[], object]) -> dict[tuple[str, str], str]:
    """Asserts that a role can do its work, and that it can't with any one of its privileges fewer.

    Returns the error that each missing privilege leads to.
    """
    work()
    errors = {}
    for privilege, on in privileges(admin, role):
        admin.sql(f"REVOKE {privilege} ON {on} FROM ROLE {role}")
        with pytest.raises(Exception) as failed:  # noqa: PT011, since engines have errors of many kinds
            work()
            pytest.fail(f"{role} does its work without {privilege} on {on}")
        errors[privilege, on] = str(failed.value)
        admin.sql(f"GRANT {privilege} ON {on} TO ROLE {role}")
    work()
    return errors
