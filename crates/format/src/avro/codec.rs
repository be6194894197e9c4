//! Compression of the blocks of container files, with a bound on decompressed sizes.

use std::io::Read;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The most bytes that one byte of Snappy can decompress to: a copy of 64 bytes takes three.
const SNAPPY_RATIO: usize = 22;
/// The largest accepted window of Zstandard, as a power of two: the limit of its tools without `--long`.
const ZSTD_WINDOW: u32 = 27;

/// Returns the number of bytes that `bytes` compressed bytes may decompress to: 16 MiB, plus a hundred for each of them.
///
/// Manifests compress to about a twentieth. A file that claims more must not exhaust the memory of other requests.
pub(crate) const fn max_decompressed_size(bytes: usize) -> usize {
    bytes.saturating_mul(100).saturating_add(16 << 20)
}

/// The codec that compresses the blocks of a container file.
///
/// Spec: Avro specification, "Required Codecs", "Optional Codecs".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AvroCodec {
    /// No compression.
    Null,
    /// Deflate, which Iceberg's properties call `gzip`. Java's default.
    #[default]
    Deflate,
    /// Snappy, with a CRC-32 checksum after each block.
    Snappy,
    /// Zstandard.
    Zstandard,
}

impl AvroCodec {
    /// Returns the name of the codec in a file's header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }

    /// Returns the codec for its name in a file's header or in the table property `write.avro.compression-codec`. Returns `None` if
    /// the name is unknown.
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

    /// Decompresses a block into `out`, which must be empty. Fails if the result has more than `most` bytes.
    pub(super) fn decompress(self, block: &[u8], inflate: &mut Decompress, out: &mut Vec<u8>, most: usize) -> Result<(), String> {
        match self {
            Self::Null => out.extend_from_slice(block),
            Self::Deflate => inflated(block, inflate, out, most)?,
            Self::Snappy => unsnapped(block, out, most)?,
            Self::Zstandard => unzstd(block, out, most)?,
        }
        Ok(())
    }

    /// Compresses `bytes` and appends the block to `out`.
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
            // There is room for output. So no progress means that the block ends before the stream does.
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
        return Err(format!("{} bytes of snappy can't decompress to {length} bytes", block.len()));
    }
    out.resize(length, 0);
    snap::raw::Decoder::new().decompress(block, out).map_err(|error| error.to_string())?;
    if crc32fast::hash(out) != u32::from_be_bytes(*sum) {
        return Err("its checksum does not match".to_owned());
    }
    Ok(())
}

/// Decompresses Zstandard frames into `out`. Fails if the result has more than `most` bytes.
pub(crate) fn unzstd(block: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(block).map_err(text)?;
    decoder.window_log_max(ZSTD_WINDOW).map_err(text)?;
    let read = decoder.take(most as u64 + 1).read_to_end(out).map_err(text)?;
    if read > most { Err(too_large(most)) } else { Ok(()) }
}

fn too_large(most: usize) -> String {
    format!("it decompresses to more than {most} bytes")
}
