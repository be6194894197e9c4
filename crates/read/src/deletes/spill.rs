//! Spills keys to disk, split by hash into partitions that are read back one after the other.
//!
//! Each partition is an unnamed temporary file: the operating system deletes it when it is closed. All functions here block the
//! thread.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use arrow::row::Rows;

use super::keys::hash;

/// A spilled key with two numbers: a delete's sequence number and 0, or a row's file index and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpilledKey {
    pub(super) key: Vec<u8>,
    pub(super) a: u64,
    pub(super) b: u64,
}

/// Partitions that are being written, each an unnamed temporary file.
pub(super) struct Partitions {
    files: Vec<BufWriter<File>>,
}

impl Partitions {
    /// Creates `n` partitions in a directory, which is created if needed.
    pub(super) fn create(dir: &Path, n: usize) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let files = (0..n).map(|_| Ok(BufWriter::with_capacity(64 << 10, tempfile::tempfile_in(dir)?)));
        Ok(Self { files: files.collect::<io::Result<_>>()? })
    }

    /// Appends a key to the partition that its hash chooses.
    fn write(&mut self, hash: u64, key: &[u8], a: u64, b: u64) -> io::Result<()> {
        // The high bits choose the partition, as the low bits place a key in the partition's table.
        let n = self.files.len() as u64;
        let file = &mut self.files[usize::try_from((hash >> 32) % n).unwrap_or(0)];
        let length = u32::try_from(key.len()).map_err(|_| io::Error::other("a key over 4 GiB"))?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(key)?;
        file.write_all(&a.to_le_bytes())?;
        file.write_all(&b.to_le_bytes())
    }

    /// Writes the keys of a batch. All get the number `a`; `b` is the first key's number and counts up.
    ///
    /// Takes the partitions and returns them, so that a thread that may block can write.
    pub(super) fn with_all(mut self, keys: &Rows, a: u64, b: u64) -> io::Result<Self> {
        keys.iter().zip(b..).try_for_each(|(key, b)| self.write(hash(key.data()), key.data(), a, b))?;
        Ok(self)
    }

    /// Ends the writing. Each partition can then be read once.
    pub(super) fn finish(self) -> io::Result<Vec<Partition>> {
        let finish = |file: BufWriter<File>| {
            let mut file = file.into_inner().map_err(|e| e.into_error())?;
            file.rewind()?;
            Ok(Partition { file: BufReader::with_capacity(1 << 20, file) })
        };
        self.files.into_iter().map(finish).collect()
    }
}

/// A partition that is being read.
pub(super) struct Partition {
    file: BufReader<File>,
}

impl Partition {
    /// Reads the next record into `record`; returns false at the end.
    pub(super) fn next(&mut self, record: &mut SpilledKey) -> io::Result<bool> {
        let mut length = [0; 4];
        match self.file.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        record.key.resize(u32::from_le_bytes(length) as usize, 0);
        self.file.read_exact(&mut record.key)?;
        let mut number = [0; 8];
        self.file.read_exact(&mut number)?;
        record.a = u64::from_le_bytes(number);
        self.file.read_exact(&mut number)?;
        record.b = u64::from_le_bytes(number);
        Ok(true)
    }
}
