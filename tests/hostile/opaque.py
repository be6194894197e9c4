"""Types whose values have no order: variant, geometry and geography.

PyIceberg 0.12.0 lacks variants, and spells the other two differently from the specification. So this module replaces
its parser of types, and lets it read defaults that it can't.
"""

from __future__ import annotations

import json
import types
from datetime import datetime, timedelta
from typing import Any

import pyiceberg.conversions
import pyiceberg.schema
import pyiceberg.types
from pydantic import Field, model_serializer
from pyiceberg.types import (
    BinaryType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
    TimestampNanoType,
    TimestamptzNanoType,
    UnknownType,
)


class VariantType(PrimitiveType):
    root: str = Field(default="variant")

    def __init__(self, text: str = "variant") -> None:
        super().__init__(root=text)

    def minimum_format_version(self) -> int:
        return 3

    def __getnewargs__(self) -> tuple[str]:
        return (self.root,)


class ShapeType(BinaryType):
    """A geometry or geography, by its text. To PyIceberg it is binary, as in files."""

    root: str = Field()

    def __init__(self, text: str) -> None:
        super().__init__(root=text)

    @model_serializer
    def ser_model(self) -> str:
        return self.root

    def minimum_format_version(self) -> int:
        return 3

    def __getnewargs__(self) -> tuple[str]:
        return (self.root,)

    def __repr__(self) -> str:
        return f"ShapeType({self.root!r})"

    @property
    def on_globe(self) -> bool:
        return self.root.startswith("geography")

    @property
    def inner(self) -> list[str]:
        """Returns the parameters in parentheses."""
        text = self.root.partition("(")[2].rstrip(")")
        return [part.strip() for part in text.split(",")] if text else []

    @property
    def crs(self) -> str | None:
        return self.inner[0] if self.inner else None

    @property
    def edges(self) -> str | None:
        return (self.inner[1] if len(self.inner) > 1 else "spherical") if self.on_globe else None


OPAQUE = (VariantType, ShapeType)


def of_text(text: str) -> IcebergType | None:
    if text == "variant":
        return VariantType()
    return ShapeType(text) if text.startswith(("geometry", "geography")) else None


def comparable(kind: IcebergType) -> bool:
    """Returns True if values of a type can be compared and be parts of keys."""
    return isinstance(kind, PrimitiveType) and not isinstance(kind, (*OPAQUE, UnknownType))


def within(kind: IcebergType) -> list[IcebergType]:
    """Returns a type and the types nested in it."""
    match kind:
        case StructType():
            return [kind, *(t for f in kind.fields for t in within(f.field_type))]
        case ListType():
            return [kind, *within(kind.element_type)]
        case MapType():
            return [kind, *within(kind.key_type), *within(kind.value_type)]
    return [kind]


def holds(kind: IcebergType, *sorts: type) -> bool:
    return any(isinstance(t, sorts) for t in within(kind))


# PyIceberg's parser of types. Its models hold a reference to the function, so the function's code is replaced.
def handle(cls: Any, v: Any, handler: Any) -> Any:
    return hostile_types(cls, v, handler)  # noqa: F821 (a name of the other module)


def hostile_types(cls: Any, v: Any, handler: Any) -> Any:
    if isinstance(v, str):
        if cls in (VariantType, ShapeType):
            return handler(v)
        if (made := of_text(v)) is not None:
            return made
    return original(cls, v, handler)


found = IcebergType.__dict__["handle_primitive_type"]
function = getattr(found, "wrapped", found)
function = getattr(function, "__func__", function)
original = types.FunctionType(function.__code__, function.__globals__)
pyiceberg.types.hostile_types = hostile_types
function.__code__ = handle.__code__


@pyiceberg.schema.promote.register(ShapeType)
def _(kind: ShapeType, read_type: IcebergType) -> IcebergType:
    return read_type


of_bytes = pyiceberg.schema.promote.dispatch(BinaryType)
pyiceberg.schema.promote.register(BinaryType)(
    lambda kind, read_type: read_type if isinstance(read_type, ShapeType) else of_bytes(kind, read_type)
)

EPOCH = datetime(1970, 1, 1)


def nanoseconds(text: str | int) -> int:
    if isinstance(text, int):
        return text
    plain = text.removesuffix("+00:00").removesuffix("Z")
    seconds, _, digits = plain.partition(".")
    since = datetime.fromisoformat(seconds) - EPOCH
    return (since // timedelta(seconds=1)) * 10**9 + int((digits or "0").ljust(9, "0")[:9])


def of_nanoseconds(kind: IcebergType, n: int) -> str:
    zone = "+00:00" if isinstance(kind, TimestamptzNanoType) else ""
    return f"{(EPOCH + timedelta(seconds=n // 10**9)).isoformat()}.{n % 10**9:09}{zone}"


from_json, to_json = pyiceberg.conversions.from_json, pyiceberg.conversions.to_json
for sort in (TimestampNanoType, TimestamptzNanoType):
    from_json.register(sort)(lambda kind, v: nanoseconds(v))
    to_json.register(sort)(of_nanoseconds)


# PyIceberg's models have primitive defaults only. Other defaults are stored as the text of their JSON.
for sort in (StructType, ListType, MapType):
    from_json.register(sort)(lambda kind, v: v if isinstance(v, str) else json.dumps(v))
    to_json.register(sort)(lambda kind, v: json.loads(v))


def fields_within(field: NestedField) -> list[NestedField]:
    kind = field.field_type
    inner = kind.fields if isinstance(kind, (StructType, ListType, MapType)) else ()
    return [field, *(g for f in inner for g in fields_within(f))]
