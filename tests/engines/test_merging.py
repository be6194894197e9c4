"""MERGE of Spark by eight writers at once, on tables whose late commits Esker merges.

The tables are copy-on-write, because deletes by position are not merged yet. Spark does not retry, so a commit that is
refused fails.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pyspark.sql import SparkSession
from stack.esker import Server

pytestmark = pytest.mark.timeout(900)

WRITERS, ROWS = 8, 80
# Rounds of eight statements, at most. The first test ends as soon as commits were late.
ROUNDS = 10


def merged(server: Server, kind: str) -> int:
    """Returns the number of late commits of a class that were merged since the start of the server."""
    headers = {"authorization": f"Bearer {server.token}"}
    metrics = requests.get(f"{server.rest}/metrics", headers=headers, timeout=30).text
    found = re.search(rf'^esker_commits_merged_total\{{class="{kind}"\}} (\d+)$', metrics, re.MULTILINE)
    return int(found[1]) if found else 0


def create(spark: SparkSession, name: str) -> str:
    """Creates a table of eight partitions, in which `n` is 0. Returns its name in Spark."""
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.merging")
    levels = ", ".join(f"'write.{what}.isolation-level'='snapshot'" for what in ("delete", "update", "merge"))
    spark.sql(
        f"CREATE TABLE default.merging.{name} (id bigint, p int, n bigint) USING iceberg PARTITIONED BY (p) "
        f"TBLPROPERTIES ('format-version'='2', 'write.merge.mode'='copy-on-write', {levels}, "
        "'commit.retry.num-retries'='0', 'esker.commit.merge'='snapshot')"
    )
    spark.sql(f"INSERT INTO default.merging.{name} SELECT id, cast(id % {WRITERS} AS int), 0 FROM range({ROWS})")
    return f"default.merging.{name}"


def at_once(spark: SparkSession, statements: list[str]) -> list[str | None]:
    """Runs statements at once. Returns the error of each, or None."""

    def run(statement: str) -> str | None:
        try:
            spark.sql(statement)
        except Exception as error:
            return str(error)
        return None

    with ThreadPoolExecutor(len(statements)) as pool:
        return list(pool.map(run, statements))


def test_merges_of_eight_writers_on_disjoint_keys_succeed_without_a_retry(server: Server, spark: SparkSession) -> None:
    table, before = create(spark, "disjoint"), merged(server, "overwrite")
    model = {i: (i % WRITERS, 0) for i in range(ROWS)}
    refused, tries = [], 0
    for turn in range(ROUNDS):
        new = [1000 * WRITERS + turn * WRITERS + writer for writer in range(WRITERS)]
        errors = at_once(
            spark,
            [
                f"MERGE INTO {table} t USING (SELECT id FROM range({ROWS}) WHERE id % {WRITERS} = {writer} "
                f"UNION ALL SELECT {new[writer]}) s ON t.id = s.id AND t.p = {writer} "
                f"WHEN MATCHED THEN UPDATE SET n = t.n + 1 "
                f"WHEN NOT MATCHED THEN INSERT (id, p, n) VALUES (s.id, {writer}, 0)"
                for writer in range(WRITERS)
            ],
        )
        tries += WRITERS
        for writer, error in enumerate(errors):
            if error is None:
                changed = {i: (p, n + 1) for i, (p, n) in model.items() if p == writer and i < ROWS}
                model |= changed | {new[writer]: (writer, 0)}
            else:
                refused.append(error)
        rows = server.sql("SELECT id, p, n FROM merging.disjoint ORDER BY id")
        assert rows == [(i, p, n) for i, (p, n) in sorted(model.items())]
        if merged(server, "overwrite") > before + 2:
            break
    assert merged(server, "overwrite") > before, "none of the commits was late"
    assert len(refused) <= tries * 0.05, refused


def test_of_eight_writers_that_merge_into_one_row_no_change_is_lost(server: Server, spark: SparkSession) -> None:
    table = create(spark, "same")
    statement = (
        f"MERGE INTO {table} t USING (SELECT cast(0 AS bigint) AS id) s ON t.id = s.id AND t.p = 0 "
        "WHEN MATCHED THEN UPDATE SET n = t.n + 1"
    )
    succeeded = 0
    for _ in range(3):
        errors = at_once(spark, [statement] * WRITERS)
        succeeded += errors.count(None)
        # The first of them wins. A later one fails by the client's own check, or is refused.
        assert None in errors
        words = ("conflict", "commit", "missing required files")
        others = [error for error in errors if error and not any(word in error.lower() for word in words)]
        assert others == []
        assert server.sql("SELECT n FROM merging.same WHERE id = 0") == [(succeeded,)]
    assert server.sql("SELECT count(*), sum(n) FROM merging.same") == [(ROWS, succeeded)]
