//! Reading Puffin files.

use std::io::Read;

use bytes::Bytes;

use super::{MAGIC, PuffinBlob, PuffinCodec, PuffinMetadata};
use crate::avro::{budget, unzstd};
use crate::{FormatError, Result};

/// The bytes at a file's end that say how long its footer is: its length, flags, and the magic.
pub const PUFFIN_TAIL: u64 = 12;

const FOOTER: &str = "puffin footer";

fn bad(why: impl Into<String>) -> FormatError {
    FormatError::invalid(FOOTER, why)
}

/// How many bytes at the end of a file its footer takes, by the file's last bytes, at least [`PUFFIN_TAIL`] of them. A footer that would be
/// longer than the file is refused.
pub fn puffin_footer_length(tail: &[u8], file_length: u64) -> Result<u64> {
    let (_, last) = tail.split_last_chunk::<12>().ok_or_else(|| bad("it is cut"))?;
    let ([length @ .., _, _, _, _], magic) = last.split_at(8) else { return Err(bad("it is cut")) };
    if magic != MAGIC {
        return Err(bad("the file does not end as a puffin file"));
    }
    let length = <[u8; 4]>::try_from(length).map_or(-1, i32::from_le_bytes);
    let length = u64::try_from(length).map_err(|_| bad("its length is negative"))?;
    let whole = MAGIC.len() as u64 + length + PUFFIN_TAIL;
    // The file starts with a magic of its own.
    if whole + MAGIC.len() as u64 > file_length {
        return Err(bad(format!("it takes {whole} bytes of a file of {file_length}")));
    }
    Ok(whole)
}

/// What a footer says, of which all bytes are there, its magic at both ends among them. Blobs that reach beyond what is before the footer
/// are refused when they are read, not here.
pub fn read_puffin_footer(footer: &[u8]) -> Result<PuffinMetadata> {
    let whole = puffin_footer_length(footer, u64::MAX)?;
    if whole != footer.len() as u64 || !footer.starts_with(MAGIC) {
        return Err(bad(format!("it says that it takes {whole} bytes, not {}", footer.len())));
    }
    let (payload, tail) = footer[MAGIC.len()..].split_at(footer.len() - MAGIC.len() - PUFFIN_TAIL as usize);
    let payload = match tail[4..8] {
        [0, 0, 0, 0] => payload.into(),
        [1, 0, 0, 0] => decompressed(PuffinCodec::Lz4, payload).map_err(bad)?,
        _ => return Err(bad("it has flags that are not known")),
    };
    crate::json::read(FOOTER, &payload)
}

/// What the footer of a file says, of which all bytes are there.
pub fn read_puffin(file: &[u8]) -> Result<PuffinMetadata> {
    if !file.starts_with(MAGIC) {
        return Err(bad("the file does not start as a puffin file"));
    }
    let length = puffin_footer_length(file, file.len() as u64)?;
    // It is not longer than the file.
    read_puffin_footer(&file[file.len() - length as usize..])
}

impl PuffinBlob {
    /// The blob, out of its bytes in the file: those from [`PuffinBlob::offset`] on, as many as [`PuffinBlob::length`].
    pub fn decompress(&self, bytes: &Bytes) -> Result<Bytes> {
        let bad = |why: String| FormatError::invalid(format!("puffin blob {} at byte {}", self.blob_type, self.offset), why);
        if bytes.len() as u64 != self.length {
            return Err(bad(format!("it has {} bytes, not {}", self.length, bytes.len())));
        }
        let name = self.compression_codec.as_deref();
        let codec =
            PuffinCodec::named(name).ok_or_else(|| bad(format!("its codec is not supported: {}", name.unwrap_or_default())))?;
        match codec {
            PuffinCodec::None => Ok(bytes.clone()),
            codec => decompressed(codec, bytes).map(Into::into).map_err(bad),
        }
    }

    /// The blob, out of a file of which all bytes are there.
    pub fn of(&self, file: &Bytes) -> Result<Bytes> {
        let end = self.offset.checked_add(self.length).filter(|end| *end <= file.len() as u64);
        let end = end.ok_or_else(|| {
            FormatError::invalid(
                format!("puffin blob {} at byte {}", self.blob_type, self.offset),
                format!("it has {} bytes, which is more than the file", self.length),
            )
        })?;
        self.decompress(&file.slice(self.offset as usize..end as usize))
    }
}

fn decompressed(codec: PuffinCodec, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let most = budget(bytes.len());
    match codec {
        PuffinCodec::None => out.extend_from_slice(bytes),
        PuffinCodec::Zstd => unzstd(bytes, &mut out, most)?,
        PuffinCodec::Lz4 => {
            let decoder = lz4_flex::frame::FrameDecoder::new(bytes);
            let read = decoder.take(most as u64 + 1).read_to_end(&mut out).map_err(|error| error.to_string())?;
            if read > most {
                return Err(format!("its bytes are more than {most} when decompressed"));
            }
        }
    }
    Ok(out)
}
