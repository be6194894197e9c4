//! Reader of Avro object container files: a header with the schema of the file, then blocks of values.
//!
//! Spec: Avro specification, "Object Container Files". Start with [`Container`].

use flate2::Decompress;

use super::codec::{AvroCodec, max_decompressed_size};
use super::cursor::{Cursor, DecodeError};
use super::schema::WriterSchema;
use crate::{FormatError, Result};

/// The first bytes of a container file.
pub(super) const MAGIC: &[u8; 4] = b"Obj\x01";
/// The number of bytes of the marker after each block.
pub(super) const SYNC: usize = 16;
/// The header's key of the schema.
pub(super) const SCHEMA_KEY: &str = "avro.schema";
/// The header's key of the codec.
pub(super) const CODEC_KEY: &str = "avro.codec";

/// A container file whose bytes are all in memory.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    what: &'static str,
    metadata: Vec<(&'a str, &'a [u8])>,
    schema: WriterSchema,
    codec: AvroCodec,
    sync: &'a [u8],
    rest: Cursor<'a>,
    /// The number of bytes that the remaining blocks may decompress to.
    budget: usize,
}

/// Buffers for decompression, reused for each block.
#[derive(Debug)]
pub(crate) struct Scratch {
    inflate: Decompress,
    bytes: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { inflate: Decompress::new(false), bytes: Vec::new() }
    }
}

impl<'a> Container<'a> {
    /// Opens a file: parses its header and schema. `what` names the kind of file in errors.
    pub(crate) fn open(what: &'static str, file: &'a [u8]) -> Result<Self> {
        let bad = |why: String| FormatError::Avro { what: what.to_owned(), why };
        let broken = |why: DecodeError| bad(format!("its header is damaged: {why}"));
        let mut cursor = Cursor::new(file);
        if !cursor.take(MAGIC.len()).is_ok_and(|magic| magic == MAGIC) {
            return Err(bad("it does not start as an Avro file: the magic bytes are missing".to_owned()));
        }
        let mut metadata = Vec::new();
        // A key and a value have a length each, so a pair takes at least two bytes.
        while let Some(count) = cursor.items(2).map_err(broken)? {
            for _ in 0..count {
                let key = cursor.text().map_err(broken)?;
                metadata.push((key, cursor.bytes().map_err(broken)?));
            }
        }
        let sync = cursor.take(SYNC).map_err(broken)?;
        let find = |name| metadata.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let json = find(SCHEMA_KEY).ok_or_else(|| bad("its header has no schema".to_owned()))?;
        let schema = WriterSchema::parse(json).map_err(|why| bad(format!("its schema is damaged: {why}")))?;
        let codec = String::from_utf8_lossy(find(CODEC_KEY).unwrap_or_default());
        let codec = AvroCodec::named(&codec).ok_or_else(|| bad(format!("its codec is not supported: {codec}")))?;
        Ok(Self { what, metadata, schema, codec, sync, rest: cursor, budget: max_decompressed_size(file.len()) })
    }

    /// Returns the schema with which the file was written.
    pub(crate) const fn schema(&self) -> &WriterSchema {
        &self.schema
    }

    /// Returns the schema as JSON, as the header has it.
    pub(crate) fn schema_json(&self) -> &'a [u8] {
        self.metadata(SCHEMA_KEY).unwrap_or_default()
    }

    /// Returns the key-value pairs of the header, except for schema and codec.
    pub(crate) fn said(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.metadata.iter().copied().filter(|(key, _)| ![SCHEMA_KEY, CODEC_KEY].contains(key))
    }

    /// Returns the codec of the blocks.
    pub(crate) const fn codec(&self) -> AvroCodec {
        self.codec
    }

    /// Returns the header's value of a key; the last one if the key is repeated.
    pub(crate) fn metadata(&self, name: &str) -> Option<&'a [u8]> {
        self.metadata.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Returns the header's value of a key if it is UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.metadata(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the next block: the number of its values, and their bytes after decompression. Returns `None` at the end of the
    /// file.
    pub(crate) fn next<'b>(&mut self, scratch: &'b mut Scratch) -> Result<Option<(usize, &'b [u8])>>
    where
        'a: 'b,
    {
        if self.rest.rest().is_empty() {
            return Ok(None);
        }
        let bad = |why: String| FormatError::Avro { what: self.what.to_owned(), why };
        let mut block = || {
            let count = self.rest.long()?;
            let bytes = self.rest.bytes()?;
            let sync = self.rest.take(SYNC)?;
            Ok((count, bytes, sync))
        };
        let (count, block, sync) = block().map_err(|why: DecodeError| bad(format!("a block is damaged: {why}")))?;
        if sync != self.sync {
            return Err(bad("a block does not end with the header's sync marker".to_owned()));
        }
        let bytes = if self.codec == AvroCodec::Null {
            block
        } else {
            scratch.bytes.clear();
            let made = self.codec.decompress(block, &mut scratch.inflate, &mut scratch.bytes, self.budget);
            made.map_err(|why| bad(format!("a block can't be decompressed: {why}")))?;
            self.budget -= scratch.bytes.len().min(self.budget);
            scratch.bytes.as_slice()
        };
        // Values of zero bytes could have any count. No file of Iceberg has such values.
        let least = self.schema.node(self.schema.root()).min_size.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= bytes.len() / least => Ok(Some((count, bytes))),
            _ => Err(bad(format!("a block claims a count of {count} values, and its size is {} B", bytes.len()))),
        }
    }
}
