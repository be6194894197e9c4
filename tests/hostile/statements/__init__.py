"""Statements made by seed over hostile tables: held against DuckDB on the same rows, and against Esker itself."""
