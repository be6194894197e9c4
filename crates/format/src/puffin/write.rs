//! Writing Puffin files.

use std::collections::BTreeMap;
use std::io::Write;

use super::{MAGIC, PuffinBlob, PuffinCodec, PuffinMetadata};
use crate::{Extra, FormatError, Result};

/// A blob that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// What kind of blob it is.
    pub blob_type: String,
    /// The fields that it is about.
    pub fields: Vec<i32>,
    /// The snapshot that it was worked out from; -1 of a deletion vector.
    pub snapshot_id: i64,
    /// That snapshot's sequence number; -1 of a deletion vector.
    pub sequence_number: i64,
    /// What its writer says of it.
    pub properties: BTreeMap<String, String>,
}

/// A Puffin file that is written.
#[derive(Debug)]
pub struct PuffinWriter {
    file: Vec<u8>,
    blobs: Vec<PuffinBlob>,
}

impl Default for PuffinWriter {
    fn default() -> Self {
        Self { file: MAGIC.to_vec(), blobs: Vec::new() }
    }
}

impl PuffinWriter {
    /// Adds a blob, and tells where in the file it is.
    pub fn add(&mut self, new: NewBlob, data: &[u8], codec: PuffinCodec) -> Result<&PuffinBlob> {
        let offset = self.file.len();
        compress(codec, data, &mut self.file)
            .map_err(|why| FormatError::invalid(format!("puffin blob {}", new.blob_type), why))?;
        self.blobs.push(PuffinBlob {
            blob_type: new.blob_type,
            fields: new.fields,
            snapshot_id: new.snapshot_id,
            sequence_number: new.sequence_number,
            offset: offset as u64,
            length: (self.file.len() - offset) as u64,
            compression_codec: codec.name().map(str::to_owned),
            properties: Some(new.properties).filter(|properties| !properties.is_empty()),
            extra: Extra::default(),
        });
        Ok(&self.blobs[self.blobs.len() - 1])
    }

    /// The file, and how many bytes its footer takes. A footer that is compressed is not read by Java.
    pub fn finish(mut self, properties: BTreeMap<String, String>, compressed: bool) -> Result<(Vec<u8>, u64)> {
        let start = self.file.len();
        let properties = Some(properties).filter(|properties| !properties.is_empty());
        let metadata = PuffinMetadata { blobs: self.blobs, properties, extra: Extra::default() };
        let json = crate::json::print("puffin footer", &metadata)?;
        self.file.extend_from_slice(MAGIC);
        let codec = if compressed { PuffinCodec::Lz4 } else { PuffinCodec::None };
        let payload = self.file.len();
        let bad = |why: String| FormatError::invalid("puffin footer", why);
        compress(codec, &json, &mut self.file).map_err(bad)?;
        let length = i32::try_from(self.file.len() - payload).map_err(|_| bad("it is too long".to_owned()))?;
        self.file.extend_from_slice(&length.to_le_bytes());
        self.file.extend_from_slice(&[u8::from(compressed), 0, 0, 0]);
        self.file.extend_from_slice(MAGIC);
        let footer = (self.file.len() - start) as u64;
        Ok((self.file, footer))
    }
}

/// Adds bytes to a file, in one frame that says how many they are.
fn compress(codec: PuffinCodec, data: &[u8], file: &mut Vec<u8>) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    match codec {
        PuffinCodec::None => file.extend_from_slice(data),
        PuffinCodec::Zstd => file.extend_from_slice(&zstd::bulk::compress(data, 0).map_err(text)?),
        PuffinCodec::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().content_size(Some(data.len() as u64));
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, &mut *file);
            encoder.write_all(data).map_err(text)?;
            encoder.finish().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
