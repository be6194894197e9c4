//! The format of a listing on local disk: records of a file each, in sequence.
//!
//! All of this blocks the calling thread, if not said otherwise.
//!
//! A record is the length of the location (4 bytes), the location, the size (8 bytes) and the time (8 bytes), little-endian.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use esker_types::Millis;

use crate::Result;

/// A file of a listing: its location, its size in bytes, and the time of its last write in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ListedFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ms: Millis,
}

impl From<esker_storage::ListedObject> for ListedFile {
    fn from(listed: esker_storage::ListedObject) -> Self {
        Self { path: listed.uri, bytes: listed.size, modified_ms: listed.modified_ms }
    }
}

/// A writer of a listing.
#[derive(Debug)]
pub(crate) struct SpoolWriter(BufWriter<File>);

impl SpoolWriter {
    pub(crate) fn new(file: File) -> Self {
        Self(BufWriter::new(file))
    }

    /// Appends a file.
    pub(crate) fn push(&mut self, file: &ListedFile) -> Result<()> {
        let length = u32::try_from(file.path.len()).map_err(std::io::Error::other)?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(file.path.as_bytes())?;
        self.0.write_all(&file.bytes.to_le_bytes())?;
        self.0.write_all(&file.modified_ms.to_le_bytes())?;
        Ok(())
    }

    /// Appends files, on a thread that may block.
    pub(crate) async fn push_all(mut self, files: Vec<ListedFile>) -> Result<Self> {
        tokio::task::spawn_blocking(move || {
            files.iter().try_for_each(|file| self.push(file))?;
            Ok(self)
        })
        .await?
    }

    /// Ends writing, and syncs the data to disk.
    pub(crate) fn finish(self) -> Result<()> {
        let file = self.0.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(file.sync_data()?)
    }
}

/// A reader of a listing.
#[derive(Debug)]
pub(crate) struct SpoolReader(BufReader<File>);

impl SpoolReader {
    pub(crate) fn new(file: File) -> Self {
        Self(BufReader::new(file))
    }

    /// Returns the next file; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<ListedFile>> {
        let reader = &mut self.0;
        if reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        let mut path = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut path)?;
        let path = String::from_utf8(path).map_err(std::io::Error::other)?;
        let (mut bytes, mut modified) = ([0; 8], [0; 8]);
        reader.read_exact(&mut bytes)?;
        reader.read_exact(&mut modified)?;
        Ok(Some(ListedFile { path, bytes: u64::from_le_bytes(bytes), modified_ms: Millis::from_le_bytes(modified) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("spool");
        let mut spool = SpoolWriter::new(File::create(&path).expect("created"));
        let file = |i: i64| ListedFile { path: format!("s3://é/{i}"), bytes: i.unsigned_abs() * 7, modified_ms: -i };
        (0..1000).for_each(|i| spool.push(&file(i)).expect("pushed"));
        spool.finish().expect("finished");
        let mut spool = SpoolReader::new(File::open(&path).expect("opened"));
        (0..1000).for_each(|i| assert_eq!(spool.next().expect("read"), Some(file(i))));
        assert_eq!(spool.next().expect("read"), None);
    }
}
