"""The types of format version 3, each with a few values: in SQL, in JSON, and in answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

# Field ids of each table's columns: a key, and a column of the type.
KEY_ID, ID = 1, 2

PRIMITIVE = "Only simple types make partitions and sort orders; this one holds other values."
OPAQUE = "Values of this type have no order and no equality in the format."
NULL_ONLY = "A default of this type can only be null."


@dataclass(frozen=True)
class Value:
    """A value as a SQL literal, as Python value in an answer, and in the JSON of the format."""

    sql: str
    held: Any
    json: Any = None


@dataclass(frozen=True)
class Kind:
    """A type. Its values are distinct, and sorted if the type has an order."""

    name: str
    type: Any
    values: list[Value]
    # The Arrow type in files written by pyarrow; None for variants, which DuckDB writes.
    arrow: pa.DataType | None = None
    # Arrow types in answers, and in GetTables.
    answered: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    # Conditions, with the indexes of the values that they hold for.
    filters: list[tuple[str, list[int]]] = field(default_factory=list)
    # Conditions that prune every file by its statistics.
    excluded: list[str] = field(default_factory=list)
    # Filters for scan plans: one that finds the values, and one that prunes them, in the REST specification's JSON.
    found: Any = None
    pruned: Any = None
    # A condition that holds for the last value only, and that prunes partitions.
    last: str = ""
    # Lower and upper bounds of all values, by field id, in the form of manifests.
    bounds: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    # A nested field with counts: its id and path.
    leaf: tuple[int, str] | None = None
    transforms: tuple[str, ...] = ()
    # The reason why the type can't be a sort, partition or equality column, if it can't.
    unordered: str = ""
    counted: bool = True
    # A type that it can be promoted to, and the values after the promotion.
    becomes: tuple[Any, list[Any]] | None = None
    # Defaults of the column. The type has those of nested fields.
    defaults: list[Value] = field(default_factory=list)
    no_default: str = ""
    default_type: Any = None
    # Converts a value of an Arrow array to the form of `Value.held`.
    decode: Callable[[Any], Any] = lambda value: value
    # Returns DuckDB's literal of a value in the form of `Value.held`.
    duck: Callable[[Any], str] | None = None
    duck_ids: str = ""
    duck_read: str = "v"
    # Groups of the Parquet file that are variants and that DuckDB can't annotate.
    groups: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Returns the type's name in a form that fits into a table's name."""
        kept = "".join(c if c.isalnum() else "_" for c in self.name.lower())
        return "_".join(part for part in kept.split("_") if part)

    @property
    def held(self) -> list[Any]:
        return [value.held for value in self.values]

    @property
    def is_null(self) -> bool:
        return self.type == "unknown"


def plain(name: str, arrow: pa.DataType, values: list[Value], transforms: str, *answered: str, **more: Any) -> Kind:
    """Returns a type whose values have an order."""
    first, last = values[0], values[-1]
    others = list(range(1, len(values)))
    filters = [
        (f"v = {first.sql}", [0]),
        (f"v > {first.sql}", others),
        (f"v IN ({first.sql}, {last.sql})", [0, len(values) - 1]),
        (f"v <> {last.sql}", list(range(len(values) - 1))),
    ]
    return Kind(
        name, name, values, arrow, (*answered, str(arrow)), transforms=("identity", *transforms.split()),
        **{
            "filters": filters, "last": f"v = {last.sql}",
            "excluded": [f"v < {first.sql}", f"v > {last.sql}"], "defaults": [last, first],
            "names": (SQL_NAMES.get(name, name),),
            "found": {"type": "eq", "term": "v", "value": first.json},
            "pruned": {"type": "gt", "term": "v", "value": last.json},
        } | more,
    )  # fmt: skip


def same(*values: Any) -> list[Value]:
    """Returns values that SQL, JSON and Python write alike."""
    return [Value(json.dumps(v), v, v) for v in values]


def quoted(*pairs: tuple[str, Any]) -> list[Value]:
    """Returns values that are texts in SQL and JSON."""
    return [Value(f"'{text}'", held, text) for text, held in pairs]


def hexes(*values: bytes) -> list[Value]:
    """Returns binary values. Their JSON has hexadecimal digits in capitals, as Java writes them."""
    return [Value(f"X'{v.hex()}'", v, v.hex().upper()) for v in values]


def moments(zone: str, *moments: datetime) -> list[Value]:
    return [
        Value(f"'{m:%Y-%m-%d %H:%M:%S.%f}{zone}'", m.replace(tzinfo=UTC) if zone else m, f"{m.isoformat()}{zone}")
        for m in moments
    ]


def nanos(zone: str, *counts: int) -> list[Value]:
    def text(n: int, between: str) -> str:
        seconds, rest = divmod(n, 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d{between}%H:%M:%S}.{rest:09}{zone}"

    return [Value(f"'{text(n, ' ')}'", n, text(n, "T")) for n in counts]


TIMES = [
    datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2026, 1, 31, 10, 0, 0, 500000), datetime(2262, 1, 1),
]  # fmt: skip
NANOS = [-1, 1_769_853_600_123_456_789, 9_214_646_400_000_000_001]
UUIDS = [
    UUID(text)
    for text in (
        "01234567-89ab-4cde-8f01-23456789abcd",
        "f79c3e09-677c-4bbd-a479-3f349cb785e7",
        "fedcba98-7654-4321-8000-000000000001",
    )
]
DATES = [date(1969, 12, 31), date(2026, 1, 31), date(2262, 1, 1)]

# SQL names of types that differ from Iceberg's names.
SQL_NAMES = {
    "long": "bigint", "float": "real", "string": "varchar", "binary": "varbinary", "fixed[5]": "fixed(5)",
}  # fmt: skip

SIMPLE = [
    # `v = true` finds the row too, but prunes no file.
    plain("boolean", pa.bool_(), same(False, True), "", counted=False, excluded=[], pruned=None, last="v IS TRUE"),
    plain("int", pa.int32(), same(-5, 0, 2**31 - 1), "bucket[4] truncate[10]", becomes=("long", [-5, 0, 2**31 - 1])),
    plain("long", pa.int64(), same(-5, 0, 2**63 - 1), "bucket[4] truncate[10]"),
    plain("float", pa.float32(), same(-1.5, 0.25, 1024.0), "", becomes=("double", [-1.5, 0.25, 1024.0])),
    plain("double", pa.float64(), same(-1.5, 0.1, 1e300), ""),
    plain(
        "decimal(9, 2)", pa.decimal128(9, 2),
        [Value(t, Decimal(t), t) for t in ("-1.25", "0.00", "9999999.99")], "bucket[4] truncate[10]",
        becomes=("decimal(12, 2)", [Decimal(t) for t in ("-1.25", "0.00", "9999999.99")]),
    ),
    plain(
        "decimal(38, 10)", pa.decimal128(38, 10),
        [Value(t, Decimal(t), t) for t in ("-1.0000000001", "0.0000000000", "9999999999999999999999999999.9999999999")],
        "bucket[4] truncate[10]",
    ),
    plain(
        "date", pa.date32(), quoted(*((d.isoformat(), d) for d in DATES)), "bucket[4] year month day",
        becomes=("timestamp", [datetime.combine(d, time()) for d in DATES]),
    ),
    plain(
        "time", pa.time64("us"),
        quoted(*((t.isoformat(), t) for t in (time(), time(10, 0, 0, 1), time(23, 59, 59, 999999)))), "bucket[4]",
    ),
    plain("timestamp", pa.timestamp("us"), moments("", *TIMES), "bucket[4] year month day hour"),
    plain(
        "timestamptz", pa.timestamp("us", "UTC"), moments("+00:00", *TIMES), "bucket[4] year month day hour",
        "timestamp[us, tz=+00:00]",
    ),
    plain("timestamp_ns", pa.timestamp("ns"), nanos("", *NANOS), "bucket[4] year month day hour"),
    plain(
        "timestamptz_ns", pa.timestamp("ns", "UTC"), nanos("+00:00", *NANOS), "bucket[4] year month day hour",
        "timestamp[ns, tz=+00:00]",
    ),
    plain("string", pa.string(), quoted(*((t, t) for t in ("", "a", "é€😀"))), "bucket[4] truncate[2]"),
    plain("uuid", pa.binary(16), quoted(*((str(u), u.bytes) for u in UUIDS)), "bucket[4]"),
    plain("fixed[5]", pa.binary(5), hexes(b"\0\1\2\3\4", b"hello", b"\xff" * 5), "bucket[4]"),
    plain("binary", pa.binary(), hexes(b"", b"a", b"\xff\0\xff"), "bucket[4] truncate[2]", "large_binary"),
]  # fmt: skip

UNKNOWN = Kind(
    "unknown", "unknown", [Value("NULL", None)] * 2, pa.null(), ("null",), ("unknown", "null"),
    filters=[("v IS NULL", [0, 1]), ("v IS NOT NULL", [])], found={"type": "is-null", "term": "v"},
    transforms=("identity",), counted=False, becomes=("int", [None, None]), no_default=NULL_ONLY,
)  # fmt: skip

TEXTS = ['{"a":{"b":1},"c":"x"}', '{"a":{"b":5},"c":null}', '[1,"two",[3.5]]']


def variants(texts: list[str]) -> list[Value]:
    return [Value(f"parse_json('{text}')", json.loads(text)) for text in texts]


def duck_variant(held: Any) -> str:
    return f"'{json.dumps(held)}'::JSON::VARIANT"


def duck_group(held: Any) -> str:
    """Returns a variant as a struct, in DuckDB's SQL. DuckDB can't write nested variants in another way."""
    return f"variant_to_parquet_variant({duck_variant(held)})"


def loaded(text: Any) -> Any:
    """Parses the JSON text of a variant, as DuckDB and clients without variants get it."""
    return None if text is None else json.loads(text)


VARIANT = Kind(
    "variant", "variant", variants(TEXTS), None, ("string",), ("variant",),
    filters=[
        ("variant_get(v, '$.a.b', 'int') = 1", [0]),
        ("variant_get(v, '$.a.b', 'int') > 1", [1]),
        ("try_variant_get(v, '$.c', 'int') IS NOT NULL", []),
        ("variant_get(v, '$[1]', 'string') = 'two'", [2]),
        ("to_json(v) LIKE '[1%'", [2]),
    ],
    found={"type": "not-null", "term": "v"},
    unordered=OPAQUE, counted=False, no_default=NULL_ONLY, decode=loaded, duck=duck_variant, duck_ids="2",
    duck_read="v::JSON",
)  # fmt: skip


def point(x: float, y: float) -> Value:
    return Value(f"ST_GeomFromText('POINT ({x:g} {y:g})')", struct.pack("<BIdd", 1, 1, x, y))


POINTS = [point(1, 2), point(10, 20), point(-170, 5)]
SQUARE = "ST_GeomFromText('POLYGON ((0 0, 5 0, 5 5, 0 5, 0 0))')"
FAR = "ST_GeomFromText('POLYGON ((80 -80, 81 -80, 81 -79, 80 -79, 80 -80))')"


def geo(name: str, **more: Any) -> Kind:
    filters = [(f"ST_Intersects(v, {SQUARE})", [0]), (f"ST_Within(v, {SQUARE})", [0]), (f"ST_Intersects(v, {FAR})", [])]
    excluded = [f"ST_Intersects(v, {FAR})"]
    if name.startswith("geography"):
        filters = [("ST_DWithin(v, ST_Point(1, 2), 1000)", [0]), ("ST_DWithin(v, ST_Point(80, -80), 1000)", [])]
        excluded = ["ST_DWithin(v, ST_Point(80, -80), 1000)"]
    else:
        filters += [("ST_DWithin(v, ST_GeomFromText('POINT (10 21)'), 1.5)", [1]), ("ST_AsText(v) LIKE '%-170%'", [2])]
    return Kind(
        name, name, POINTS, pa.binary(), ("large_binary", "binary"), (name.lower(), name.partition("(")[0]), filters,
        excluded, {"type": "not-null", "term": "v"},
        bounds={ID: (struct.pack("<2d", -170, 2), struct.pack("<2d", 10, 20))},
        unordered=OPAQUE, counted=False, no_default=NULL_ONLY, **more,
    )  # fmt: skip


GEO = [
    geo("geometry"), geo("geometry(EPSG:4326)"), geo("geography"), geo("geography(OGC:CRS84, karney)"),
]  # fmt: skip


def optional(id: int, name: str, type: Any, **more: Any) -> dict:
    return {"id": id, "name": name, "required": False, "type": type, **more}


def fields(*fields: dict) -> dict:
    return {"type": "struct", "fields": list(fields)}


INT, TEXT = optional(3, "a", "int"), optional(4, "b", "string")
LIST = {"type": "list", "element-id": 3, "element": "int", "element-required": False}
MAP = {"type": "map", "key-id": 3, "key": "string", "value-id": 4, "value": "int", "value-required": False}

STRUCT = Kind(
    "struct", fields(INT, TEXT),
    [
        Value("{'a': 1, 'b': 'x'}", {"a": 1, "b": "x"}),
        Value("{'a': 5, 'b': NULL}", {"a": 5, "b": None}),
        Value("{'a': NULL, 'b': 'z'}", {"a": None, "b": "z"}),
    ],
    pa.struct([("a", pa.int32()), ("b", pa.string())]), ("struct<a: int32, b: string>",), ("struct(a int, b varchar)",),
    filters=[
        ("v.a = 1", [0]), ("v.a > 1", [1]), ("v.b = 'z' OR v.a = 1", [0, 2]), ("v.b IS NULL AND v IS NOT NULL", [1]),
    ],
    found={"type": "eq", "term": "v.a", "value": 1},
    pruned={"type": "gt", "term": "v.a", "value": 5},
    bounds={3: (struct.pack("<i", 1), struct.pack("<i", 5))}, leaf=(3, "a"), unordered=PRIMITIVE, counted=False,
    becomes=(
        fields(optional(3, "a", "long"), TEXT, optional(5, "c", "double")),
        [{"a": 1, "b": "x", "c": None}, {"a": 5, "b": None, "c": None}, {"a": None, "b": "z", "c": None}],
    ),
    default_type=fields(
        INT | {"initial-default": 7, "write-default": 7}, TEXT | {"initial-default": "d", "write-default": "d"}
    ),
    defaults=[Value("", {"a": 7, "b": "d"}, {})],
)  # fmt: skip

NESTED = [
    STRUCT,
    Kind(
        "list", LIST, [Value("[1, 2]", [1, 2]), Value("[5, NULL]", [5, None]), Value("[]", [])],
        pa.list_(pa.int32()), ("list<element: int32>", "list<item: int32>"), ("int[]",),
        filters=[("array_has(v, 5)", [1]), ("v[1] = 1", [0]), ("cardinality(v) = 0", [2])],
        unordered=PRIMITIVE, counted=False,
        becomes=(LIST | {"element": "long"}, [[1, 2], [5, None], []]),
        defaults=[Value("", [7, 8], [7, 8]), Value("", [], [])],
    ),
    Kind(
        "map", MAP,
        [
            Value("MAP {'k': 1}", [("k", 1)]),
            Value("MAP {'k': 5, 'l': NULL}", [("k", 5), ("l", None)]),
            Value("MAP {}", []),
        ],
        pa.map_(pa.string(), pa.int32()), ("map<string, int32>",), ("map(varchar, int)",),
        filters=[("v['k'] = 5", [1]), ("v['k'] IS NOT NULL", [0, 1]), ("cardinality(v) = 0", [2])],
        unordered=PRIMITIVE, counted=False,
        becomes=(MAP | {"value": "long"}, [[("k", 1)], [("k", 5), ("l", None)], []]),
        defaults=[Value("", [("k", 7)], {"keys": ["k"], "values": [7]}), Value("", [], {"keys": [], "values": []})],
    ),
    Kind(
        "struct of variant", fields(optional(3, "x", "variant")),
        [Value(f"{{'x': {v.sql}}}", {"x": v.held}) for v in variants(TEXTS)],
        None, ("struct<x: string>",), ("struct(x variant)",),
        filters=[("variant_get(v.x, '$.a.b', 'int') = 1", [0]), ("variant_get(v.x, '$[1]', 'string') = 'two'", [2])],
        unordered=PRIMITIVE, counted=False,
        default_type=fields(optional(3, "x", "variant")), defaults=[Value("", {"x": None}, {})],
        decode=lambda held: held and {"x": loaded(held["x"])},
        duck=lambda held: f"struct_pack(x := {duck_group(held['x'])})", duck_ids="{__duckdb_field_id: 2, x: 3}",
        groups=("v.x",), duck_read="CASE WHEN v IS NOT NULL THEN struct_pack(x := v.x::JSON) END",
    ),
    Kind(
        "list of variant", LIST | {"element": "variant"},
        [
            Value(f"[{', '.join(v.sql for v in of)}]", [v.held for v in of])
            for of in (variants(TEXTS), variants(TEXTS[:1]))
        ],
        None, ("list<element: string>", "list<item: string>"), ("variant[]",),
        filters=[("variant_get(v[1], '$.a.b', 'int') = 1", [0, 1]), ("cardinality(v) = 1", [1])],
        unordered=PRIMITIVE, counted=False, defaults=[Value("", [], [])],
        decode=lambda held: None if held is None else [loaded(v) for v in held],
        duck=lambda held: f"[{', '.join(duck_group(v) for v in held)}]", groups=("v.list.element",),
        duck_ids="{__duckdb_field_id: 2, element: 3}", duck_read="list_transform(v, lambda x: x::JSON)",
    ),
]  # fmt: skip

KINDS = [*SIMPLE, UNKNOWN, VARIANT, *GEO, *NESTED]
