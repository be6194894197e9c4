//! What blocks of container files are compressed with.

use std::io::Read;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The most bytes that one byte of Snappy makes: a copy of 64 takes three.
const SNAPPY_RATIO: usize = 22;
/// The largest window of Zstandard that is taken, as a power of two: what its tools take unasked.
const ZSTD_WINDOW: u32 = 27;

/// How many bytes so many may be decompressed to: 16 MiB, and a hundred for each. Manifests are compressed to a twentieth; a file that claims
/// more must not take the memory of all others.
pub(crate) const fn budget(bytes: usize) -> usize {
    bytes.saturating_mul(100).saturating_add(16 << 20)
}

/// How blocks of a container file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AvroCodec {
    /// Not at all.
    Null,
    /// Deflate, which Iceberg's properties call `gzip`: what Java writes unless it is told otherwise.
    #[default]
    Deflate,
    /// Snappy, with a checksum.
    Snappy,
    /// Zstandard.
    Zstandard,
}

impl AvroCodec {
    /// As a file's header names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }

    /// As a file's header or a table's property `write.avro.compression-codec` names it.
    pub fn named(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        Some(match lower.as_str() {
            "null" | "uncompressed" | "" => Self::Null,
            "deflate" | "gzip" | "zlib" => Self::Deflate,
            "snappy" => Self::Snappy,
            "zstandard" | "zstd" => Self::Zstandard,
            _ => return None,
        })
    }

    /// The bytes that a block was made of, in `out`, which must be empty. More than `most` are refused.
    pub(super) fn decompress(self, block: &[u8], inflate: &mut Decompress, out: &mut Vec<u8>, most: usize) -> Result<(), String> {
        match self {
            Self::Null => out.extend_from_slice(block),
            Self::Deflate => inflated(block, inflate, out, most)?,
            Self::Snappy => unsnapped(block, out, most)?,
            Self::Zstandard => unzstd(block, out, most)?,
        }
        Ok(())
    }

    /// A block of bytes.
    pub(super) fn compress(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Null => out.extend_from_slice(bytes),
            Self::Deflate => deflated(bytes, out)?,
            Self::Snappy => {
                let made = snap::raw::Encoder::new().compress_vec(bytes).map_err(|error| error.to_string())?;
                out.extend_from_slice(&made);
                out.extend_from_slice(&crc32fast::hash(bytes).to_be_bytes());
            }
            Self::Zstandard => {
                out.extend_from_slice(&zstd::bulk::compress(bytes, 0).map_err(|error| error.to_string())?);
            }
        }
        Ok(())
    }
}

fn inflated(block: &[u8], inflate: &mut Decompress, out: &mut Vec<u8>, most: usize) -> Result<(), String> {
    inflate.reset(false);
    out.reserve(block.len().saturating_mul(4).clamp(1024, most.max(1024)));
    loop {
        if out.len() == out.capacity() {
            if out.len() >= most {
                return Err(too_large(most));
            }
            out.reserve(out.len().max(1024));
        }
        let (read, made) = (inflate.total_in(), out.len());
        let rest = block.get(read as usize..).unwrap_or_default();
        let status = inflate.decompress_vec(rest, out, FlushDecompress::None).map_err(|error| error.to_string())?;
        match status {
            Status::StreamEnd => return Ok(()),
            // There is room, so that no progress means that the stream goes on but the block does not.
            _ if inflate.total_in() == read && out.len() == made => return Err("its deflated bytes end early".to_owned()),
            _ => {}
        }
    }
}

fn deflated(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut deflate = Compress::new(Compression::default(), false);
    loop {
        out.reserve((bytes.len() / 4).max(1024));
        let rest = bytes.get(deflate.total_in() as usize..).unwrap_or_default();
        match deflate.compress_vec(rest, out, FlushCompress::Finish).map_err(|error| error.to_string())? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => {}
        }
    }
}

fn unsnapped(block: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), String> {
    let (block, sum) = block.split_last_chunk::<4>().ok_or("its checksum is missing")?;
    let length = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
    if length > most {
        return Err(too_large(most));
    }
    if length > block.len().saturating_mul(SNAPPY_RATIO) {
        return Err(format!("{} bytes of snappy can't make {length}", block.len()));
    }
    out.resize(length, 0);
    snap::raw::Decoder::new().decompress(block, out).map_err(|error| error.to_string())?;
    if crc32fast::hash(out) != u32::from_be_bytes(*sum) {
        return Err("its checksum is another".to_owned());
    }
    Ok(())
}

/// Zstandard's frames, up to so many bytes.
pub(crate) fn unzstd(block: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(block).map_err(text)?;
    decoder.window_log_max(ZSTD_WINDOW).map_err(text)?;
    let read = decoder.take(most as u64 + 1).read_to_end(out).map_err(text)?;
    if read > most { Err(too_large(most)) } else { Ok(()) }
}

fn too_large(most: usize) -> String {
    format!("its bytes are more than {most} when decompressed")
}
