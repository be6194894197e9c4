"""Changes the logical types in a Parquet file's footer, because pyarrow and DuckDB can't write all types.

The footer is Thrift in the compact protocol. It is read whole and written again.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

TRUE, FALSE, I8, I32, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 5, 7, 8, 9, 10, 11, 12
# Thrift field ids of SchemaElement, and of the union LogicalType.
NAME, CHILDREN, LOGICAL = 4, 5, 10
VARIANT_TYPE, GEOGRAPHY_TYPE = 16, 18
KARNEY = 4

# A struct is a dictionary from field id to type and value. A list is its items' type and the items.
VARIANT = {VARIANT_TYPE: (STRUCT, {1: (I8, 1)})}
GEOGRAPHY_KARNEY = {GEOGRAPHY_TYPE: (STRUCT, {2: (I32, KARNEY)})}


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self) -> int:
        n, shift = 0, 0
        while True:
            byte = self.byte()
            n |= (byte & 0x7F) << shift
            if byte < 0x80:
                return n
            shift += 7

    def signed(self) -> int:
        n = self.number()
        return n >> 1 ^ -(n & 1)

    def value(self, type: int, in_list: bool = False) -> Any:
        match type:
            case 1 | 2:
                return self.byte() == TRUE if in_list else type == TRUE
            case 3:
                return self.byte()
            case 7:
                return self.take(8)
            case 8:
                return self.take(self.number())
            case 9 | 10:
                head = self.byte()
                n, items = head >> 4, head & 15
                n = self.number() if n == 15 else n
                return items, [self.value(items, in_list=True) for _ in range(n)]
            case 12:
                return self.struct()
            case 11:
                raise NotImplementedError("Parquet's footers have no maps")
        return self.signed()

    def struct(self) -> dict[int, tuple[int, Any]]:
        found, id = {}, 0
        while head := self.byte():
            id = id + (head >> 4) if head >> 4 else self.signed()
            found[id] = (head & 15, self.value(head & 15))
        return found


def number(n: int) -> bytes:
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def signed(n: int) -> bytes:
    return number(n << 1 if n >= 0 else (-n << 1) - 1)


def value(type: int, of: Any, in_list: bool = False) -> bytes:
    match type:
        case 1 | 2:
            return bytes([TRUE if of else FALSE]) if in_list else b""
        case 3:
            return bytes([of])
        case 7:
            return of
        case 8:
            return number(len(of)) + of
        case 9 | 10:
            items, inner = of
            head = bytes([len(inner) << 4 | items]) if len(inner) < 15 else bytes([0xF0 | items]) + number(len(inner))
            return head + b"".join(value(items, v, in_list=True) for v in inner)
        case 12:
            out, last = b"", 0
            for id, (inner, v) in sorted(of.items()):
                out += bytes([(id - last) << 4 | inner]) if id - last < 16 else bytes([inner]) + signed(id)
                out, last = out + value(inner, v), id
            return out + b"\0"
    return signed(of)


def named(elements: list[dict], at: int, above: str, found: dict[str, dict]) -> int:
    """Collects schema elements by path. Returns the index of the next element."""
    element = elements[at]
    path = f"{above}.{element[NAME][1].decode()}" if at else ""
    found[path.removeprefix(".")] = element
    at += 1
    for _ in range(element.get(CHILDREN, (I32, 0))[1]):
        at = named(elements, at, path, found)
    return at


def annotate(path: Path, types: dict[str, dict]) -> None:
    """Sets the logical types of columns or groups, by path."""
    whole = path.read_bytes()
    (size,) = struct.unpack("<I", whole[-8:-4])
    footer = Reader(whole[-8 - size : -8]).struct()
    assert value(STRUCT, footer) == whole[-8 - size : -8], "the footer is read as it is written"
    found: dict[str, dict] = {}
    named(footer[2][1][1], 0, "", found)
    for column, type in types.items():
        found[column][LOGICAL] = (STRUCT, type)
    made = value(STRUCT, footer)
    path.write_bytes(whole[: -8 - size] + made + struct.pack("<I", len(made)) + b"PAR1")
