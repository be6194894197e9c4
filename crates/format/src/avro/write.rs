//! Writer of Avro object container files.
//!
//! Spec: Avro specification, "Object Container Files".

use serde_json::Value as Json;
use uuid::Uuid;

use super::codec::AvroCodec;
use super::container::{CODEC_KEY, MAGIC, SCHEMA_KEY, SYNC};
use crate::{FormatError, Result};

/// The size in bytes, before compression, at which a block is closed. Java uses the same.
const BLOCK: usize = 64_000;

/// A container file that is being written to memory.
#[derive(Debug)]
pub(crate) struct ContainerWriter {
    what: &'static str,
    codec: AvroCodec,
    sync: [u8; SYNC],
    file: Vec<u8>,
    block: Vec<u8>,
    count: i64,
}

impl ContainerWriter {
    /// Starts a file with a schema and the other key-value pairs of its header. `what` names the kind of file in errors.
    pub(crate) fn new(what: &'static str, codec: AvroCodec, schema: &Json, metadata: &[(&str, String)]) -> Self {
        let mut file = MAGIC.to_vec();
        put_long(&mut file, metadata.len() as i64 + 2);
        let mut put = |key: &str, value: &str| {
            put_bytes(&mut file, key.as_bytes());
            put_bytes(&mut file, value.as_bytes());
        };
        put(SCHEMA_KEY, &schema.to_string());
        put(CODEC_KEY, codec.name());
        for (key, value) in metadata {
            put(key, value);
        }
        put_long(&mut file, 0);
        let sync = Uuid::new_v4().into_bytes();
        file.extend_from_slice(&sync);
        Self { what, codec, sync, file, block: Vec::new(), count: 0 }
    }

    /// Adds a value, which `put` encodes. If `put` fails, nothing is added.
    pub(crate) fn add(&mut self, put: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let start = self.block.len();
        if let Err(error) = put(&mut self.block) {
            self.block.truncate(start);
            return Err(error);
        }
        self.count += 1;
        if self.block.len() >= BLOCK { self.cut() } else { Ok(()) }
    }

    /// Closes the last block and returns the file's bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.cut()?;
        Ok(self.file)
    }

    fn cut(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut made = Vec::new();
        let compressed = self.codec.compress(&self.block, &mut made);
        compressed.map_err(|why| FormatError::Avro { what: self.what.to_owned(), why })?;
        put_long(&mut self.file, self.count);
        put_bytes(&mut self.file, &made);
        self.file.extend_from_slice(&self.sync);
        self.block.clear();
        self.count = 0;
        Ok(())
    }
}

/// Writes an int or long, in Avro's zigzag variable-length encoding.
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes bytes or a text, with the length in front.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
