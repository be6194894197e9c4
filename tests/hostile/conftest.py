"""Fixtures of the slices of `make test`: each has one server with its engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .engines import Stage, stage


@pytest.fixture(scope="session")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("hostile")) as opened:
        yield opened
