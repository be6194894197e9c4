"""Every compaction strategy on tables of every format version, with deletes of every kind.

Spark, PyIceberg and Esker read the same rows before and after, in the new snapshot and in retained ones. Trino reads
the results.
"""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from stack.esker import Server, rows
from stack.messy import CASES, SLICE, Table, cases

STRATEGIES = [
    {"strategy": "convert-deletes"},
    {"strategy": "binpack", "verify": "full"},
    {"strategy": "sort", "sort-order": "s desc, id"},
    {"strategy": "zorder", "zorder-columns": ["id", "s"]},
]


@pytest.mark.parametrize("version,deletes,layout", cases(CASES))
def test_content_is_the_same_before_and_after(
    server: Server, spark: SparkSession, version: int, deletes: str, layout: str, request: pytest.FixtureRequest
) -> None:
    spark.sql("CREATE NAMESPACE IF NOT EXISTS default.cmp")
    name = f"cmp.v{version}_{deletes}_{layout}"
    table = Table(server, spark, name, version, deletes, layout)
    columns = "id, s, p"
    for step, options in enumerate(STRATEGIES):
        table.mess(deletes, step)
        before, lineage = table.content(), table.lineage()
        ours = rows(server.sql(f"SELECT {columns} FROM {name} ORDER BY id"))
        assert ours == rows(table.ask(f"SELECT {columns} FROM {name} ORDER BY id"))
        options = options | {"courtesy-seconds": 0, "rewrite-all": options["strategy"] != "convert-deletes"}
        outcome = server.maintain(name, "compact", options)
        assert outcome["refused"] == [], outcome
        after = table.content()
        for snapshot in before.keys() & after.keys():
            assert after[snapshot] == before[snapshot], f"snapshot {snapshot or 'now'}"
        assert table.lineage() == lineage, "row ids and update numbers are kept"
        assert rows(server.sql(f"SELECT {columns} FROM {name} ORDER BY id")) == ours
        left = table.delete_files()
        if options["strategy"] == "convert-deletes":
            assert left["equality_deletes"] == 0, left
            assert version == 2 or left["position_deletes"] == 0, left
        else:
            assert set(left.values()) == {0}, left
        scanned = server.catalog().load_table(name).scan(selected_fields=("id", "s", "p")).to_arrow().sort_by("id")
        assert rows([tuple(row.values()) for row in scanned.select(["id", "s", "p"]).to_pylist()]) == ours
        if (
            version < 3
            and step == len(STRATEGIES) - 1
            and (version, deletes, layout) in [*SLICE, (2, "all", "partitioned")]
        ):
            trino = request.getfixturevalue("trino")
            assert rows(trino.ask(f"SELECT {columns} FROM {name} ORDER BY id")) == ours
