"""Generates expressions by type from a seed. If a form means different things in the dialects, each gets its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from .. import literals, predicates, values
from .text import Text, bound, joined, put, same, spaced
from .world import SHARED, Column, Known

BOOLEAN, LONG, DOUBLE, STRING, DATE, TIMESTAMP = (
    BooleanType(), LongType(), DoubleType(), StringType(), DateType(), TimestampType(),
)  # fmt: skip
FAMILIES = [BOOLEAN, LONG, DOUBLE, STRING, DATE, TIMESTAMP, DecimalType(10, 2)]

TRUTHS = ["({}) IS TRUE", "({}) IS NOT TRUE", "({}) IS FALSE", "({}) IS UNKNOWN"]


def family(kind: IcebergType) -> IcebergType:
    match kind:
        case IntegerType():
            return LONG
        case FloatType():
            return DOUBLE
        case DecimalType():
            return DecimalType(10, 2)
    return kind


def as_parameter(value: Any, kind: IcebergType) -> Any:
    """Returns a parameter for a value, or None if its type would differ from the literal's."""
    match kind:
        case IntegerType() | LongType() | StringType() | BooleanType() | DecimalType() | DoubleType() | BinaryType():
            return value
        case DateType():
            return date(1970, 1, 1) + timedelta(days=value)
        case TimestampType():
            return datetime(1970, 1, 1) + timedelta(microseconds=value)
    return None


class Expressions:
    """A generator of expressions. `tables` are for subqueries; `outer` is the qualifier of the outer columns."""

    def __init__(
        self,
        pick: random.Random,
        columns: list[Column],
        parameters: bool,
        tables: list[Known] | None = None,
        outer: Text | None = None,
    ) -> None:
        self.pick, self.columns, self.parameters = pick, columns, parameters
        self.tables, self.outer = tables or [], outer or same("a")

    def of(self, kind: IcebergType, depth: int = 0) -> Text:
        """Returns an expression of a type's family."""
        pick, there = self.pick, [c for c in self.columns if family(c.kind) == family(kind)]
        if depth < 2 and pick.random() < 0.35 and family(kind) in FAMILIES:
            return self.made(family(kind), depth + 1)
        if there and pick.random() < 0.75:
            return pick.choice(there).text
        return self.literal(kind)

    def literal(self, kind: IcebergType, bare: bool = False) -> Text:
        """Returns a literal. A `bare` one may take its type from its neighbour."""
        pick = self.pick
        if pick.random() < 0.06:
            return same("NULL").tagged("null literal") if pick.random() < 0.5 else self.typed_null(kind)
        value = values.some(pick, kind, pick.random() < 0.4)
        style = pick.choice([0, 1, 2] if bare else [0, 2])
        text = Text(literals.sql(value, kind, "esker", style), literals.sql(value, kind, "duckdb", 2))
        text = text.tagged(f"literal {family(kind)}")
        if self.parameters and pick.random() < 0.5 and (parameter := as_parameter(value, kind)) is not None:
            return bound(text, parameter)
        return text

    def typed_null(self, kind: IcebergType) -> Text:
        types = (literals.sql_type(kind, dialect) for dialect in ("esker", "duckdb"))
        return Text(*(f"CAST(NULL AS {of})" for of in types)).tagged("null literal")

    def made(self, kind: IcebergType, depth: int) -> Text:
        pick = self.pick
        if pick.random() < 0.25:
            return self.conditional(kind, depth)
        match kind:
            case BooleanType():
                return put("({})", self.condition(depth))
            case LongType():
                return self.number(depth)
            case DoubleType():
                return put(
                    pick.choice(["({} + {})", "({} * {})", "({} - {})"]), self.of(DOUBLE, depth), self.finite()
                ).tagged("double arithmetic")
            case StringType():
                return self.string(depth)
            case DateType():
                return put("CAST({} AS DATE)", self.of(TIMESTAMP, depth)).tagged("cast to date")
            case TimestampType():
                unit = pick.choice(["year", "month", "day", "hour"])
                return put(f"date_trunc('{unit}', {{}})", self.column(TIMESTAMP)).tagged("date_trunc")
            case DecimalType():
                return put("({} + {})", self.small_decimal(), self.small_decimal()).tagged("decimal arithmetic")
        raise TypeError(str(kind))

    def conditional(self, kind: IcebergType, depth: int) -> Text:
        a, b = self.of(kind, depth), self.column(kind)
        match self.pick.randrange(5):
            case 3:
                form = self.pick.choice(["greatest({}, {})", "least({}, {})"])
                return put(form, b, self.column(kind)).tagged("greatest")
            case 4:
                when = self.of(self.comparable(), 2)
                return put("CASE {} WHEN {} THEN {} ELSE {} END", when, when, a, b).tagged("case of")
            case 0:
                return put("CASE WHEN {} THEN {} ELSE {} END", self.condition(depth), a, b).tagged("case")
            case 1:
                return put("coalesce({}, {})", a, b).tagged("coalesce")
        return put("nullif({}, {})", b, a).tagged("nullif")

    def column(self, kind: IcebergType) -> Text:
        """Returns a column, or a typed literal if there is no column. The type is certain."""
        there = [c.text for c in self.columns if family(c.kind) == family(kind)]
        return self.pick.choice(there) if there else self.typed_null(kind)

    def number(self, depth: int) -> Text:
        pick, small = self.pick, put("({} % 1000)", self.column(LONG))
        match pick.randrange(6):
            case 0:
                return put(
                    pick.choice(["({} + {})", "({} - {})", "({} * {})"]), small, same(str(pick.randrange(-9, 9)))
                ).tagged("arithmetic")
            case 1:
                return Text(f"({small.esker} / 7)", f"({small.duckdb} // 7)", small.bound, small.features).tagged(
                    "division"
                )
            case 2:
                return put("length({})", self.of(STRING, depth)).tagged("length")
            case 3:
                part = pick.choice(["year", "month", "day", "hour", "minute"])
                return put(f"extract({part} FROM {{}})", self.column(TIMESTAMP)).tagged("extract")
            case 4:
                return put("TRY_CAST({} AS BIGINT)", self.column(STRING)).tagged("try_cast")
        return put("abs({})", small).tagged("abs")

    def finite(self) -> Text:
        return same(self.pick.choice(["1.5", "-0.25", "2.0", "0.0", "1e3"]))

    def small_decimal(self) -> Text:
        return (
            put("CAST({} AS DECIMAL(12, 2))", self.column(DecimalType(10, 2)))
            if self.pick.random() < 0.3
            else same(self.pick.choice(["1.25", "-0.01", "1234567.89", "0.00"]))
        )

    def string(self, depth: int) -> Text:
        pick, a = self.pick, self.of(STRING, depth)
        match pick.randrange(6):
            case 0:
                return put("({} || {})", self.column(STRING), a).tagged("concatenation")
            case 1:
                return put(f"substr({{}}, {pick.randrange(1, 4)}, {pick.randrange(5)})", self.column(STRING)).tagged(
                    "substr"
                )
            case 2:
                return put("replace({}, {}, {})", self.column(STRING), same("'a'"), same("''''")).tagged("replace")
            case 3:
                return put(pick.choice(["trim({})", "lower({})", "reverse({})"]), self.column(STRING)).tagged(
                    "trim and such"
                )
            case 4:
                return put("CAST({} AS VARCHAR)", self.column(pick.choice([LONG, BOOLEAN]))).tagged("cast to text")
        return put("concat({}, {})", self.column(STRING), same("'x'")).tagged("concat")

    def comparable(self) -> IcebergType:
        return self.pick.choice(self.columns).kind

    def condition(self, depth: int = 0) -> Text:
        """Returns a predicate in three-valued logic."""
        pick, kind = self.pick, self.comparable()
        if depth < 3 and pick.random() < 0.3:
            form = pick.choice(["({} AND {})", "({} OR {})"])
            return put(form, self.condition(depth + 1), self.condition(depth + 1))
        forms: list[Callable[[], Text]] = [
            lambda: self.compared(self.column(kind), self.of(kind, depth + 1)),
            lambda: self.compared(self.column(kind), self.literal(kind, True)),
            lambda: self.compared(self.literal(kind, True), self.column(kind)).tagged("literal first"),
            lambda: put(pick.choice(["{} IS NULL", "{} IS NOT NULL"]), self.of(kind, depth + 1)),
            lambda: put("NOT ({})", self.condition(depth + 1)).tagged("not"),
            lambda: self.among(kind),
            lambda: self.between(kind),
            lambda: self.distinct(kind),
            self.like,
            lambda: put(pick.choice(TRUTHS), self.condition(depth + 1)).tagged("is true"),
            self.clock,
            self.subquery,
        ]
        weights = [3, 3, 1, 2, 1, 2, 1, 1, 1, 0.5, 0.5, 0.8 if self.tables and depth < 3 else 0]
        return spaced(pick, pick.choices(forms, weights)[0]())

    def compared(self, a: Text, b: Text) -> Text:
        return put(f"{{}} {self.pick.choice(predicates.COMPARISONS)} {{}}", a, b)

    def between(self, kind: IcebergType) -> Text:
        low, high = self.literal(kind, True), self.literal(kind, True)
        return put("{} BETWEEN {} AND {}", self.column(kind), low, high).tagged("between")

    def distinct(self, kind: IcebergType) -> Text:
        form = self.pick.choice(["{} IS DISTINCT FROM {}", "{} IS NOT DISTINCT FROM {}"])
        return put(form, self.column(kind), self.literal(kind, True)).tagged("distinct from")

    def among(self, kind: IcebergType) -> Text:
        found = [self.literal(kind, True) for _ in range(self.pick.randrange(1, 6))]
        if self.pick.random() < 0.15:
            found.append(self.column(kind))
        form = self.pick.choice(["{} IN ({})", "{} NOT IN ({})"])
        return put(form, self.column(kind), joined(", ", found)).tagged("in")

    def subquery(self) -> Text:
        """Returns a condition with a subquery, which can be true, false or unknown."""
        pick, key, other = self.pick, self.pick.choice(SHARED), self.pick.choice(SHARED)
        known = pick.choice(self.tables)
        table = Text(f"{known.esker} AS q", f"{known.name} AS q")
        inner = Expressions(pick, known.columns("q"), False)
        mine = put("{}.{}", self.outer, key)
        where = inner.condition(2)
        if pick.random() < 0.4:
            where = put(f"{{}} AND q.{other} = {{}}.{other}", where, self.outer).tagged("correlated")
        rows = put(f"SELECT q.{key} FROM {{}} WHERE {{}}", table, where)
        match pick.randrange(5):
            case 0 | 1:
                made = put(pick.choice(["{} IN ({})", "{} NOT IN ({})", "{} NOT IN ({})"]), mine, rows)
            case 2:
                made = put(
                    pick.choice(["EXISTS ({} AND {})", "NOT EXISTS ({} AND {})"]), rows, put(f"q.{key} = {{}}", mine)
                )
            case 3:
                quantifier = pick.choice(["ANY", "ALL"])
                made = put(f"{{}} {pick.choice(predicates.COMPARISONS)} {quantifier} ({{}})", mine, rows).tagged(
                    quantifier
                )
            case _:
                function = pick.choice(["min", "max", "count"])
                made = put(f"{{}}.rid >= (SELECT {function}(q.rid) FROM {{}} WHERE {{}})", self.outer, table, where)
        return made.tagged("subquery")

    def like(self) -> Text:
        pattern = self.pick.choice(["a%", "%a%", "_", "%''%", "null%", "%\n", "日%", "%--%", "a_b", ""])
        form = self.pick.choice(["{} LIKE '{}'", "{} NOT LIKE '{}'"])
        return put(form, self.column(STRING), pattern).tagged("like")

    def clock(self) -> Text:
        now = self.pick.choice(["now()", "current_timestamp"])
        zoned = [c.text for c in self.columns if isinstance(c.kind, TimestamptzType)]
        if zoned and self.pick.random() < 0.7:
            return put(f"{{}} < {now}", self.pick.choice(zoned)).tagged("now")
        return put("{} < current_date", self.column(DATE)).tagged("now")
