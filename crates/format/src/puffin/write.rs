//! Writer of Puffin files.
//!
//! Spec: Puffin specification, "File structure".

use std::collections::BTreeMap;
use std::io::Write;

use super::{MAGIC, PuffinBlob, PuffinCodec, PuffinMetadata};
use crate::{Extra, FormatError, Result};

/// The description of a blob that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// The type of the blob, such as `deletion-vector-v1`.
    pub blob_type: String,
    /// The ids of the fields that the blob describes.
    pub fields: Vec<i32>,
    /// The id of the snapshot that the blob was computed from; -1 for a deletion vector.
    pub snapshot_id: i64,
    /// The sequence number of that snapshot; -1 for a deletion vector.
    pub sequence_number: i64,
    /// The properties of the blob.
    pub properties: BTreeMap<String, String>,
}

/// A Puffin file that is being written to memory.
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
    /// Adds a blob. Returns its description, with its offset and length in the file.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if the data cannot be compressed.
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

    /// Ends the file. Returns its bytes, and the length of its footer in bytes. Java does not read a compressed footer.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if the footer exceeds 2 GiB or cannot be compressed. Returns
    /// [`Json`](FormatError::Json) if it cannot be printed.
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

/// Compresses `data` and appends it as one frame, which has the size of the data in its header.
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
