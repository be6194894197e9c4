"""DuckDB with the catalog attached. Its extensions come as Python packages."""

from __future__ import annotations

from pathlib import Path

import duckdb

from . import minio
from .esker import Server


def extension(name: str) -> str:
    """Returns the file of a DuckDB extension in a Python package."""
    module = __import__(f"duckdb_extension_{name}")
    return str(next(Path(module.__file__).parent.rglob(f"{name}.duckdb_extension")))


def attached(server: Server, warehouse: str, endpoint: str, home: Path) -> duckdb.DuckDBPyConnection:
    """Returns a connection in which the warehouse is the database `lake`."""
    connection = duckdb.connect(config={"home_directory": str(home)})
    for name in ("avro", "httpfs", "iceberg"):
        connection.load_extension(extension(name))
    if server.ca:
        connection.execute(f"SET ca_cert_file = '{server.ca}'")
        connection.execute("SET enable_server_cert_verification = true")
    connection.execute(
        f"CREATE SECRET lake (TYPE s3, KEY_ID '{minio.KEY}', SECRET '{minio.SECRET}', REGION 'us-east-1', "
        f"ENDPOINT '{endpoint.removeprefix('http://')}', URL_STYLE 'path', USE_SSL false)"
    )
    connection.execute(f"CREATE SECRET esker (TYPE iceberg, TOKEN '{server.token}')")
    connection.execute(
        f"ATTACH '{warehouse}' AS lake (TYPE iceberg, SECRET esker, ENDPOINT '{server.rest}', "
        "ACCESS_DELEGATION_MODE 'none')"
    )
    return connection
