//! Reader of Puffin files. The footer is at the end, so a reader fetches the tail first, then the footer, then blobs.
//!
//! Spec: Puffin specification, "Footer structure".

use std::io::Read;

use bytes::Bytes;

use super::{MAGIC, PuffinBlob, PuffinCodec, PuffinMetadata};
use crate::avro::{max_decompressed_size, unzstd};
use crate::{FormatError, Result};

/// The number of bytes at the end of a file that give the footer's length: length, flags and magic bytes.
pub const PUFFIN_TAIL: u64 = 12;

const FOOTER: &str = "puffin footer";

fn bad(why: impl Into<String>) -> FormatError {
    FormatError::invalid(FOOTER, why)
}

/// Returns the length of a file's footer in bytes, magic bytes included.
///
/// `tail` has the last bytes of the file, at least [`PUFFIN_TAIL`] of them.
///
/// # Errors
///
/// Returns [`Invalid`](FormatError::Invalid) if `tail` is too short or does not end with the magic bytes, or if the footer's length
/// is negative or does not fit into `file_length` bytes.
pub fn puffin_footer_length(tail: &[u8], file_length: u64) -> Result<u64> {
    let (_, last) = tail.split_last_chunk::<12>().ok_or_else(|| bad("it is truncated"))?;
    let ([length @ .., _, _, _, _], magic) = last.split_at(8) else { return Err(bad("it is truncated")) };
    if magic != MAGIC {
        return Err(bad("the file does not end as a Puffin file: the magic bytes are missing"));
    }
    let length = <[u8; 4]>::try_from(length).map_or(-1, i32::from_le_bytes);
    let length = u64::try_from(length).map_err(|_| bad("its length is negative"))?;
    let whole = MAGIC.len() as u64 + length + PUFFIN_TAIL;
    // The file starts with magic bytes too.
    if whole + MAGIC.len() as u64 > file_length {
        return Err(bad(format!("it claims {whole} bytes, but the file has {file_length}")));
    }
    Ok(whole)
}

/// Parses a footer, given with the magic bytes at both ends. Blobs that reach beyond the file are reported when they are read, not
/// here.
///
/// # Errors
///
/// Returns [`Invalid`](FormatError::Invalid) if the footer has another length than it claims, lacks its magic bytes, has unknown
/// flags, cannot be decompressed, or decompresses to too many bytes. Returns [`Json`](FormatError::Json) if its JSON is invalid or
/// lacks a field.
pub fn read_puffin_footer(footer: &[u8]) -> Result<PuffinMetadata> {
    let whole = puffin_footer_length(footer, u64::MAX)?;
    if whole != footer.len() as u64 || !footer.starts_with(MAGIC) {
        return Err(bad(format!("it claims {whole} bytes, but has {}", footer.len())));
    }
    let (payload, tail) = footer[MAGIC.len()..].split_at(footer.len() - MAGIC.len() - PUFFIN_TAIL as usize);
    let payload = match tail[4..8] {
        [0, 0, 0, 0] => payload.into(),
        [1, 0, 0, 0] => decompressed(PuffinCodec::Lz4, payload).map_err(bad)?,
        _ => return Err(bad("it has unknown flags")),
    };
    crate::json::read(FOOTER, &payload)
}

/// Parses the footer of a file whose bytes are all in memory.
///
/// # Errors
///
/// Returns [`Invalid`](FormatError::Invalid) if the file does not start with the magic bytes, and what [`puffin_footer_length`] and
/// [`read_puffin_footer`] return.
pub fn read_puffin(file: &[u8]) -> Result<PuffinMetadata> {
    if !file.starts_with(MAGIC) {
        return Err(bad("the file does not start as a Puffin file: the magic bytes are missing"));
    }
    let length = puffin_footer_length(file, file.len() as u64)?;
    // The length was checked to be within the file.
    read_puffin_footer(&file[file.len() - length as usize..])
}

impl PuffinBlob {
    /// Decompresses the blob. `bytes` are the [`PuffinBlob::length`] bytes of the file from [`PuffinBlob::offset`] on.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if `bytes` has another length, the codec is unknown, or the blob cannot be
    /// decompressed or decompresses to too many bytes.
    pub fn decompress(&self, bytes: &Bytes) -> Result<Bytes> {
        let bad = |why: String| FormatError::invalid(format!("puffin blob {} at byte {}", self.blob_type, self.offset), why);
        if bytes.len() as u64 != self.length {
            return Err(bad(format!("it has {}, not {}", esker_types::format_count(self.length, "byte"), bytes.len())));
        }
        let name = self.compression_codec.as_deref();
        let codec =
            PuffinCodec::named(name).ok_or_else(|| bad(format!("its codec is not supported: {}", name.unwrap_or_default())))?;
        match codec {
            PuffinCodec::None => Ok(bytes.clone()),
            codec => decompressed(codec, bytes).map(Into::into).map_err(bad),
        }
    }

    /// Decompresses the blob out of a file whose bytes are all in memory.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if the blob reaches beyond the file, and what [`Self::decompress`] returns.
    pub fn of(&self, file: &Bytes) -> Result<Bytes> {
        let end = self.offset.checked_add(self.length).filter(|end| *end <= file.len() as u64);
        let end = end.ok_or_else(|| {
            FormatError::invalid(
                format!("puffin blob {} at byte {}", self.blob_type, self.offset),
                format!("its end, at byte {}, is beyond the end of the file", self.offset.saturating_add(self.length)),
            )
        })?;
        self.decompress(&file.slice(self.offset as usize..end as usize))
    }
}

fn decompressed(codec: PuffinCodec, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let most = max_decompressed_size(bytes.len());
    match codec {
        PuffinCodec::None => out.extend_from_slice(bytes),
        PuffinCodec::Zstd => unzstd(bytes, &mut out, most)?,
        PuffinCodec::Lz4 => {
            let decoder = lz4_flex::frame::FrameDecoder::new(bytes);
            let read = decoder.take(most as u64 + 1).read_to_end(&mut out).map_err(|error| error.to_string())?;
            if read > most {
                return Err(format!("it decompresses to more than {most} bytes"));
            }
        }
    }
    Ok(out)
}
