//! Statistics files that a table's metadata names.

use std::collections::BTreeMap;

use crate::Extra;

/// A Puffin file with statistics of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsFile {
    /// The snapshot.
    pub snapshot_id: i64,
    /// The file.
    pub statistics_path: String,
    /// Its bytes.
    pub file_size_in_bytes: i64,
    /// The bytes of its footer.
    pub file_footer_size_in_bytes: i64,
    /// What it needs to be decrypted.
    pub key_metadata: Option<String>,
    /// What is in it.
    pub blob_metadata: Vec<BlobMetadata>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A part of a Puffin file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMetadata {
    /// What kind of statistics it is.
    pub blob_type: String,
    /// The snapshot that it was worked out from.
    pub snapshot_id: i64,
    /// That snapshot's sequence number.
    pub sequence_number: i64,
    /// The fields that it is about.
    pub fields: Vec<i32>,
    /// What its writer says of it.
    pub properties: Option<BTreeMap<String, String>>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A file with statistics of a snapshot's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatisticsFile {
    /// The snapshot.
    pub snapshot_id: i64,
    /// The file.
    pub statistics_path: String,
    /// Its bytes.
    pub file_size_in_bytes: i64,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A key with which others are encrypted (version 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedKey {
    /// What identifies it.
    pub key_id: String,
    /// The key, encrypted, in Base64.
    pub encrypted_key_metadata: String,
    /// The key that it is encrypted with.
    pub encrypted_by_id: Option<String>,
    /// What its writer says of it.
    pub properties: Option<BTreeMap<String, String>>,
    /// What else its JSON says.
    pub extra: Extra,
}
