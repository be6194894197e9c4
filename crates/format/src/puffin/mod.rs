//! Puffin files: blobs with statistics or deletion vectors, and a footer that locates them.
//!
//! Spec: Puffin specification.

mod read;
mod write;

use std::collections::BTreeMap;

pub use read::{PUFFIN_TAIL, puffin_footer_length, read_puffin, read_puffin_footer};
pub use write::{NewBlob, PuffinWriter};

use crate::Extra;

/// The magic bytes at the start of the file, and at the start and end of its footer.
const MAGIC: &[u8; 4] = b"PFA1";

/// The content of a file's footer.
///
/// Spec: Puffin specification, "FileMetadata".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuffinMetadata {
    /// The blobs in the file.
    pub blobs: Vec<PuffinBlob>,
    /// The properties of the file, such as `created-by`.
    pub properties: Option<BTreeMap<String, String>>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// The description of a blob in the footer.
///
/// Spec: Puffin specification, "BlobMetadata".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuffinBlob {
    /// The type of the blob, such as `deletion-vector-v1`.
    pub blob_type: String,
    /// The ids of the fields that the blob describes.
    pub fields: Vec<i32>,
    /// The id of the snapshot that the blob was computed from; -1 for a deletion vector.
    pub snapshot_id: i64,
    /// The sequence number of that snapshot; -1 for a deletion vector.
    pub sequence_number: i64,
    /// The offset of the blob in the file, in bytes.
    pub offset: u64,
    /// The length of the blob in the file, in bytes, after compression.
    pub length: u64,
    /// The name of the codec; `None` for an uncompressed blob.
    pub compression_codec: Option<String>,
    /// The properties of the blob.
    pub properties: Option<BTreeMap<String, String>>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// The codec of a blob.
///
/// Spec: Puffin specification, "Compression codecs".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PuffinCodec {
    /// No compression.
    #[default]
    None,
    /// One LZ4 frame. Java does not read it.
    Lz4,
    /// One Zstandard frame.
    Zstd,
}

impl PuffinCodec {
    /// Returns the name of the codec in footers, or `None` for no compression.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn named(name: Option<&str>) -> Option<Self> {
        match name.map(str::to_ascii_lowercase).as_deref() {
            None | Some("none" | "") => Some(Self::None),
            Some("lz4") => Some(Self::Lz4),
            Some("zstd") => Some(Self::Zstd),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
