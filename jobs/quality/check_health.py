"""Checks the health of all tables: a suite of Great Expectations over `system.table_health`.

    python check_health.py trino://user@trino:8080/lake

The catalog in the URL is that of Esker's warehouse. The exit status is 1 if an expectation does not hold; the output
names it. `--least-score`, `--most-minutes` and `--namespace` set the expectations.
"""

from __future__ import annotations

import argparse
import json
import sys

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from sqlalchemy import create_engine, text

# The newest row of each table.
LATEST = """
SELECT * FROM (
  SELECT h.*, row_number() OVER (PARTITION BY namespace, "table" ORDER BY time DESC) AS nth,
         date_diff('minute', time, current_timestamp) AS minutes_ago
  FROM system.table_health h
) WHERE nth = 1 AND namespace LIKE :namespace
"""


def suite(least_score: int, most_minutes: int) -> list:
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToNotBeNull(column="score"),
        gxe.ExpectColumnValuesToBeBetween(column="score", min_value=least_score, max_value=100),
        gxe.ExpectColumnValuesToNotBeInSet(column="worst_severity", value_set=["critical"]),
        # Esker adds a row for each table every `health.table_seconds`, so a recent row shows that it runs.
        gxe.ExpectColumnMaxToBeBetween(column="minutes_ago", max_value=most_minutes),
    ]


def check(url: str, namespace: str, least_score: int, most_minutes: int) -> dict:
    # Uses a data frame, because a suite over a query does not find the query's columns in Trino.
    with create_engine(url).connect() as connection:
        found = connection.execute(text(LATEST), {"namespace": namespace})
        frame = pd.DataFrame(found.fetchall(), columns=list(found.keys()))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas(name="lake").add_dataframe_asset(name="table_health")
    batch = asset.add_batch_definition_whole_dataframe("latest")
    checks = context.suites.add(gx.ExpectationSuite(name="esker_health", expectations=suite(least_score, most_minutes)))
    definition = gx.ValidationDefinition(name="esker_health", data=batch, suite=checks)
    validation = context.validation_definitions.add(definition)
    wanted = {"result_format": "SUMMARY", "unexpected_index_column_names": ["namespace", "table"]}
    return validation.run(batch_parameters={"dataframe": frame}, result_format=wanted).to_json_dict()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--namespace", default="%", help="a pattern of SQL's LIKE; default: all")
    parser.add_argument("--least-score", type=int, default=50)
    parser.add_argument("--most-minutes", type=int, default=180)
    options = parser.parse_args()
    outcome = check(options.url, options.namespace, options.least_score, options.most_minutes)
    for result in outcome["results"]:
        config, found = result["expectation_config"], result["result"]
        what = {key: value for key, value in config["kwargs"].items() if key != "batch_id"}
        line = {"expectation": config["type"], **what, "success": result["success"]}
        keys = ("observed_value", "unexpected_count", "partial_unexpected_index_list")
        print(json.dumps(line | {key: found[key] for key in keys if key in found}))
        # There is one exception, or one for each metric.
        raised = result["exception_info"]
        raised = [raised] if "raised_exception" in raised else raised.values()
        for exception in raised:
            if exception["raised_exception"]:
                print(exception["exception_traceback"], file=sys.stderr)
    return 0 if outcome["success"] else 1


if __name__ == "__main__":
    sys.exit(main())
