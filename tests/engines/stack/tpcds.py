"""TPC-DS: DuckDB generates the data and has the 99 queries and answers; PyIceberg writes the tables."""

from __future__ import annotations

from pathlib import Path

import duckdb

from .tpch import extension

TABLES = [
    "call_center", "catalog_page", "catalog_returns", "catalog_sales", "customer", "customer_address",
    "customer_demographics", "date_dim", "household_demographics", "income_band", "inventory", "item", "promotion",
    "reason", "ship_mode", "store", "store_returns", "store_sales", "time_dim", "warehouse", "web_page", "web_returns",
    "web_sales", "web_site",
]  # fmt: skip


def generated(scale: float, home: Path) -> duckdb.DuckDBPyConnection:
    """Generates the 24 tables in a DuckDB file."""
    connection = duckdb.connect(home / "tpcds.duckdb", config={"home_directory": str(home)})
    connection.load_extension(extension("tpcds"))
    connection.execute(f"CALL dsdgen(sf = {scale})")
    return connection


def queries(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    rows = connection.execute("SELECT query_nr, query FROM tpcds_queries() ORDER BY 1").fetchall()
    return [(number, text.strip().removesuffix(";")) for number, text in rows]
