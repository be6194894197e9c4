"""Flight SQL through ADBC, as analysts use it."""

from decimal import Decimal
from importlib.metadata import version

import adbc_driver_manager
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as flight_sql
from pyiceberg.transforms import DayTransform
from stack.esker import Server

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine(
        "ADBC Flight SQL", versions=lambda: {"ADBC": version("adbc-driver-flightsql"), "Python": "3.11"}
    ),
]


@pytest.fixture(scope="module")
def connection(server: Server):
    catalog = server.catalog()
    catalog.create_namespace("fs")
    schema = pa.schema(
        [("id", pa.int64()), ("day", pa.date32()), ("amount", pa.decimal128(10, 2)), ("tag", pa.string())]
    )
    table = catalog.create_table("fs.orders", schema)
    with table.update_spec() as spec:
        spec.add_field("day", DayTransform(), "by_day")
    for day in range(10):
        ids = range(day * 100, day * 100 + 100)
        columns = {
            "id": pa.array(ids, pa.int64()),
            "day": pa.array([day] * 100, pa.int32()).cast(pa.date32()),
            "amount": pa.array([Decimal(i % 50) for i in ids], pa.decimal128(10, 2)),
            "tag": pa.array([None if i % 10 == 0 else f"t{i % 3}" for i in ids], pa.string()),
        }
        table.append(pa.table(columns, schema=schema))
    options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {server.token}"}
    with flight_sql.connect(server.flight, db_kwargs=options, autocommit=True) as connection:
        yield connection


def ask(connection, sql: str, parameters=None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def test_statements_aggregate_filter_and_order(connection) -> None:
    assert ask(connection, "SELECT count(*), min(id), max(id) FROM fs.orders") == [(1000, 0, 999)]
    by_tag = ask(connection, "SELECT tag, count(*) FROM fs.orders GROUP BY tag ORDER BY tag NULLS LAST")
    assert by_tag == [("t0", 300), ("t1", 300), ("t2", 300), (None, 100)]
    assert ask(connection, "SELECT count(*) FROM fs.orders WHERE day = DATE '1970-01-04' AND id % 2 = 0") == [(50,)]


def test_pruning_opens_only_the_files_of_the_day(server: Server, connection) -> None:
    ask(connection, "SELECT sum(id) FROM fs.orders WHERE day = DATE '1970-01-04'")
    record = server.api("GET", "/api/v1/queries?limit=1")[0]
    assert (record["files_considered"], record["files_pruned"], record["files_opened"]) == (10, 9, 1)


def test_prepared_statements_take_parameters_in_both_notations(connection) -> None:
    for sql in ("SELECT count(*) FROM fs.orders WHERE id < ?", "SELECT count(*) FROM fs.orders WHERE id < $1"):
        assert ask(connection, sql, (250,)) == [(250,)]
        assert ask(connection, sql, (10,)) == [(10,)]


def test_metadata_commands_list_catalogs_schemas_tables_types_and_the_server(connection) -> None:
    objects = connection.adbc_get_objects(depth="columns", catalog_filter="default").read_all().to_pylist()
    schemas = {s["db_schema_name"]: s for s in objects[0]["catalog_db_schemas"]}
    orders = [t for t in schemas["fs"]["db_schema_tables"] if t["table_name"] == "orders"][0]
    assert [c["column_name"] for c in orders["table_columns"]] == ["id", "day", "amount", "tag"]
    assert connection.adbc_get_table_types() == ["TABLE"]
    assert connection.adbc_get_info()["vendor_name"] == "Esker"
    assert connection.adbc_get_table_schema("orders", db_schema_filter="fs").names == ["id", "day", "amount", "tag"]


def test_errors_name_what_is_wrong(connection) -> None:
    for sql, words in [
        ("SELECT * FROM fs.nothing", "nothing"),
        ("SELECT nope FROM fs.orders", "nope"),
        ("SELEC 1", "SELEC"),
        ("DROP TABLE fs.orders", "only queries"),
    ]:
        with pytest.raises(adbc_driver_manager.Error, match=words):
            ask(connection, sql)
