//! Puffin files: statistics and deletion vectors, each a blob, and a footer that says where they are (Puffin specification).

mod read;
mod write;

use std::collections::BTreeMap;

pub use read::{PUFFIN_TAIL, puffin_footer_length, read_puffin, read_puffin_footer};
pub use write::{NewBlob, PuffinWriter};

use crate::Extra;

/// The first bytes of a file, and the first and the last of its footer.
const MAGIC: &[u8; 4] = b"PFA1";

/// What a file's footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuffinMetadata {
    /// The blobs.
    pub blobs: Vec<PuffinBlob>,
    /// What its writer says of the file, as `created-by`.
    pub properties: Option<BTreeMap<String, String>>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// What a footer says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuffinBlob {
    /// What kind of blob it is.
    pub blob_type: String,
    /// The fields that it is about.
    pub fields: Vec<i32>,
    /// The snapshot that it was worked out from; -1 of a deletion vector.
    pub snapshot_id: i64,
    /// That snapshot's sequence number; -1 of a deletion vector.
    pub sequence_number: i64,
    /// The byte of the file at which it starts.
    pub offset: u64,
    /// Its bytes, as they are in the file.
    pub length: u64,
    /// How it is compressed; not at all if there is none.
    pub compression_codec: Option<String>,
    /// What its writer says of it.
    pub properties: Option<BTreeMap<String, String>>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// How a blob is compressed (Puffin specification, "Compression codecs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PuffinCodec {
    /// Not at all.
    #[default]
    None,
    /// One LZ4 frame. Java does not read it.
    Lz4,
    /// One Zstandard frame.
    Zstd,
}

impl PuffinCodec {
    /// As footers name it; none for what is not compressed.
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
