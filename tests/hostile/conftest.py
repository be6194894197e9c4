"""The slices of `make test`: one server and its engines for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .engines import Stage, stage


@pytest.fixture(scope="session")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("hostile")) as opened:
        yield opened
