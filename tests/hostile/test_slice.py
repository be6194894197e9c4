"""A slice of the hostile tables and statements, about a minute each.

`ESKER_HOSTILE_SEED` is the first seed, `ESKER_HOSTILE_TABLES` the number of tables, and `ESKER_HOSTILE_WORLDS` the
number of rounds of 150 statements.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .engines import Stage
from .statements.campaign import Campaign as Statements
from .tables import restored
from .tables.campaign import Campaign as Tables
from .tables.campaign import summary
from .tables.themes import THEMES

SEED = int(os.environ.get("ESKER_HOSTILE_SEED", "0"))


def test_tables_hold_what_the_engines_agree_on(on: Stage, tmp_path: Path) -> None:
    started, campaign = time.monotonic(), Tables(on, tmp_path)
    # By default every theme runs twice.
    for seed in range(SEED, SEED + int(os.environ.get("ESKER_HOSTILE_TABLES", 2 * len(THEMES)))):
        campaign.table(seed, 20)
    print(summary(campaign.tally, started))
    assert not campaign.faults, "\n\n".join(campaign.faults)
    assert campaign.tally["comparisons"] > 100, "nothing was compared"


def test_a_database_that_was_put_back_forgets_no_commit(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    restored.run(tmp_path / "home", SEED)


def test_statements_are_answered_as_duckdb_does_and_as_esker_does_in_other_words(on: Stage) -> None:
    started, campaign = time.monotonic(), Statements(on)
    # The number is fixed, so that a seed finds the same on every machine.
    for seed in range(SEED, SEED + int(os.environ.get("ESKER_HOSTILE_WORLDS", 8))):
        campaign.world(seed)
    print(summary(campaign.tally, started))
    assert not campaign.faults, "\n\n".join(campaign.faults.values())
    assert campaign.tally["statements"] > 100, "nothing was asked"
