"""Random statements over hostile tables, compared with DuckDB on the same rows, and with equivalent ones in Esker."""
