//! Statistics files and encryption keys that a table's metadata lists.
//!
//! Spec: "Table Statistics", "Partition Statistics", "Encryption Keys".

use std::collections::BTreeMap;

use crate::Extra;

/// A Puffin file with statistics of a snapshot.
///
/// Spec: "Table Statistics".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsFile {
    /// The id of the snapshot that the file belongs to.
    pub snapshot_id: i64,
    /// The location of the file.
    pub statistics_path: String,
    /// The size of the file, in bytes.
    pub file_size_in_bytes: i64,
    /// The size of the file's footer, in bytes.
    pub file_footer_size_in_bytes: i64,
    /// The metadata for decrypting the file, in Base64.
    pub key_metadata: Option<String>,
    /// The file's blobs, as its footer describes them.
    pub blob_metadata: Vec<BlobMetadata>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A blob of a statistics file, as the table's metadata describes it.
///
/// Spec: "Table Statistics".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMetadata {
    /// The type of the blob, such as `apache-datasketches-theta-v1`.
    pub blob_type: String,
    /// The id of the snapshot that the blob was computed from.
    pub snapshot_id: i64,
    /// The sequence number of that snapshot.
    pub sequence_number: i64,
    /// The ids of the fields that the blob describes.
    pub fields: Vec<i32>,
    /// The properties that the writer gave to the blob, such as `ndv`.
    pub properties: Option<BTreeMap<String, String>>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A file with statistics of a snapshot's partitions.
///
/// Spec: "Partition Statistics".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatisticsFile {
    /// The id of the snapshot that the file belongs to.
    pub snapshot_id: i64,
    /// The location of the file.
    pub statistics_path: String,
    /// The size of the file, in bytes.
    pub file_size_in_bytes: i64,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A key that encrypts other keys (format version 3).
///
/// Spec: "Encryption Keys".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedKey {
    /// The id of the key, unique within its table.
    pub key_id: String,
    /// The encrypted key and its metadata, in Base64.
    pub encrypted_key_metadata: String,
    /// The id of the key that encrypts this one.
    pub encrypted_by_id: Option<String>,
    /// The properties that the writer gave to the key.
    pub properties: Option<BTreeMap<String, String>>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}
