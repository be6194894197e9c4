//! Deletion vectors: the blob `deletion-vector-v1` and the Puffin file that contains it.
//!
//! A blob is the length (big-endian), a magic number, a 64-bit Roaring bitmap of row positions, and a CRC-32 (big-endian).
//! Spec: Puffin specification, "Blob types" and "File structure".

use esker_format::{DataContentType, DataFile, DataFileFormat, TableMetadata, Tuple};
use roaring::RoaringTreemap;
use serde_json::json;
use uuid::Uuid;

use crate::{Result, TableError, data_dir};

/// The magic number of a deletion vector's blob.
const DV_MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];
/// The magic number of a Puffin file.
const PUFFIN_MAGIC: &[u8; 4] = b"PFA1";
/// The field that a deletion vector is computed from: the position of a row in its file.
///
/// Spec: "Reserved Field IDs".
const ROW_POSITION: i32 = 2_147_483_545;

/// Encodes deleted row positions as a blob of type `deletion-vector-v1`.
///
/// Spec: Puffin specification, "`deletion-vector-v1` blob type".
///
/// # Errors
///
/// Returns [`TableError::Invalid`] if the bitmap cannot be serialized, and [`TableError::Unsupported`] if the blob exceeds 4 GiB.
pub fn encode_vector(positions: &RoaringTreemap) -> Result<Vec<u8>> {
    let mut vector = DV_MAGIC.to_vec();
    positions.serialize_into(&mut vector).map_err(|e| TableError::Invalid(format!("deletion vector can't be encoded: {e}")))?;
    let length = u32::try_from(vector.len()).map_err(|_| TableError::Unsupported("a deletion vector over 4 GiB".to_owned()))?;
    let mut blob = Vec::with_capacity(vector.len() + 8);
    blob.extend(length.to_be_bytes());
    blob.extend(&vector);
    blob.extend(crc32fast::hash(&vector).to_be_bytes());
    Ok(blob)
}

/// Decodes a blob of type `deletion-vector-v1` into the deleted row positions.
///
/// Spec: Puffin specification, "`deletion-vector-v1` blob type".
///
/// # Errors
///
/// Returns [`TableError::Invalid`] if the length, the magic number or the checksum is missing or wrong, or if the bitmap cannot be
/// decoded.
pub fn decode_vector(blob: &[u8]) -> Result<RoaringTreemap> {
    let bad = |what: &str| TableError::Invalid(format!("a deletion vector with {what}"));
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(|| bad("no length"))?;
    let (vector, crc) = rest.split_last_chunk::<4>().ok_or_else(|| bad("no checksum"))?;
    if u32::from_be_bytes(*length) as usize != vector.len() {
        return Err(bad("a wrong length"));
    }
    if u32::from_be_bytes(*crc) != crc32fast::hash(vector) {
        return Err(bad("a wrong checksum"));
    }
    let bitmap = vector.strip_prefix(&DV_MAGIC).ok_or_else(|| bad("a wrong magic number"))?;
    RoaringTreemap::deserialize_from(bitmap).map_err(|e| bad(&format!("a bitmap that can't be read: {e}")))
}

/// The position of a blob in its file: offset and length, in bytes.
pub type BlobRange = (u64, u64);

/// Encodes deletion vectors as one Puffin file. Each comes with the location of its data file.
///
/// Returns the file's bytes, and the position of each blob in the order of `vectors`.
///
/// Spec: Puffin specification, "File structure".
///
/// # Errors
///
/// Returns [`TableError::Invalid`] if a bitmap cannot be serialized, and [`TableError::Unsupported`] if a blob or the footer
/// exceeds 4 GiB.
pub fn encode_puffin(vectors: &[(String, RoaringTreemap)]) -> Result<(Vec<u8>, Vec<BlobRange>)> {
    let mut file = PUFFIN_MAGIC.to_vec();
    let mut places = Vec::with_capacity(vectors.len());
    let mut blobs = Vec::with_capacity(vectors.len());
    for (path, positions) in vectors {
        let blob = encode_vector(positions)?;
        let place = (file.len() as u64, blob.len() as u64);
        blobs.push(json!({
            "type": "deletion-vector-v1", "fields": [ROW_POSITION], "snapshot-id": -1, "sequence-number": -1,
            "offset": place.0, "length": place.1,
            "properties": {"referenced-data-file": path, "cardinality": positions.len().to_string()},
        }));
        file.extend(blob);
        places.push(place);
    }
    let created_by = concat!("esker ", env!("CARGO_PKG_VERSION"));
    let footer = json!({"blobs": blobs, "properties": {"created-by": created_by}}).to_string();
    let footer_length =
        u32::try_from(footer.len()).map_err(|_| TableError::Unsupported("a Puffin footer over 4 GiB".to_owned()))?;
    file.extend(PUFFIN_MAGIC);
    file.extend(footer.as_bytes());
    file.extend(footer_length.to_le_bytes());
    file.extend([0; 4]);
    file.extend(PUFFIN_MAGIC);
    Ok((file, places))
}

/// Rows to delete from one data file.
#[derive(Debug, Clone)]
pub struct RowsToDelete {
    /// The location of the data file.
    pub path: String,
    /// The id of the data file's partition spec.
    pub spec_id: i32,
    /// The partition of the data file.
    pub partition: Tuple,
    /// The positions in the data file of the rows to delete, counted from 0.
    pub positions: RoaringTreemap,
}

/// Chooses a fresh location for a file of deletion vectors of a table.
pub fn vector_file_path(metadata: &TableMetadata) -> String {
    format!("{}/{}-deletes.puffin", data_dir(metadata), Uuid::now_v7())
}

/// The bytes of a Puffin file, and the manifest entries of its vectors with the ids of their partition specs.
pub(crate) type EncodedVectors = (Vec<u8>, Vec<(i32, DataFile)>);

/// Encodes one deletion vector for each data file, as one Puffin file that will have the location `path`.
///
/// Spec: "Deletion Vectors".
///
/// # Errors
///
/// Returns the errors of [`encode_puffin`].
pub fn encode_vector_file(path: &str, to_delete: Vec<RowsToDelete>) -> Result<EncodedVectors> {
    let vectors: Vec<(String, RoaringTreemap)> = to_delete.iter().map(|d| (d.path.clone(), d.positions.clone())).collect();
    let (bytes, places) = encode_puffin(&vectors)?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let size = number(bytes.len() as u64);
    let vector = |(d, (offset, length)): (RowsToDelete, BlobRange)| {
        let (content, format) = (DataContentType::PositionDeletes, DataFileFormat::Puffin);
        let vector = DataFile {
            partition: d.partition,
            referenced_data_file: Some(d.path),
            content_offset: Some(number(offset)),
            content_size_in_bytes: Some(number(length)),
            ..DataFile::new(content, path, format, number(d.positions.len()), size)
        };
        (d.spec_id, vector)
    };
    Ok((bytes, to_delete.into_iter().zip(places).map(vector).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_vector_survives_and_a_flipped_bit_does_not(
            positions in proptest::collection::btree_set(0_u64..(1 << 34), 0..200),
            flip in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let positions: RoaringTreemap = positions.into_iter().collect();
            let blob = encode_vector(&positions).expect("encoded");
            proptest::prop_assert_eq!(&decode_vector(&blob).expect("decoded"), &positions);
            let mut damaged = blob.clone();
            let at = flip.index(blob.len() * 8);
            damaged[at / 8] ^= 1 << (at % 8);
            proptest::prop_assert!(decode_vector(&damaged).is_err());
        }
    }

    /// Compares with an example of the reference implementation's tests. A blob without positions has a magic number, an empty map
    /// and a checksum.
    #[test]
    fn the_layout_is_the_specification_s() {
        let blob = encode_vector(&RoaringTreemap::from_iter([1_u64, 3])).expect("encoded");
        assert_eq!(u32::from_be_bytes([blob[0], blob[1], blob[2], blob[3]]) as usize, blob.len() - 8);
        assert_eq!(&blob[4..8], &DV_MAGIC);
        assert_eq!(u64::from_le_bytes(blob[8..16].try_into().expect("eight bytes")), 1, "one bitmap of 32-bit positions");
        let (file, places) = encode_puffin(&[("f".to_owned(), RoaringTreemap::from_iter([7_u64]))]).expect("a file");
        let (at, len) = (places[0].0 as usize, places[0].1 as usize);
        assert_eq!(decode_vector(&file[at..at + len]).expect("decoded").len(), 1);
        assert!(file.starts_with(b"PFA1") && file.ends_with(b"PFA1"));
    }
}
