//! Container files: a header with the writer's schema, then blocks of values.

use flate2::Decompress;

use super::codec::{AvroCodec, budget};
use super::cursor::{Broken, Cursor};
use super::schema::WriterSchema;
use crate::{FormatError, Result};

/// The first bytes of a container file.
pub(super) const MAGIC: &[u8; 4] = b"Obj\x01";
/// The bytes between blocks.
pub(super) const SYNC: usize = 16;
/// The header's key for the schema.
pub(super) const SCHEMA_KEY: &str = "avro.schema";
/// The header's key for the codec.
pub(super) const CODEC_KEY: &str = "avro.codec";

/// A container file.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    what: &'static str,
    metadata: Vec<(&'a str, &'a [u8])>,
    schema: WriterSchema,
    codec: AvroCodec,
    sync: &'a [u8],
    rest: Cursor<'a>,
    /// Bytes that blocks may still be decompressed to.
    budget: usize,
}

/// What blocks are decompressed in, used anew for each.
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
    /// A file of which all bytes are there. `what` is what it is called in errors.
    pub(crate) fn open(what: &'static str, file: &'a [u8]) -> Result<Self> {
        let bad = |why: String| FormatError::Avro { what: what.to_owned(), why };
        let broken = |why: Broken| bad(format!("its header is damaged: {why}"));
        let mut cursor = Cursor::new(file);
        if !cursor.take(MAGIC.len()).is_ok_and(|magic| magic == MAGIC) {
            return Err(bad("it does not start as an avro file".to_owned()));
        }
        let mut metadata = Vec::new();
        // A key and a value take a byte at least.
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
        Ok(Self { what, metadata, schema, codec, sync, rest: cursor, budget: budget(file.len()) })
    }

    /// The schema that it was written with.
    pub(crate) const fn schema(&self) -> &WriterSchema {
        &self.schema
    }

    /// The schema, as its header has it.
    pub(crate) fn schema_json(&self) -> &'a [u8] {
        self.metadata(SCHEMA_KEY).unwrap_or_default()
    }

    /// What its writer says of it beside schema and codec.
    pub(crate) fn said(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.metadata.iter().copied().filter(|(key, _)| ![SCHEMA_KEY, CODEC_KEY].contains(key))
    }

    /// How it is compressed.
    pub(crate) const fn codec(&self) -> AvroCodec {
        self.codec
    }

    /// What its writer says of it under a key.
    pub(crate) fn metadata(&self, name: &str) -> Option<&'a [u8]> {
        self.metadata.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// What its writer says of it under a key, if that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.metadata(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The next block: how many values it has, and their bytes. None at the end of the file.
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
        let (count, block, sync) = block().map_err(|why: Broken| bad(format!("a block is damaged: {why}")))?;
        if sync != self.sync {
            return Err(bad("a block does not end as the header says".to_owned()));
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
        // A value of which nothing is written could be there any number of times; no file of Iceberg's has such.
        let least = self.schema.node(self.schema.root()).least.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= bytes.len() / least => Ok(Some((count, bytes))),
            _ => Err(bad(format!("a block of {} bytes says that it has {count} values", bytes.len()))),
        }
    }
}
