"""Reads and writes Avro files of any schema, including details that PyIceberg's model of manifests lacks."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from typing import Any

import pyarrow as pa
import pyiceberg.avro.codecs
import pyiceberg.avro.file
from pyiceberg.avro.codecs.codec import Codec
from pyiceberg.avro.decoder import StreamingBinaryDecoder
from zstandard import ZstdCompressor, ZstdDecompressor

CODECS = ["null", "deflate", "snappy", "zstandard"]
META = {"type": "map", "values": "bytes"}


class Snappy(Codec):
    """Snappy in Avro's form: a checksum of the uncompressed data follows."""

    @staticmethod
    def compress(data: bytes) -> tuple[bytes, int]:
        packed = pa.compress(data, "snappy", asbytes=True) + struct.pack(">I", zlib.crc32(data))
        return packed, len(packed)

    @staticmethod
    def decompress(data: bytes) -> bytes:
        size, shift = 0, 0
        for byte in data:
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return pa.decompress(data[:-4], size, "snappy", asbytes=True)


# PyIceberg's own codec needs a package that is not installed.
pyiceberg.avro.codecs.KNOWN_CODECS["snappy"] = Snappy
# PyIceberg's faster decoder reads beyond the end of data that it does not understand, which crashes this process.
pyiceberg.avro.file.new_decoder = StreamingBinaryDecoder


def packed(data: bytes, codec: str) -> bytes:
    match codec:
        case "deflate":
            return zlib.compress(data, wbits=-15)
        case "snappy":
            return Snappy.compress(data)[0]
        case "zstandard":
            return ZstdCompressor().compress(data)
    return data


def unpacked(data: bytes, codec: str) -> bytes:
    match codec:
        case "deflate":
            return zlib.decompress(data, wbits=-15)
        case "snappy":
            return Snappy.decompress(data)
        case "zstandard":
            return ZstdDecompressor().decompressobj().decompress(data)
    return data


class Names:
    """The named types of a schema. Records are dictionaries by field name; values of a union are plain values."""

    def __init__(self, schema: Any) -> None:
        self.types: dict[str, Any] = {}
        self.gather(schema)

    def gather(self, schema: Any) -> None:
        match schema:
            case list():
                for branch in schema:
                    self.gather(branch)
            case {"type": "record" | "fixed" | "enum", "name": name}:
                self.types[name] = schema
                for field in schema.get("fields", []):
                    self.gather(field["type"])
            case {"type": inner}:
                for below in (inner, schema.get("items"), schema.get("values")):
                    if isinstance(below, (dict, list)):
                        self.gather(below)

    def read(self, schema: Any, data: io.BytesIO) -> Any:
        match schema:
            case list():
                return self.read(schema[long(data)], data)
            case "null":
                return None
            case "boolean":
                return data.read(1) == b"\1"
            case "int" | "long":
                return long(data)
            case "float":
                return struct.unpack("<f", data.read(4))[0]
            case "double":
                return struct.unpack("<d", data.read(8))[0]
            case "bytes":
                return data.read(long(data))
            case "string":
                return data.read(long(data)).decode()
            case {"type": "record", "fields": fields}:
                return {field["name"]: self.read(field["type"], data) for field in fields}
            case {"type": "fixed", "size": size}:
                return data.read(size)
            case {"type": "array", "items": items}:
                return [self.read(items, data) for n in counts(data) for _ in range(n)]
            case {"type": "map", "values": of}:
                return {self.read("string", data): self.read(of, data) for n in counts(data) for _ in range(n)}
            case {"type": inner}:
                return self.read(inner, data)
            case str() if schema in self.types:
                return self.read(self.types[schema], data)
        raise TypeError(f"Avro type {schema}")

    def write(self, schema: Any, value: Any, out: io.BytesIO) -> None:
        match schema:
            case list():
                at = next(n for n, branch in enumerate(schema) if (branch == "null") == (value is None))
                put_long(at, out)
                self.write(schema[at], value, out)
            case "null":
                pass
            case "boolean":
                out.write(b"\1" if value else b"\0")
            case "int" | "long":
                put_long(value, out)
            case "float":
                out.write(struct.pack("<f", value))
            case "double":
                out.write(struct.pack("<d", value))
            case "bytes":
                put_long(len(value), out)
                out.write(value)
            case "string":
                self.write("bytes", value.encode(), out)
            case {"type": "record", "fields": fields}:
                for field in fields:
                    self.write(field["type"], value[field["name"]], out)
            case {"type": "fixed"}:
                out.write(value)
            case {"type": "array", "items": items}:
                if value:
                    put_long(len(value), out)
                for item in value:
                    self.write(items, item, out)
                put_long(0, out)
            case {"type": "map", "values": of}:
                if value:
                    put_long(len(value), out)
                for key, item in value.items():
                    self.write("string", key, out)
                    self.write(of, item, out)
                put_long(0, out)
            case {"type": inner}:
                self.write(inner, value, out)
            case str() if schema in self.types:
                self.write(self.types[schema], value, out)
            case _:
                raise TypeError(f"Avro type {schema}")


def long(data: io.BytesIO) -> int:
    number, shift = 0, 0
    while True:
        byte = data.read(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)


def put_long(number: int, out: io.BytesIO) -> None:
    number = (number << 1) ^ (number >> 63)
    while number > 0x7F:
        out.write(bytes([number & 0x7F | 0x80]))
        number >>= 7
    out.write(bytes([number]))


def counts(data: io.BytesIO) -> Any:
    """Yields the number of items of each block of an array or map."""
    while n := long(data):
        if n < 0:
            long(data)
        yield abs(n)


def read(file: bytes) -> tuple[dict[str, bytes], Any, list[Any]]:
    """Returns the header's entries, the schema, and the records."""
    data = io.BytesIO(file)
    assert data.read(4) == b"Obj\1", "no Avro file"
    meta = Names(META).read(META, data)
    sync, schema = data.read(16), json.loads(meta["avro.schema"])
    names, codec, records = Names(schema), meta.get("avro.codec", b"null").decode(), []
    while data.tell() < len(file):
        n, size = long(data), long(data)
        block = io.BytesIO(unpacked(data.read(size), codec))
        records += [names.read(schema, block) for _ in range(n)]
        assert data.read(16) == sync, "a damaged Avro file"
    return meta, schema, records


def written(meta: dict[str, bytes], schema: Any, records: list[Any], codec: str, per_block: int = 1000) -> bytes:
    out, sync, names = io.BytesIO(), os.urandom(16), Names(schema)
    kept = {k: v for k, v in meta.items() if not k.startswith("avro.")}
    # A file without the key is uncompressed.
    kept |= {"avro.schema": json.dumps(schema).encode()} | ({} if codec == "null" else {"avro.codec": codec.encode()})
    out.write(b"Obj\1")
    names.write(META, kept, out)
    out.write(sync)
    for at in range(0, len(records), per_block):
        block, of_block = io.BytesIO(), records[at : at + per_block]
        for record in of_block:
            names.write(schema, record, block)
        data = packed(block.getvalue(), codec)
        put_long(len(of_block), out)
        put_long(len(data), out)
        out.write(data + sync)
    return out.getvalue()
