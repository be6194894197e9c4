"""Steps that change rows: by Esker, PyIceberg, DuckDB and Spark, and by hand.

Each applies the same change to the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFileContent
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema, index_by_id
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import NestedField, StructType, TimestampNanoType, TimestamptzNanoType, UUIDType

from .. import arrow, literals, predicates, values, variants
from ..engines import Rows, as_json
from ..known import Fault
from ..names import quoted
from ..opaque import OPAQUE, VariantType, holds
from ..variants import Typed, Variant
from . import craft, statistics
from .state import SPEC, Refused, State, default, path_to, projected


def insert(state: State, step: dict) -> None:
    rows = [of_schema(row, state.schema) for row in step["rows"]]
    check_asked(state, step["by"])
    if step["by"] != "craft":
        rows = [sayable(row, step["by"]) for row in rows]
    for field in step.get("omit", []):
        f = next((f for f in state.schema.fields if f.field_id == field), None)
        if f and not f.required and len(state.schema.fields) > len(step["omit"]):
            for row in rows:
                row[field] = default(f, initial=False)
    {"esker": by_esker, "pyiceberg": by_pyiceberg, "duckdb": by_duckdb, "spark": by_spark, "craft": by_hand}[
        step["by"]
    ](state, step, rows)
    spec = state.spec.spec_id
    state.rows += [{**row, SPEC: spec} for row in rows]


def sayable(value: Any, by: str) -> Any:
    """Returns a value that a writer can express: statements have JSON variants only, Esker's other types too."""
    match value:
        case Variant(Typed() | bytes()) if by == "esker":
            return value
        case Variant():
            return variants.plain(value)
        case dict():
            return {k: sayable(v, by) for k, v in value.items()}
        case list():
            return [sayable(v, by) for v in value]
    return value


def of_schema(row: dict, schema: Schema) -> dict:
    """Returns a row with the schema's fields only, because shrinking a script removes columns."""
    return projected({f.field_id: row.get(f.field_id) for f in schema.fields}, schema)


def by_esker(state: State, step: dict, rows: Rows) -> None:
    left, style = step.get("omit", []), step.get("style", 0)
    fields = [f for f in state.schema.fields if f.required or f.field_id not in left] or state.schema.fields
    columns = ", ".join(quoted(f.name) for f in fields)
    tuples = [
        "(" + ", ".join(literals.sql(row[f.field_id], f.field_type, "esker", style) for f in fields) + ")"
        for row in rows
    ]
    engine = state.stage.esker
    n = engine.change(f"INSERT INTO {engine.table(state.name)} ({columns}) VALUES {', '.join(tuples)}")
    if n != len(rows):
        raise Fault("count", f"INSERT of {len(rows)} rows answered {n}")


def by_pyiceberg(state: State, step: dict, rows: Rows) -> None:
    state.table.append(arrow.table(rows, state.schema))


def by_duckdb(state: State, step: dict, rows: Rows) -> None:
    if any(holds(f.field_type, *OPAQUE) and not isinstance(f.field_type, OPAQUE) for f in state.schema.fields):
        raise Refused("DuckDB's variants within others are not written here")
    way = arrow.Way(with_ids=False, variants=as_json)
    state.stage.duckdb.insert(state.name, arrow.table(rows, state.schema, way=way, with_ids=False), state.schema)
    for f in state.schema.fields:
        for row in rows if isinstance(f.field_type, VariantType) else []:
            # DuckDB writes NULL as a variant null, in files too.
            row[f.field_id] = row[f.field_id] or Variant(None)
    if any(isinstance(f.field_type, (TimestampNanoType, TimestamptzNanoType)) for f in state.schema.fields):
        state.tell("with nanoseconds of DuckDB's")


def by_spark(state: State, step: dict, rows: Rows) -> None:
    spark, path = state.stage.spark, state.stage.home / "spark.parquet"
    if spark.reads(state.schema) != state.schema:
        raise Refused("Spark is not given variants within others here")
    pq.write_table(arrow.table(rows, state.schema, with_ids=False, way=arrow.Way(False, variants=as_json)), path)
    found = spark.session.read.parquet(str(path))
    for f in state.schema.fields:
        if isinstance(f.field_type, VariantType):
            name = "`" + f.name.replace("`", "``") + "`"
            found = found.withColumn(f.name, spark.expr(f"parse_json({name})"))
        if isinstance(f.field_type, UUIDType):
            # Spark's statements have them as text.
            name = "`" + f.name.replace("`", "``") + "`"
            found = found.withColumn(f.name, spark.expr(UUID_TEXT.format(name)))
    found.writeTo(spark.table(state.name)).append()


UUID_TEXT = r"regexp_replace(lower(hex({0})), '(.{{8}})(.{{4}})(.{{4}})(.{{4}})', '$1-$2-$3-$4-')"


def by_hand(state: State, step: dict, rows: Rows) -> None:
    """Writes a file for each partition, with the statistics and layout of the step."""
    schema, spec = state.schema, state.spec
    if step.get("without ids") and "schema.name-mapping.default" not in state.table.properties:
        mapping = schema.name_mapping.model_dump_json()
        with state.table.transaction() as changes:
            changes.set_properties({"schema.name-mapping.default": mapping})
    written = file_schema(schema, spec, step)
    groups: dict[Any, Rows] = {}
    for row in rows:
        groups.setdefault(partition_of(state, row, spec), []).append(row)
    files, with_ids = [], not step.get("without ids")
    kinds = {i: f.field_type for i, f in index_by_id(written).items() if isinstance(f.field_type, OPAQUE)}
    for n, of_group in enumerate(groups.values()):
        # The annotation by field ids needs ids, even if they are removed later.
        way = arrow.Way(with_ids or bool(kinds), step.get("shredding"))
        table = arrow.table(of_group, written, way.with_ids, way)
        path, size = craft.write_parquet(state.table, table, kinds, with_ids, **step.get("parquet", {}))
        seed = step.get("seed", 0) + n
        counted = statistics.made(step.get("statistics", "full"), of_group, written, seed, way.columns)
        partition = state.partition(of_group[0], spec)
        files.append(craft.Added(path, size, len(of_group), spec, partition, statistics=counted))
    craft.commit(state.stage.pyiceberg.catalog, state.table, files)
    if step.get("hive"):
        state.tell("without columns that the partition tells")
    if step.get("statistics") in statistics.SENSELESS:
        state.tell(f"with statistics that are senseless ({step['statistics']})")


def file_schema(schema: Schema, spec: PartitionSpec, step: dict) -> Schema:
    """Returns the columns of a file, mostly in another order, and without identity partition columns, as Hive does."""
    fields = list(schema.fields)
    if not step.get("in order"):
        random.Random(step.get("seed", 0)).shuffle(fields)
    if step.get("hive"):
        named = {f.source_id for f in spec.fields if isinstance(f.transform, IdentityTransform)}
        fields = [f for f in fields if f.field_id not in named] or fields
    return Schema(*fields)


def delete(state: State, step: dict) -> None:
    where = step["where"]
    check_specs(state, step["by"])
    gone = [row for row in state.live() if predicates.holds(where, row) is True]
    remove(state, lambda row: predicates.holds(where, row) is True)
    match step["by"]:
        case "pyiceberg":
            state.table.delete(predicates.pyiceberg(where, state.schema))
            state.mixed |= len(state.table.specs()) > 1
        case "esker" | "duckdb" as by:
            engine = getattr(state.stage, by)
            sql = f"DELETE FROM {engine.table(state.name)} WHERE {predicates.sql(where, state.schema, by)}"
            n = engine.change(sql) if by == "esker" else engine.execute(sql).fetchone()[0]
            if by == "esker" and n != len(gone):
                raise Fault("count", f"{sql} answered {n} for {len(gone)}")


def check_asked(state: State, by: str) -> None:
    if not state.asks(by):
        raise Refused(f"{by} would end with this process")


def check_specs(state: State, by: str) -> None:
    """Skips DuckDB's deletes if files have an older spec: 1.5.5 writes them under the present one, without effect."""
    check_asked(state, by)
    if by == "duckdb" and len(state.table.specs()) > 1:
        raise Refused("DuckDB deletes nothing of a table with several specs")


def remove(state: State, gone: Callable[[dict], bool]) -> None:
    state.rows = [row for row, live in zip(state.rows, state.live(), strict=True) if not gone(live)]


def update(state: State, step: dict) -> None:
    where, field = step["where"], state.schema.find_field(step["field"])
    check_specs(state, step["by"])
    spec, changed, new = state.spec.spec_id, [], sayable(step["value"], step["by"])
    for row, live in zip(state.rows, state.live(), strict=True):
        hit = predicates.holds(where, live) is True
        changed.append({**live, field.field_id: new, SPEC: spec} if hit else row)
    engine = getattr(state.stage, step["by"])
    if step["by"] != "esker" and isinstance(field.field_type, OPAQUE):
        raise Refused("only Esker changes variants and shapes here")
    value = literals.sql(new, field.field_type, step["by"], step.get("style", 2))
    sql = (
        f"UPDATE {engine.table(state.name)} SET {quoted(field.name)} = {value} "
        f"WHERE {predicates.sql(where, state.schema, step['by'])}"
    )
    state.rows, hits = changed, sum(a is not b for a, b in zip(changed, state.rows, strict=True))
    if step["by"] != "esker":
        engine.execute(sql)
    elif (n := engine.change(sql)) != hits:
        raise Fault("count", f"{sql} answered {n} for {hits}")


def overwrite(state: State, step: dict) -> None:
    where = step["where"]
    rows = [of_schema(row, state.schema) for row in step["rows"]]
    state.table.overwrite(arrow.table(rows, state.schema), predicates.pyiceberg(where, state.schema))
    state.mixed |= len(state.table.specs()) > 1
    remove(state, lambda row: predicates.holds(where, row) is True)
    state.rows += [{**row, SPEC: state.spec.spec_id} for row in rows]


def equality(state: State, step: dict) -> None:
    """Writes equality deletes as streaming writers do: one for each partition, or one for the whole table."""
    schema, whole = state.schema, step["scope"] == "table" or state.spec.is_unpartitioned()
    spec = state.spec
    if whole and not spec.is_unpartitioned():
        spec = next((s for s in state.table.specs().values() if s.is_unpartitioned()), None)
        if spec is None:
            raise Refused("no spec without partitions")
    if state.mixed and not whole:
        raise Refused("nobody knows under which spec the rows lie")
    paths = [path_to(schema, i) for i in step["fields"]]
    written = Schema(*only(schema.fields, set(step["fields"])))
    groups: dict[Any, Rows] = {}
    for row in step["keys"]:
        row = of_schema(row, schema)
        group = () if whole else partition_of(state, row, spec)
        groups.setdefault(group, []).append(row)
    files = []
    for of_group in groups.values():
        table = arrow.table(of_group, written)
        path, size = craft.write_parquet(state.table, table)
        counted = statistics.made(step.get("statistics", "full"), of_group, written, 0)
        partition = state.partition(of_group[0], spec)
        kind = DataFileContent.EQUALITY_DELETES
        files.append(craft.Added(path, size, len(of_group), spec, partition, kind, step["fields"], counted))
    craft.commit(state.stage.pyiceberg.catalog, state.table, files)
    state.tell("with equality deletes")

    def same(row: dict, live: dict, key: dict) -> bool:
        if not whole and row[SPEC] != spec.spec_id:
            return False
        if not whole and partition_of(state, live, spec) != partition_of(state, key, spec):
            return False
        return all(values.key(predicates.lookup(live, p)) == values.key(predicates.lookup(key, p)) for p in paths)

    keys = [key for of_group in groups.values() for key in of_group]
    pairs = zip(state.rows, state.live(), strict=True)
    state.rows = [row for row, live in pairs if not any(same(row, live, key) for key in keys)]


def partition_of(state: State, row: dict, spec: PartitionSpec) -> Any:
    """Returns a row's partition. The two zeros are different, and NaN is one value."""
    return values.key(list(state.partition(row, spec)._data))


def only(fields: tuple[NestedField, ...], ids: set[int]) -> list[NestedField]:
    """Returns some fields, with the structs around them."""
    found = []
    for f in fields:
        inner = only(f.field_type.fields, ids) if isinstance(f.field_type, StructType) else []
        if f.field_id in ids or inner:
            kind = StructType(*inner) if inner else f.field_type
            found.append(NestedField(f.field_id, f.name, kind, required=False))
    return found


def positions(state: State, step: dict) -> None:
    """Writes position deletes, one for each data file or one for each partition."""
    if state.version != 2:
        raise Refused("position delete files belong to version 2")
    tasks = [task for task in state.table.scan().plan_files() if not task.delete_files]
    pick, by_partition = random.Random(step["seed"]), {}
    for task in pick.sample(tasks, min(len(tasks), 2)):
        scan = ArrowScan(state.table.metadata, state.table.io, state.schema, predicates.px.AlwaysTrue())
        found = arrow.rows(scan.to_table([task]), state.schema)
        chosen = sorted(pick.sample(range(len(found)), min(len(found), pick.randrange(1, 4))))
        group = (task.file.spec_id, task.file.file_path if step["scope"] == "file" else repr(task.file.partition))
        by_partition.setdefault(group, []).append((task.file, chosen, [found[i] for i in chosen]))
    files, gone = [], []
    for of_group in by_partition.values():
        where = sorted((file.file_path, at) for file, chosen, _ in of_group for at in chosen)
        if not where:
            continue
        ids = [(2147483546, "file_path", pa.string()), (2147483545, "pos", pa.int64())]
        fields = [pa.field(n, t, nullable=False, metadata={"PARQUET:field_id": str(i)}) for i, n, t in ids]
        columns = [pa.array(column, f.type) for column, f in zip(zip(*where, strict=True), fields, strict=True)]
        path, size = craft.write_parquet(state.table, pa.Table.from_arrays(columns, schema=pa.schema(fields)))
        file = of_group[0][0]
        counted: dict[str, dict] = {}
        if step["scope"] == "file":
            bound = {2147483546: file.file_path.encode()}
            counted = {"lower_bounds": bound, "upper_bounds": bound}
        spec, kind = state.table.specs()[file.spec_id], DataFileContent.POSITION_DELETES
        files.append(craft.Added(path, size, len(where), spec, file.partition, kind, statistics=counted))
        gone += [row for _, _, rows in of_group for row in rows]
    if not files:
        raise Refused("no file without deletes")
    lived = [values.key(live) for live in state.live()]
    left = list(state.rows)
    for row in gone:
        if (key := values.key(row)) not in lived:
            raise Refused("PyIceberg reads a row as another: a NULL list as an empty one")
        at = lived.index(key)
        del lived[at], left[at]
    craft.commit(state.stage.pyiceberg.catalog, state.table, files)
    state.rows = left
